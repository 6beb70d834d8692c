#include "runtime/base/uncaught.hpp"

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <new>
#include <string>
#include <system_error>

#include "runtime/base/assert.hpp"
#include "runtime/base/exit_code.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/base/outlet.hpp"

namespace troupe::base {
namespace {

using protocols::failure;
using protocols::fault;

bool is_used_up(const std::error_code& code) {
  return code == std::errc::resource_unavailable_try_again || code == std::errc::not_enough_memory ||
         code == std::errc::too_many_files_open || code == std::errc::too_many_files_open_in_system;
}

[[noreturn]] void leave(const failure& cause, exit_code code) noexcept {
  flight().note_fault(cause, "an exception");
  write_last_words(to_string(cause) + '\n');
  ::_exit(static_cast<int>(code));
}

[[noreturn]] void on_terminate() noexcept {
  static std::atomic<bool> entered = false;
  if (entered.exchange(true)) // of no kind that is known here
    broken_invariant("exceptions", "an exception has a name", __FILE__, __LINE__);
  try {
    if (const auto caught = std::current_exception())
      std::rethrow_exception(caught);
  } catch (const std::exception& problem) {
    const auto cause = failure_of(problem);
    leave(cause, cause.code == fault::no_memory ? exit_code::config : exit_code::invariant);
  }
  broken_invariant("exceptions", "std::terminate", __FILE__, __LINE__);
}

} // namespace

failure failure_of(const std::exception& problem) {
  if (dynamic_cast<const std::bad_alloc*>(&problem) != nullptr)
    return {fault::no_memory, "this process gets no more memory (ulimit -v, or the machine's)"};
  const auto* const system = dynamic_cast<const std::system_error*>(&problem);
  if (system != nullptr && is_used_up(system->code()))
    return {fault::no_memory,
            std::string{"memory, threads or descriptors are used up (ulimit -v, -u, -n): "} + system->what()};
  const bool of_files = dynamic_cast<const std::filesystem::filesystem_error*>(&problem) != nullptr;
  return {of_files ? fault::config_invalid : fault::executor_failed, problem.what()};
}

void name_uncaught_exceptions() noexcept {
  std::set_terminate(on_terminate);
}

} // namespace troupe::base
