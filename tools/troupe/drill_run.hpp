#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/time.hpp"
#include "runtime/cluster/drill_file.hpp"
#include "tools/troupe/drill_load.hpp"

namespace troupe::tools {

/// How one run of a drill went.
struct drill_result {
  std::string name;
  bool passed = false;
  bool struck = false;                         ///< the fault has happened
  std::optional<protocols::duration> detected; ///< from the strike until the supervisor knew
  std::optional<protocols::duration> over;     ///< from the strike until all had left, or served again
  load_counts load;
  std::optional<bool> cause_right; ///< the last line named who it should; nothing: not judged
  std::size_t left_alive = 0;      ///< processes, 5 s after the end
  std::optional<int> exit_code;
  std::string last_line;
  std::vector<std::string> problems; ///< why it did not pass
  std::string kept;                  ///< the job's directory, where it stays
};

/// Whether the last line of a command that failed names one of `causes` ("front", "front or decode.0/t0") first.
bool names_cause(std::string_view line, std::string_view causes);

/// What can be known to be wrong with a drill before a process is started. Errors: config_invalid (its spec cannot be
/// used, a rule names no rank of it).
protocols::result<void> check_drill(const cluster::drill& what);

/// Whose directories, with logs and flight records, stay.
enum class keep_jobs : bool { failed, all };

/// Runs a drill against real processes: launches, asks, strikes, watches, judges.
/// `progress` gets a line whenever something else is waited for. Errors: config_invalid (it could not be begun).
protocols::result<drill_result> run_drill(const cluster::drill& what, keep_jobs keep,
                                          const std::function<void(std::string_view)>& progress);

} // namespace troupe::tools
