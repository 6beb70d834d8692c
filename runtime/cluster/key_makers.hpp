#pragma once

#include <algorithm>
#include <tuple>
#include <type_traits>
#include <utility>

#include "runtime/base/assert.hpp"
#include "runtime/cluster/spec_keys.hpp"

/// The lines of a table of keys. `field` names the member, const or not:
/// [](auto&& spec) -> auto& { return spec.limits.batch_max; }, which TROUPE_FIELD(limits.batch_max) writes.
namespace troupe::cluster {

template <class Owner, class Field>
spec_key<Owner> entry(std::string_view name, std::string_view description, Field field) {
  using field_t = std::remove_cvref_t<decltype(field(std::declval<Owner&>()))>;
  using value_t =
      std::conditional_t<std::is_same_v<field_t, bool> || std::is_same_v<field_t, std::string>, field_t, std::uint64_t>;
  spec_key<Owner> key;
  key.name = name;
  key.description = description;
  key.initial = spec_value{static_cast<value_t>(field(Owner{}))};
  key.set = [field](Owner& owner, const spec_value& value) {
    field(owner) = static_cast<field_t>(std::get<value_t>(value));
  };
  key.get = [field](const Owner& owner) { return spec_value{static_cast<value_t>(field(owner))}; };
  return key;
}

template <class Owner, class Field>
spec_key<Owner> whole(std::string_view name, std::pair<std::uint64_t, std::uint64_t> range,
                      std::string_view description, Field field) {
  auto key = entry<Owner>(name, description, field);
  std::tie(key.least, key.most) = range;
  return key;
}

template <class Owner, class Field>
spec_key<Owner> choice(std::string_view name, std::vector<std::string_view> choices, std::string_view description,
                       Field field) {
  auto key = entry<Owner>(name, description, field);
  key.choices = std::move(choices);
  return key;
}

/// A choice whose field is an enum.
template <class Owner, class Enum, class Field>
spec_key<Owner> named(std::string_view name, std::vector<std::pair<std::string_view, Enum>> names,
                      std::string_view description, Field field) {
  const auto name_of = [names](Enum value) {
    const auto found = std::ranges::find(names, value, [](const auto& pair) { return pair.second; });
    TROUPE_ASSERT("spec table", found != names.end());
    return std::string{found->first};
  };
  spec_key<Owner> key;
  key.name = name;
  key.description = description;
  key.initial = spec_value{name_of(field(Owner{}))};
  for (const auto& pair : names)
    key.choices.push_back(pair.first);
  key.set = [names, field](Owner& owner, const spec_value& value) {
    const auto& wanted = std::get<std::string>(value);
    const auto found = std::ranges::find(names, wanted, [](const auto& pair) { return pair.first; });
    TROUPE_ASSERT("spec table", found != names.end());
    field(owner) = found->second;
  };
  key.get = [name_of, field](const Owner& owner) { return spec_value{name_of(field(owner))}; };
  return key;
}

template <class Owner>
spec_key<Owner> required(spec_key<Owner> key) {
  key.required = true;
  return key;
}

} // namespace troupe::cluster

#define TROUPE_FIELD(path)                                                                                             \
  [](auto&& owner) -> auto& {                                                                                          \
    return owner.path;                                                                                                 \
  }
