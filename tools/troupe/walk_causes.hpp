#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/time.hpp"

namespace troupe::tools {

/// Judges whom the supervisor blames: whenever it starts a cell anew it prints a line that begins with who is at fault,
/// and that must be somebody who was struck so that it had to fall. What comes of a strike may come late: a while is
/// given.
/// Threads: one.
class walk_causes {
public:
  explicit walk_causes(const protocols::cluster_plan& plan) : plan_(plan) {}

  /// So that it has to fall; whoever is only slow has not to.
  void struck(protocols::rank_id rank, protocols::time_point now) { struck_[rank] = now; }
  /// All that the command has printed so far; lines that were read once are not read again.
  void read(std::string_view printed, protocols::time_point now);
  /// The last line of a job that has ended.
  void read_end(std::string_view line, protocols::time_point now);

  std::uint64_t restarts() const noexcept { return restarts_; }
  std::uint64_t judged() const noexcept { return judged_; }
  std::uint64_t right() const noexcept { return right_; }
  const std::vector<std::string>& wrong_lines() const noexcept { return wrong_lines_; }

private:
  void judge(std::string_view line, protocols::time_point now);

  const protocols::cluster_plan& plan_;
  std::map<protocols::rank_id, protocols::time_point> struck_; ///< last time
  std::size_t read_ = 0;                                       ///< bytes
  std::uint64_t restarts_ = 0;
  std::uint64_t judged_ = 0;
  std::uint64_t right_ = 0;
  std::vector<std::string> wrong_lines_;
};

} // namespace troupe::tools
