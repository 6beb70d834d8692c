#pragma once

#include <sys/types.h>

#include <optional>
#include <string_view>

namespace troupe::cluster {

/// What the kernel says of a thread (proc(5), the letter of `stat`).
enum class thread_state {
  runnable, ///< R: it runs, or would if it were let
  stopped,  ///< T, t: by a signal or a debugger
  other,    ///< it waits for something, or has ended
};

/// Of the thread of `pid` that has given itself this name; none: there is none, or it cannot be read.
/// Threads are told apart by name because a rank's main thread may sleep while the one that is asked about is starved.
std::optional<thread_state> state_of_thread(pid_t pid, std::string_view name);

/// The names of the threads that are asked about.
inline constexpr const char* watchdog_thread = "troupe-watchdog";
inline constexpr const char* lanes_thread = "troupe-lanes";

} // namespace troupe::cluster
