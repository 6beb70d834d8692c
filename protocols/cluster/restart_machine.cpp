#include "protocols/cluster/restart_machine.hpp"

#include <chrono>
#include <set>

#include "protocols/cluster/program.hpp"

namespace troupe::protocols {

namespace {

bool is_restarted(const cluster_plan& plan, const cluster_spec::restart_section& policy, role_kind role) {
  return plan.of != nullptr && plan.of->row(role).restarts &&
         policy.of[static_cast<std::size_t>(role)] == restart_policy::cell;
}

} // namespace

restart_machine::restart_machine(const cluster_plan& plan, const cluster_spec::restart_section& policy)
    : plan_(plan), policy_(policy) {}

std::vector<rank_id> restart_machine::unit_of(rank_id rank) const {
  std::set<rank_id> unit{rank};
  for (std::size_t before = 0; before != unit.size();) {
    before = unit.size();
    for (const auto& cell : plan_.cells)
      for (const auto member : cell.ranks)
        if (unit.contains(member)) {
          unit.insert(cell.ranks.begin(), cell.ranks.end());
          break;
        }
  }
  for (const auto& cell : plan_.cells)
    if (unit.contains(cell.leader()) && !is_restarted(plan_, policy_, cell.role))
      return {};
  return {unit.begin(), unit.end()};
}

bool restart_machine::allow(rank_id rank, time_point serving_until, time_point now) {
  const keeps_invariants checked{*this};
  const auto unit = unit_of(rank);
  if (unit.empty())
    return false;
  auto& times = restarts_[unit.front()];
  while (!times.empty() && times.front() + std::chrono::seconds{policy_.window_s} <= serving_until)
    times.pop_front();
  if (times.size() >= policy_.intensity)
    return false;
  times.push_back(now);
  return true;
}

std::string restart_machine::count_text(rank_id rank) const {
  const auto unit = unit_of(rank);
  const auto found = unit.empty() ? restarts_.end() : restarts_.find(unit.front());
  return "restart " + std::to_string(found == restarts_.end() ? 0 : found->second.size()) + " of at most " +
         std::to_string(policy_.intensity) + " in " + std::to_string(policy_.window_s) + " s";
}

void restart_machine::check_invariants() const {
  for (const auto& [first, times] : restarts_)
    TROUPE_ASSERT("C38", times.size() <= policy_.intensity);
}

} // namespace troupe::protocols
