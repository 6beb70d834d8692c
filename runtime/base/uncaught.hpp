#pragma once

#include <exception>

#include "protocols/fault.hpp"

namespace troupe::base {

/// Translates a library's exception to a fault: `no_memory` where memory, threads or descriptors are used up,
/// `config_invalid` for the file system, `executor_failed` otherwise.
/// Our own code throws nothing: exceptions come from `new`, from starting a thread and from the file system.
protocols::failure failure_of(const std::exception& problem);

/// From this call on, an uncaught exception is written to stderr and to the flight recorder, and ends the process: with
/// exit_code::config where memory, threads or descriptors are used up, with exit_code::invariant otherwise. SIGABRT
/// would leave its cause in the rank's log alone.
void name_uncaught_exceptions() noexcept;

} // namespace troupe::base
