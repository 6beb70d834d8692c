#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/sim/planted/hunt.hpp"

namespace troupe::sim {

/// The middle of what each trial of the bug took, and of the processor's time for it; none where one has not found it.
struct finding {
  bool whole = false; ///< every trial has found it
  std::uint64_t schedules = 0;
  double seconds = 0;
  std::string checks; ///< that found it
};

finding judge(const planted_row& row, int number, const std::vector<trial>& trials);

/// A row for each bug that has been looked for: what found it, and after how many schedules.
std::string table_of(const std::vector<planted_row>& rows, const std::vector<trial>& trials);
std::string json_of(const std::vector<planted_row>& rows, const std::vector<trial>& trials);
/// Trials of an earlier run, to be gone on with; those of a bug that has changed since are left out.
std::vector<trial> trials_of(const std::string& json, const std::vector<planted_row>& rows);

} // namespace troupe::sim
