#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/time.hpp"
#include "tools/troupe/drill_crowd.hpp"

namespace troupe::tools {

/// How one walk went.
struct walk_result {
  std::uint32_t number = 0; ///< from 1
  std::uint64_t seed = 0;   ///< of the series; with `number` it draws this walk
  protocols::duration lasted{};
  crowd_counts answers;
  std::map<std::string, std::uint64_t> moves;  ///< "kill", "cancel", ...: how many
  std::map<std::string, std::uint64_t> causes; ///< why questions failed or were refused
  std::uint64_t restarts = 0;                  ///< cells that were started anew
  std::uint64_t causes_judged = 0;             ///< lines that name who is at fault
  std::uint64_t causes_right = 0;              ///< of these: somebody who had been struck
  std::uint64_t left_alive = 0;                ///< processes, 5 s after the end
  std::vector<std::string> blamed_wrong;       ///< the lines of the others
  std::vector<std::string> problems;
  std::string kept; ///< the job's directory, of a walk that did not pass

  bool passed() const noexcept { return problems.empty(); }
  /// Answers that must not be, whatever else happened.
  bool betrayed() const noexcept { return answers.wrong + answers.lost + answers.doubled != 0; }
  /// Adds what another walk has counted.
  void add(const walk_result& other);
};

nlohmann::ordered_json as_json(const walk_result& walk);
/// Errors: config_invalid.
protocols::result<walk_result> walk_result_from(const nlohmann::ordered_json& json);

/// For people: the sums, and why those that did not pass did not.
void print_walks(const std::vector<walk_result>& walks);

} // namespace troupe::tools
