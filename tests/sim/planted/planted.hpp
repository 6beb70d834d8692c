#pragma once

#include <string>
#include <vector>

/// Bugs as switches: the sources that `plant` writes ask here which of them is on. One build has all of them.
namespace troupe::sim {

/// Number of the bug that is on; 0: none, and the machines are the product's.
/// Threads: set before the first schedule.
extern int planted_bug;

inline bool planted(int number) noexcept {
  return planted_bug == number;
}

/// A row of bugs.json; the first is number 1.
struct planted_row {
  std::string name;
  std::string label; ///< of the contract or of the review
  std::string what;
  std::string escapes; ///< why no schedule finds it; empty: one must
  std::string digest;  ///< of what it changes
  bool canary = false;
};

std::vector<planted_row> planted_rows();

} // namespace troupe::sim
