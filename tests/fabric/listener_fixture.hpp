#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <functional>
#include <thread>

#include "fabric/lanes/handshake.hpp"
#include "lane_fixture.hpp"

/// A listener on both kinds of socket, good peers for it, and sockets that say what they like.
namespace lane_fixture {

using fabric::lane_kind;

inline constexpr rank_id server_rank{4};
inline constexpr rank_id client_rank_here{9};
inline constexpr lane_kind both_kinds[] = {lane_kind::shared_memory, lane_kind::tcp};

inline fabric::identity identity_of(rank_id rank, std::byte token = std::byte{0x5a}) {
  fabric::identity self{.rank = rank, .born = born, .job_token = {}, .build = "test"};
  self.job_token.fill(token);
  return self;
}

/// A folder of its own for each test's sockets.
struct scratch_folder {
  scratch_folder() {
    char name[] = "/tmp/troupe-listener-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path = name;
  }
  ~scratch_folder() {
    ::unlink((path + "/socket").c_str());
    ::rmdir(path.c_str());
  }
  std::string path;
};

/// A listener on both kinds of socket, stepped by hand or by a thread.
struct server {
  explicit server(fabric::listener::hello_check expects = accept_all) {
    auto opened = fabric::listener::open(
        folder.path + "/socket", "127.0.0.1", 0, identity_of(server_rank), small, std::move(expects),
        [this](const fabric::edge& between, const hello&) { begun.push_back(between.peer); });
    REQUIRE_MESSAGE(opened, (opened ? "" : to_string(opened.error())));
    listening = std::move(*opened);
  }

  static result<void> accept_all(const fabric::edge&, const hello&) { return {}; }

  endpoint at() const {
    return {.rank = server_rank,
            .born = born,
            .unix_path = folder.path + "/socket",
            .tcp_address = "127.0.0.1",
            .tcp_port = listening->tcp_port(),
            .fabric_address = {}};
  }

  /// Steps until `enough` or the deadline; what came in and what was refused is kept.
  void serve_until(const std::function<bool()>& enough, duration limit = 5s) {
    const auto deadline = in(limit);
    while (!enough() && base::now() < deadline) {
      auto fds = listening->waitables();
      ::poll(fds.data(), fds.size(), 10);
      step(base::now());
    }
  }
  void step(time_point now) {
    for (auto& each : listening->step(now))
      arrived.push_back(std::move(each));
    for (auto& line : listening->take_refusals())
      refusals.push_back(std::move(line));
  }

  /// Connects from another thread while this one serves.
  result<std::unique_ptr<fabric::lane>> connect(lane_kind kind, const fabric::identity& self, hello say = {},
                                                std::optional<endpoint> to = {}) {
    result<std::unique_ptr<fabric::lane>> got = fail(fault::timeout);
    std::atomic<bool> done = false;
    std::thread client{[&] {
      got = fabric::connect(kind, to.value_or(at()), self, say, small, in(60s));
      done = true;
    }};
    serve_until([&] { return done.load(); });
    client.join();
    return got;
  }

  bool refused_with(std::string_view text) const {
    return std::any_of(refusals.begin(), refusals.end(),
                       [&](const std::string& line) { return line.find(text) != std::string::npos; });
  }

  scratch_folder folder;
  std::unique_ptr<fabric::listener> listening;
  std::vector<fabric::incoming> arrived;
  std::vector<std::string> refusals;
  std::vector<rank_id> begun; ///< whose edges
};

/// A socket that says what it likes.
inline base::unique_fd raw_tcp(std::uint16_t port) {
  base::unique_fd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  return socket;
}

inline base::unique_fd raw_unix(const std::string& path) {
  base::unique_fd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::copy(path.begin(), path.end(), address.sun_path);
  REQUIRE(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  return socket;
}

inline void say(const base::unique_fd& socket, std::span<const std::byte> bytes) {
  REQUIRE(::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
}

/// Everything that the listener says until it closes.
inline std::vector<std::byte> rest_of(const base::unique_fd& socket) {
  std::vector<std::byte> all;
  std::byte some[4096];
  for (;;) {
    const auto got = ::recv(socket.get(), some, sizeof some, 0);
    if (got <= 0)
      return all;
    all.insert(all.end(), some, some + got);
  }
}

inline constexpr fabric::edge client_edge{
    .self = client_rank_here, .self_born = born, .peer = server_rank, .peer_born = born};

inline std::array<std::byte, 32> token_of_the_job() {
  return identity_of(client_rank_here).job_token;
}

inline hello good_hello() {
  hello said;
  said.shown = fabric::proof_of_hello(token_of_the_job(), client_edge, said);
  return said;
}

} // namespace lane_fixture
