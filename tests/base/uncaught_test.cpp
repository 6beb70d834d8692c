#include "runtime/base/uncaught.hpp"

#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#include "runtime/base/exit_code.hpp"

using namespace troupe::base;
using troupe::protocols::fault;

namespace {

struct process_end {
  int code = -1; ///< 128 + signal when a signal ended it
  std::string err;
};

/// Of a process in which a thread of its own throws.
template <class Exception>
process_end end_of(const Exception& thrown) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const auto child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    name_uncaught_exceptions();
    std::thread{[&] { throw thrown; }}.join();
    ::_exit(0);
  }
  ::close(ends[1]);
  process_end end;
  char byte = 0;
  while (::read(ends[0], &byte, 1) == 1)
    end.err += byte;
  ::close(ends[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  end.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return end;
}

const std::system_error no_thread{std::make_error_code(std::errc::resource_unavailable_try_again), "thread"};

} // namespace

TEST_CASE("a lack of memory, threads or descriptors is no_memory in words") {
  CHECK(failure_of(std::bad_alloc{}).code == fault::no_memory);
  CHECK(failure_of(no_thread).code == fault::no_memory);
  CHECK(failure_of(no_thread).what.find("Resource temporarily unavailable") != std::string::npos);
  CHECK(failure_of(std::filesystem::filesystem_error{"status", std::make_error_code(std::errc::permission_denied)})
            .code == fault::config_invalid);
  CHECK(failure_of(std::runtime_error{"why"}).code == fault::executor_failed);
  CHECK(failure_of(std::runtime_error{"why"}).what == "why");
}

TEST_CASE("an exception that nobody catches is an exit code and a line, not SIGABRT") {
  const auto starved = end_of(no_thread);
  CHECK(starved.code == static_cast<int>(exit_code::config));
  CHECK(starved.err.find("no_memory") != std::string::npos);
  const auto broken = end_of(std::runtime_error{"why"});
  CHECK(broken.code == static_cast<int>(exit_code::invariant));
  CHECK(broken.err.find("why") != std::string::npos);
}
