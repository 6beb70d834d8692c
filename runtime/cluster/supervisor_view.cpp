#include "runtime/cluster/supervisor_view.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace troupe::cluster {

using namespace protocols;

job_status status_of(std::span<const std::unique_ptr<supervised_rank>> ranks, const life_machine& life,
                     std::string front_socket) {
  job_status status{name_of(life.current()), std::move(front_socket), {}};
  for (const auto& each : ranks) {
    const auto& rank = each->plan();
    if (!each->http().empty())
      status.http = each->http();
    status.ranks.push_back({.id = rank.id.value,
                            .label = rank.label,
                            .role = std::string{name(rank.role)},
                            .pid = each->pid(),
                            .device = each->device(),
                            .state = std::string{name(life.at(rank.id))},
                            .generation = life.born(rank.id).value});
  }
  return status;
}

std::string waiting_line(const cluster_plan& plan, const life_machine& life) {
  constexpr std::size_t named_max = 8;
  std::vector<std::string> waiting;
  for (const auto& rank : plan.ranks)
    if (life.waits_for(rank.id))
      waiting.push_back(fmt::format("{} ({})", rank.label, name(life.at(rank.id))));
  const auto more = waiting.size() > named_max ? fmt::format(" and {} more", waiting.size() - named_max) : "";
  waiting.resize(std::min(waiting.size(), named_max));
  return fmt::format("{}: waiting for {}{}", name_of(life.current()), fmt::join(waiting, ", "), more);
}

base::exit_code exit_code_of(life_machine::outcome how, bool interrupted) noexcept {
  using enum life_machine::outcome;
  switch (how) {
  case drained:
    return interrupted ? base::exit_code::interrupted : base::exit_code::done;
  case aborted:
    return interrupted ? base::exit_code::interrupted : base::exit_code::failed;
  case unusable:
    return base::exit_code::config;
  case rank_failed:
  case parity_mismatch:
    return base::exit_code::rank_failed;
  case start_timeout:
    return base::exit_code::start_timeout;
  case drain_timeout:
    return base::exit_code::drain_timeout;
  }
  return base::exit_code::failed;
}

} // namespace troupe::cluster
