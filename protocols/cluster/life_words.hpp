#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/first_cause_machine.hpp"

/// Words of `life_machine` that its files share.
namespace troupe::protocols {

inline std::vector<first_cause_machine::rank_name> names_of(const cluster_plan& plan,
                                                            const std::vector<std::string>& hosts) {
  std::vector<first_cause_machine::rank_name> names;
  for (const auto& rank : plan.ranks)
    names.push_back({rank.label, hosts.at(rank.id.value)});
  return names;
}

/// "timeouts.start_ms (30000 ms)".
inline std::string setting(std::string_view key, std::uint32_t ms) {
  return "timeouts." + std::string{key} + " (" + std::to_string(ms) + " ms)";
}

} // namespace troupe::protocols
