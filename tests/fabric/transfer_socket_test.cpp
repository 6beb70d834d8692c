#include "fabric/transfers/transfer_socket.hpp"

#include <doctest/doctest.h>

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

using namespace troupe;
using protocols::fault;

TEST_CASE("a note whose descriptors find no number here is a lack of open files, not a stranger's note") {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  const base::unique_fd near{ends[0]};
  const base::unique_fd far{ends[1]};
  const std::array<int, 2> files{STDIN_FILENO, STDIN_FILENO};
  REQUIRE(fabric::send_note(far.get(), {}, files));
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  for (const int room : {0, 1}) {
    const base::unique_fd next{::dup(near.get())}; // the lowest free number
    const auto lowest = static_cast<rlim_t>(next.get());
    const rlimit few{.rlim_cur = lowest + 1 + static_cast<rlim_t>(room), .rlim_max = before.rlim_max};

    REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
    const auto got = fabric::receive_note(near.get());
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);

    REQUIRE_FALSE(got);
    CHECK(got.error().code == fault::no_memory);
    CHECK(got.error().what.find("open files") != std::string::npos);
    REQUIRE(fabric::send_note(far.get(), {}, files));
  }
  CHECK(fabric::receive_note(near.get()));
}
