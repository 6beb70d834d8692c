#include "runtime/base/log.hpp"

#include <doctest/doctest.h>

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <regex>
#include <string>

using namespace troupe::base;

namespace {

/// What `body` writes to stderr.
template <class Body>
std::string stderr_of(Body body) {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const int before = ::dup(STDERR_FILENO);
  ::dup2(ends[1], STDERR_FILENO);
  body();
  ::dup2(before, STDERR_FILENO);
  ::close(before);
  ::close(ends[1]);
  std::array<char, 4096> buffer;
  const auto got = ::read(ends[0], buffer.data(), buffer.size());
  ::close(ends[0]);
  return {buffer.data(), got > 0 ? static_cast<std::size_t>(got) : 0};
}

} // namespace

TEST_CASE("J1: a log line has time, level and rank, and lines below the level are left out") {
  open_log("prefill.0/t1", log_level::info);
  const auto text = stderr_of([] {
    log_debug("not this");
    log_warning("slot {} of {}%", 3, "all");
  });
  CHECK(
      std::regex_match(text, std::regex{R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} W prefill\.0/t1: slot 3 of all%\n)"}));
  CHECK_FALSE(logs(log_level::debug));
}
