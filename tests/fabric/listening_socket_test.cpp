#include "fabric/listening_socket.hpp"

#include <sys/resource.h>
#include <sys/stat.h>

#include "listener_fixture.hpp"

using namespace lane_fixture;
using fabric::listening_socket;

namespace {

/// Until its end the process gets no descriptor beyond the `spare` lowest that are free.
class few_descriptors {
public:
  explicit few_descriptors(rlim_t spare) {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    const base::unique_fd lowest{::dup(0)};
    REQUIRE(lowest);
    rlimit low = before_;
    low.rlim_cur = static_cast<rlim_t>(lowest.get()) + spare;
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
  }
  ~few_descriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  few_descriptors(const few_descriptors&) = delete;
  few_descriptors& operator=(const few_descriptors&) = delete;

private:
  rlimit before_{};
};

listening_socket listen_in(const scratch_folder& folder, int type = SOCK_STREAM) {
  auto made = listening_socket::at_unix(folder.path + "/socket", type);
  REQUIRE_MESSAGE(made, (made ? "" : to_string(made.error())));
  return std::move(*made);
}

} // namespace

TEST_CASE("K5: a unix socket is its owner's alone, takes over what a killed process left, and nothing that is in use") {
  for (const int type : {SOCK_STREAM, SOCK_SEQPACKET}) {
    CAPTURE(type);
    const scratch_folder folder;
    listen_in(folder, type).close(); // leaves its file, as a killed process does
    const auto listening = listen_in(folder, type);
    struct stat found {};
    REQUIRE(::stat((folder.path + "/socket").c_str(), &found) == 0);
    CHECK((found.st_mode & 0777) == 0600);
    CHECK(::access((folder.path + "/socket.new").c_str(), F_OK) != 0);
    for (const int second : {SOCK_STREAM, SOCK_SEQPACKET}) {
      const auto refused = listening_socket::at_unix(folder.path + "/socket", second);
      REQUIRE_FALSE(refused);
      CHECK(refused.error().what.find("another process listens there") != std::string::npos);
    }
  }
}

TEST_CASE("K5: without a free descriptor a listener rests instead of being woken for the same connection") {
  const scratch_folder folder;
  auto listening = listen_in(folder);
  const auto caller = raw_unix(folder.path + "/socket");
  {
    const few_descriptors none{0};
    CHECK_FALSE(listening.accept());
    CHECK(listening.waits_on() == -1);
  }
  const auto deadline = in(5s);
  while (listening.waits_on() == -1 && base::now() < deadline)
    std::this_thread::yield();
  CHECK(listening.accept()); // it was not forgotten
}

TEST_CASE("K5: who may wait leaves descriptors to who may not") {
  const scratch_folder folder;
  auto listening = listen_in(folder);
  const auto first = raw_unix(folder.path + "/socket");
  const auto second = raw_unix(folder.path + "/socket");
  {
    const few_descriptors kept{listening_socket::descriptors_kept};
    for (int each = 0; each < 2; ++each) {
      const auto visitor = listening.accept_spare();
      CHECK(visitor.socket);
      CHECK(visitor.crowded);
    }
  }
  CHECK(rest_of(first).empty());
  CHECK(rest_of(second).empty());
  const auto third = raw_unix(folder.path + "/socket");
  const auto visitor = listening.accept_spare();
  CHECK(visitor.socket);
  CHECK_FALSE(visitor.crowded);
}

TEST_CASE(
    "K5: a lane that would not get its socket's second descriptor is refused, since it would never hear of its end") {
  server here;
  const auto caller = raw_tcp(here.listening->tcp_port());
  here.step(base::now()); // accepted
  say(caller, fabric::handshake_frame(client_edge, good_hello()));
  {
    const few_descriptors none{0};
    here.serve_until([&] { return !here.refusals.empty(); });
  }
  CHECK(here.arrived.empty());
  CHECK(here.refused_with("no_memory"));
}
