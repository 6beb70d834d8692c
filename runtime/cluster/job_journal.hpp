#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "protocols/cluster/life_machine.hpp"
#include "protocols/time.hpp"
#include "runtime/cluster/log_file.hpp"

namespace troupe::cluster {

/// A state of the cluster that lasts longer is shown to the person who waits.
inline constexpr std::chrono::milliseconds patience{2000};

/// What the supervisor and its ranks have to say: all of it to all.log; to the person who waits only what matters, so
/// a start that takes a second prints nothing.
class job_journal {
public:
  using sink = std::function<void(std::string_view line)>;

  /// `prefix` of the supervisor's own lines. Either sink may be empty.
  job_journal(const std::filesystem::path& file, std::string prefix, sink on_progress, sink on_log);

  /// A line of a rank, with its prefix.
  void rank_line(std::string_view line);
  /// A line of the supervisor's own; shown once the present state has taken longer than `patience`.
  void note(const std::string& line);

  /// A line of the supervisor's own that is shown at once.
  void tell(const std::string& line);

  void entered(protocols::life_machine::state state, protocols::time_point now);
  /// True once every `patience` in which the cluster neither serves nor has ended: time for a line of what it waits
  /// for.
  bool is_overdue(protocols::time_point now);

private:
  log_file file_;
  std::string prefix_;
  sink on_progress_;
  sink on_log_;
  protocols::life_machine::state state_ = protocols::life_machine::state::starting;
  protocols::time_point next_news_;
  bool shows_ = false;
};

} // namespace troupe::cluster
