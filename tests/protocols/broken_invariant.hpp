#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>

#include <doctest/doctest.h>

#include "protocols/invariant.hpp"

/// For tests that break a machine from inside and see that its next event ends the process.
namespace troupe::protocols::testing {

/// Opens a private member to a test. An explicit instantiation may name what is private, and the machine needs no
/// door of its own:
///   struct lent { using machine = slot_pool_machine; friend auto& inside(lent, machine& of); };
///   template struct opens<lent, &slot_pool_machine::lent_>;
template <class Tag, auto Member>
struct opens {
  friend auto& inside(Tag, typename Tag::machine& of) { return of.*Member; }
};

inline int verdict_fd = -1;

/// What `act` breaks, as "LABEL condition"; empty: nothing. In a process of its own, which ends by it.
template <class Act>
std::string broken_by(const Act& act) {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  const auto child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::close(ends[0]);
    verdict_fd = ends[1];
    end_broken_invariants_by(+[](const char* label, const char* condition, const char*, int) noexcept {
      const auto text = std::string{label} + ' ' + condition;
      const auto written = ::write(verdict_fd, text.data(), text.size());
      ::_exit(written == static_cast<ssize_t>(text.size()) ? 70 : 1);
    });
    act();
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string text(1024, '\0');
  const auto got = ::read(ends[0], text.data(), text.size());
  ::close(ends[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  CHECK(WEXITSTATUS(status) == (text.empty() ? 0 : 70));
  return text;
}

} // namespace troupe::protocols::testing
