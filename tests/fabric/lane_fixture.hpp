#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "fabric/lanes/connect.hpp"
#include "fabric/lanes/lane.hpp"
#include "runtime/base/clock.hpp"

/// Pairs of connected lanes of every kind, and frames to send through them.
namespace lane_fixture {

using namespace troupe;
using namespace troupe::protocols;
using namespace std::chrono_literals;

inline constexpr rank_id first_rank{0};
inline constexpr rank_id second_rank{1};
inline constexpr generation born{1};

/// Small bounds, so that tests reach them.
inline constexpr fabric::lane_options small{.frame_bytes_max = 64 * 1024, .in_flight_bytes_max = 128 * 1024};

enum class lane_form { shared_memory, tcp, unix_stream };
inline constexpr lane_form all_forms[] = {lane_form::shared_memory, lane_form::tcp, lane_form::unix_stream};

inline std::string name(lane_form form) {
  switch (form) {
  case lane_form::shared_memory:
    return "shared memory";
  case lane_form::tcp:
    return "tcp";
  case lane_form::unix_stream:
    return "unix stream";
  }
  return "";
}

struct lane_pair {
  std::unique_ptr<fabric::lane> first;
  std::unique_ptr<fabric::lane> second;
};

/// Two connected sockets on loopback.
inline std::pair<int, int> tcp_sockets() {
  const int listening = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(::bind(listening, reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(::listen(listening, 1) == 0);
  REQUIRE(::getsockname(listening, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  const int connecting = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(::connect(connecting, reinterpret_cast<sockaddr*>(&address), size) == 0);
  const int accepted = ::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
  REQUIRE(accepted >= 0);
  ::close(listening);
  return {connecting, accepted};
}

inline std::pair<int, int> unix_sockets() {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  return {ends[0], ends[1]};
}

inline lane_pair make_pair(lane_form form, fabric::lane_options options = small) {
  if (form == lane_form::shared_memory) {
    auto [first, second] = fabric::make_shared_memory_pair(options);
    return {std::move(first), std::move(second)};
  }
  const auto [one, other] = form == lane_form::tcp ? tcp_sockets() : unix_sockets();
  return {fabric::make_stream_lane(one, first_rank, born, second_rank, born, options),
          fabric::make_stream_lane(other, second_rank, born, first_rank, born, options)};
}

inline time_point in(duration from_now) {
  return base::now() + from_now;
}

inline std::vector<std::byte> random_bytes(std::mt19937_64& random, std::size_t size) {
  std::vector<std::byte> bytes(size);
  std::generate(bytes.begin(), bytes.end(), [&] { return static_cast<std::byte>(random()); });
  return bytes;
}

/// Sizes that touch the edges: empty, around a cache line, around a page, the largest.
inline std::size_t random_size(std::mt19937_64& random, std::size_t most) {
  static constexpr std::size_t edges[] = {0, 1, 63, 64, 65, 127, 128, 4032, 4096};
  switch (random() % 4) {
  case 0:
    return edges[random() % std::size(edges)];
  case 1:
    return most - random() % 3;
  default:
    return random() % (random() % 2 == 0 ? 512 : most);
  }
}

inline bool equal(std::span<const std::byte> one, std::span<const std::byte> other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end());
}

/// A frame of no more meaning than its bytes.
inline frame_header plain(std::uint64_t call = 0) {
  return {.type = message_type::heartbeat, .call = call_id{call}};
}

} // namespace lane_fixture
