#include "protocols/drill/injection_points.hpp"

#include <iterator>

#include "protocols/cluster/program.hpp"

namespace troupe::protocols {

std::string_view name(drill_phase phase) noexcept {
  switch (phase) {
  case drill_phase::spawn:
    return "spawn";
  case drill_phase::handshake:
    return "handshake";
  case drill_phase::grouping:
    return "group making";
  case drill_phase::warm_up:
    return "warm-up";
  case drill_phase::idle:
    return "idle";
  case drill_phase::preflight:
    return "preflight";
  case drill_phase::header:
    return "header sent";
  case drill_phase::payload:
    return "payload in flight";
  case drill_phase::collective:
    return "in collective";
  case drill_phase::emitted:
    return "result emitted";
  case drill_phase::hard_cut:
    return "hard cut";
  case drill_phase::drain:
    return "drain";
  }
  return {};
}

bool is_fault_point(std::string_view name) noexcept {
  const auto has_it = [name](std::span<const fault_point> table) {
    return std::ranges::find(table, name, &fault_point::name) != table.end();
  };
  return has_it(fault_points) ||
         std::ranges::any_of(programs(), [&](const program* each) { return has_it(each->fault_points); });
}

std::vector<std::string_view> fault_point_names() {
  std::vector<std::string_view> names;
  const auto add = [&](std::span<const fault_point> table) {
    std::ranges::transform(table, std::back_inserter(names), &fault_point::name);
  };
  add(fault_points);
  for (const auto* const each : programs())
    add(each->fault_points);
  return names;
}

} // namespace troupe::protocols
