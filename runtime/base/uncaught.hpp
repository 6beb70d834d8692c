#pragma once

#include <exception>

#include "protocols/fault.hpp"

namespace troupe::base {

/// What a library's exception says, as a fault: `no_memory` where memory, threads or descriptors are used up,
/// `config_invalid` of the file system, `executor_failed` otherwise.
/// Our own code throws nothing: these come of `new`, of a thread that cannot be started, of the file system.
protocols::failure failure_of(const std::exception& problem);

/// From here on an exception that nobody catches is said, also to the flight recorder, and ends the process: with
/// exit_code::config where memory or threads are used up, with exit_code::invariant otherwise. SIGABRT with the words
/// in a rank's log alone told nobody.
void name_uncaught_exceptions() noexcept;

} // namespace troupe::base
