#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "protocols/wire/codec.hpp"
#include "runtime/base/assert.hpp"
#include "runtime/cluster/json_text.hpp"
#include "runtime/cluster/key_reader.hpp"

/// What a program writes its `message_text` with: the names of its messages' fields, and the variant of the messages.
namespace troupe::cluster {

/// How people call the fields of a message or of a part of one: in wire order, as they are declared. C++ cannot tell
/// the names; a message without them does not compile where one is read from text.
template <class Message>
struct field_names_of;
template <class Message>
inline constexpr const auto& field_names = field_names_of<Message>::value;

/// In namespace troupe::cluster: TROUPE_FIELD_NAMES(protocols::ack, "request");
#define TROUPE_FIELD_NAMES(message, ...)                                                                               \
  template <>                                                                                                          \
  struct field_names_of<message> {                                                                                     \
    static constexpr auto value = std::to_array<std::string_view>({__VA_ARGS__});                                      \
  }

/// Walks a message's fields as the codec does, and takes each from the next element of a list, or from the member of an
/// object that has its name.
class field_reader {
public:
  field_reader(const json_node& from, std::span<const std::string_view> names) : from_(from), names_(names) {
    if (from.kind == json_kind::object)
      validate_members();
    else if (from.kind != json_kind::list)
      problem_ = fmt::format("a message's fields are a list or an object, not {}", describe(from));
  }

  template <class... Fields>
  void required(Fields&... values) {
    (take(values, true), ...);
  }
  template <class... Fields>
  void appended(Fields&... values) {
    (take(values, false), ...);
  }

  /// After the walk. Empty when all is well.
  std::string verdict() const {
    TROUPE_ASSERT("every field has a name", next_ == names_.size());
    if (problem_.empty() && from_.kind == json_kind::list && next_ < from_.elements.size())
      return fmt::format("{} fields, not {}", next_, from_.elements.size());
    return problem_;
  }

private:
  void validate_members() {
    for (auto member = from_.members.begin(); member != from_.members.end() && problem_.empty(); ++member) {
      if (std::ranges::find(names_, member->key) == names_.end())
        problem_ =
            fmt::format("unknown field '{}'{}", member->key, nearest_hint(member->key, {names_.begin(), names_.end()}));
      else if (std::find_if(from_.members.begin(), member, [&](const auto& each) { return each.key == member->key; }) !=
               member)
        problem_ = fmt::format("field '{}' is written twice", member->key);
    }
  }

  /// "field 2", or "field 'room'" of an object.
  std::string called(std::size_t place) const {
    return from_.kind == json_kind::object ? fmt::format("field '{}'", names_[place])
                                           : fmt::format("field {}", place + 1);
  }

  const json_node* find(std::size_t place) const {
    if (from_.kind != json_kind::object)
      return place < from_.elements.size() ? &from_.elements[place] : nullptr;
    const auto found = std::ranges::find(from_.members, names_[place], &json_member::key);
    return found == from_.members.end() ? nullptr : &found->value;
  }

  template <class T>
  void take(T& value, bool required) {
    const auto place = next_++;
    if (!problem_.empty() || place >= names_.size())
      return;
    if (const auto* const node = find(place))
      read(*node, value, called(place));
    else if (required)
      problem_ = called(place) + " is missing";
  }

  void wrong(const json_node& node, const std::string& what, std::string_view expected) {
    if (problem_.empty())
      problem_ = fmt::format("{} is {}, not {}", what, expected, describe(node));
  }

  template <class T>
  void read_number(const json_node& node, T& value, const std::string& what) {
    const auto* const end = node.text.data() + node.text.size();
    const bool is_number = node.kind == json_kind::whole || node.kind == json_kind::real;
    if (const auto got = std::from_chars(node.text.data(), end, value);
        !is_number || got.ec != std::errc{} || got.ptr != end)
      wrong(node, what, "a number that fits");
  }

  template <class T>
  void read(const json_node& node, T& value, const std::string& what) {
    if constexpr (std::is_same_v<T, bool>) {
      node.kind == json_kind::truth ? void(value = node.truth) : wrong(node, what, "true or false");
    } else if constexpr (std::is_same_v<T, std::string>) {
      node.kind == json_kind::text ? void(value = node.text) : wrong(node, what, "a text");
    } else if constexpr (std::is_enum_v<T>) {
      std::underlying_type_t<T> number{};
      read_number(node, number, what);
      value = static_cast<T>(number); // what has no meaning is for the receiver to find
    } else if constexpr (std::is_arithmetic_v<T>) {
      read_number(node, value, what);
    } else if constexpr (protocols::detail::is_strong_id<T>::value) {
      read_number(node, value.value, what);
    } else if constexpr (protocols::detail::is_vector<T>::value || protocols::detail::is_array<T>::value) {
      if (node.kind != json_kind::list)
        return wrong(node, what, "a list");
      if constexpr (protocols::detail::is_vector<T>::value)
        value.resize(node.elements.size());
      if (value.size() != node.elements.size())
        return wrong(node, what, fmt::format("a list of {}", value.size()));
      for (std::size_t i = 0; i < value.size(); ++i)
        read(node.elements[i], value[i], what);
    } else {
      field_reader part{node, field_names<T>};
      T::fields(value, part);
      if (const auto problem = part.verdict(); !problem.empty() && problem_.empty())
        problem_ = fmt::format("in {}: {}", what, problem);
    }
  }

  const json_node& from_;
  std::span<const std::string_view> names_;
  std::size_t next_ = 0;
  std::string problem_;
};

/// The payload of the message of `Any` that has this type. Nothing: none has.
template <class... Messages>
protocols::result<std::optional<std::vector<std::byte>>>
payload_of_fields(protocols::message_type type, const json_node& fields, std::variant<Messages...>*) {
  std::optional<std::vector<std::byte>> bytes;
  std::string problem;
  const auto encode_as = [&]<class Message>(Message message) {
    field_reader reader{fields, field_names<Message>};
    Message::fields(message, reader);
    problem = reader.verdict();
    if (problem.empty())
      protocols::encode_payload(message, bytes.emplace());
    return true;
  };
  const bool known = ((Messages::type == type && encode_as(Messages{})) || ...);
  if (known && !problem.empty())
    return protocols::fail(protocols::fault::invalid_request, fmt::format("{}: {}", protocols::name(type), problem));
  return bytes;
}

} // namespace troupe::cluster
