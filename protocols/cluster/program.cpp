#include "protocols/cluster/program.hpp"

#include <algorithm>
#include <string>

#include "protocols/invariant.hpp"
#include "protocols/programs.hpp"

namespace troupe::protocols {

namespace {

constexpr role_row stub_row{.role = role_kind::stub, .name = "stub", .does = "Joins, agrees, idles", .jobs = {}};

std::vector<const program*>& registered() {
  static std::vector<const program*> all{built_in_programs().begin(), built_in_programs().end()};
  return all;
}

} // namespace

std::string_view name(role_kind role) noexcept {
  if (role == role_kind::stub)
    return stub_row.name;
  for (const auto* const each : programs())
    if (const auto* const row = each->find(role))
      return row->name;
  return "unknown";
}

const role_row* program::find(role_kind role) const noexcept {
  const auto found = std::ranges::find(roles, role, &role_row::role);
  return found == roles.end() ? nullptr : &*found;
}

const role_row& program::row(role_kind role) const {
  const auto* const found = find(role);
  return found == nullptr ? stub_row : *found;
}

std::span<const program* const> programs() noexcept {
  return registered();
}

const program* find_program(std::string_view name) noexcept {
  const auto all = programs();
  const auto found = std::ranges::find(all, name, [](const program* each) { return each->name; });
  return found == all.end() ? nullptr : *found;
}

result<void> add_program(const program& added) {
  const auto taken = [&](const std::string& what) {
    return fail(fault::config_invalid,
                "program \"" + std::string{added.name} + "\": " + what + " is another program's");
  };
  if (find_program(added.name) != nullptr)
    return taken("its name");
  for (const auto& row : added.roles) {
    if (static_cast<std::size_t>(row.role) >= roles_max)
      return fail(fault::config_invalid, "program \"" + std::string{added.name} + "\": role " + std::string{row.name} +
                                             " has a number of " + std::to_string(roles_max) + " or more");
    if (name(row.role) != "unknown")
      return taken("the number of role " + std::string{row.name});
  }
  for (const auto& row : added.messages) {
    if (static_cast<std::size_t>(row.type) >= message_types_max)
      return fail(fault::config_invalid, "program \"" + std::string{added.name} + "\": message " +
                                             std::string{row.name} + " has a number of " +
                                             std::to_string(message_types_max) + " or more");
    if (is_known(row.type))
      return taken("the number of message " + std::string{row.name});
  }
  add_message_names(added.messages);
  registered().push_back(&added);
  return {};
}

std::string program_names() {
  std::string names;
  for (const auto* const each : programs())
    names += (names.empty() ? "" : ", ") + std::string{each->name};
  return names;
}

} // namespace troupe::protocols
