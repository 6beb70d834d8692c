#include "protocols/cluster/program.hpp"

#include <algorithm>
#include <string>

#include "protocols/invariant.hpp"
#include "protocols/programs.hpp"

namespace troupe::protocols {

namespace {

constexpr role_row stub_row{.role = role_kind::stub, .name = "stub", .jobs = {}};

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

std::uint64_t program::setting(const cluster_spec& spec, std::string_view setting) const {
  const auto row = std::ranges::find(settings, setting, &setting_row::name);
  TROUPE_ASSERT("setting", row != settings.end());
  const auto written = spec.settings.find(std::string{name} + '.' + std::string{setting});
  return written == spec.settings.end() ? row->initial : written->second;
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
  const auto refuse = [&](const std::string& why) {
    return fail(fault::config_invalid, "program \"" + std::string{added.name} + "\": " + why);
  };
  const auto check_number = [&](const std::string& whose, std::size_t number, std::size_t end,
                                bool taken) -> result<void> {
    if (number >= end)
      return refuse(whose + " has a number of " + std::to_string(end) + " or more");
    return taken ? refuse("the number of " + whose + " is another program's") : result<void>{};
  };
  if (find_program(added.name) != nullptr)
    return refuse("its name is another program's");
  for (const auto& row : added.roles)
    if (auto free = check_number("role " + std::string{row.name}, static_cast<std::size_t>(row.role), roles_max,
                                 name(row.role) != "unknown");
        !free)
      return free;
  for (const auto& row : added.messages)
    if (auto free = check_number("message " + std::string{row.name}, static_cast<std::size_t>(row.type),
                                 message_types_max, is_known(row.type));
        !free)
      return free;
  for (const auto& row : added.fault_points)
    if (is_fault_point(row.name))
      return refuse("fault point " + std::string{row.name} + " is another program's");
  for (const auto& row : added.actors)
    if (!name(row.kind).empty())
      return refuse("the number of actor " + std::string{row.name} + " is another program's");
  for (const auto& row : added.phases)
    if (!name(row.phase).empty())
      return refuse("the number of phase " + std::string{row.name} + " is another program's");
  for (const auto& row : added.metrics)
    if (row.number < program_metric_first || row.number.value >= metrics_max || row.bounds.size() > metric_bounds_max ||
        std::ranges::count(added.metrics, row.number, &metric_row::number) != 1)
      return refuse("metric " + std::string{row.name} +
                    " has a number that is out of range or twice there, or more than " +
                    std::to_string(metric_bounds_max) + " bounds");
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
