#include "runtime/cluster/control_listener.hpp"

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

#include "fabric/lanes/connect.hpp"
#include "fabric/socket_address.hpp"
#include "protocols/wire/codec.hpp"
#include "runtime/base/clock.hpp"
#include "tests/cluster/run_directory.hpp"

using namespace troupe;
using namespace troupe::protocols;
using namespace std::chrono_literals;
using cluster::control_listener;

namespace {

inject order_of(std::uint32_t rank) {
  inject order;
  order.rank = rank_id{rank};
  order.rule.action = drill_action::kill;
  return order;
}

/// A door that a thread of its own serves.
class open_door {
public:
  open_door() {
    auto door = control_listener::open(path());
    REQUIRE_MESSAGE(door, door.error().what);
    door_.emplace(std::move(*door));
    serving_ = std::thread{[this] { serve(); }};
  }
  ~open_door() {
    done_ = true;
    serving_.join();
  }
  std::string path() const { return (here_.path() / "control.sock").string(); }
  result<void> order(std::uint32_t rank) { return cluster::order_injection(path(), order_of(rank), base::now() + 10s); }
  /// From now on the door's clock is ahead by so much.
  void let_pass(protocols::duration time) { later_ = time; }
  std::atomic<int> taken = 0;

private:
  void serve() {
    while (!done_) {
      std::vector<pollfd> fds;
      for (const int fd : door_->waitables())
        fds.push_back({fd, POLLIN, 0});
      ::poll(fds.data(), fds.size(), 10);
      door_->step(
          [this](const inject& order) -> result<void> {
            if (order.rank != rank_id{1})
              return fail(fault::invalid_request, "no such rank");
            ++taken;
            return {};
          },
          base::now() + later_.load());
    }
  }
  tests::run_directory here_;
  std::optional<control_listener> door_;
  std::atomic<bool> done_ = false;
  std::atomic<protocols::duration> later_{};
  std::thread serving_;
};

} // namespace

TEST_CASE("an order goes in by the door, and what becomes of it comes back") {
  open_door door;
  CHECK(door.order(1));
  const auto refused = door.order(2);
  REQUIRE_FALSE(refused);
  CHECK(refused.error() == failure{fault::invalid_request, "no such rank"});
  CHECK(door.order(1));
  CHECK(door.taken == 2);
}

TEST_CASE("the door is its owner's alone") {
  open_door door;
  struct stat found {};
  REQUIRE(::stat(door.path().c_str(), &found) == 0);
  CHECK((found.st_mode & 0777) == 0600);
}

TEST_CASE("C20: whoever says anything else is let go, and others are still heard") {
  open_door door;
  const auto address = fabric::unix_address(door.path());
  REQUIRE(address);
  for (const std::string_view said : {"GET / HTTP/1.1\r\n\r\n", "TRUP"}) {
    base::unique_fd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    REQUIRE(::connect(socket.get(), address->get(), address->size) == 0);
    std::string garbage{said};
    garbage.resize(4096, 'x');
    REQUIRE(::send(socket.get(), garbage.data(), garbage.size(), MSG_NOSIGNAL) > 0);
    pollfd end{socket.get(), POLLIN | POLLRDHUP, 0};
    CHECK(::poll(&end, 1, 10'000) == 1);
  }
  base::unique_fd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  REQUIRE(::connect(socket.get(), address->get(), address->size) == 0);
  const auto lane = fabric::make_stream_lane(socket.release(), client_rank, generation{1}, supervisor_rank,
                                             generation{1}, {.frame_bytes_max = 4096, .in_flight_bytes_max = 8192});
  REQUIRE(fabric::send(*lane, {.type = message_type::shutdown}, {}, base::now() + 10s));
  const auto answer = fabric::receive(*lane, base::now() + 10s);
  REQUIRE(answer);
  injected said;
  REQUIRE(decode_payload(answer->payload, said));
  CHECK(said.code == static_cast<std::uint16_t>(fault::unknown_type));
  CHECK(door.order(1));
}

TEST_CASE("K5: silent clients are bounded in number and time, and an order goes in once theirs has passed") {
  open_door door;
  const auto address = fabric::unix_address(door.path());
  REQUIRE(address);
  std::vector<base::unique_fd> silent;
  for (std::size_t i = 0; i < 2 * control_listener::clients_max; ++i) {
    silent.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(silent.back().get(), address->get(), address->size) == 0);
  }
  const auto too_early = cluster::order_injection(door.path(), order_of(1), base::now() + 100ms);
  REQUIRE_FALSE(too_early);
  CHECK(too_early.error().code == fault::timeout);
  // Those that waited for a place are let in when the first have gone, at a time that only the door's thread knows.
  pollfd last{silent.back().get(), POLLIN | POLLRDHUP, 0};
  for (int passed = 1; passed <= 100 && ::poll(&last, 1, 100) == 0; ++passed)
    door.let_pass(passed * control_listener::client_patience);
  CHECK(last.revents != 0);
  CHECK(door.order(1));
}

TEST_CASE("faults are taken only where the spec allows drills, for ranks that are there") {
  auto spec = tests::spec_of(R"("stub": { "role": "stub", "cells": 2 })").spec;
  const auto plan = make_plan(spec);
  REQUIRE(plan);
  const auto judged = [&](const inject& order) {
    const auto done = cluster::validate_injection(spec, *plan, order);
    return done ? std::string{} : done.error().what;
  };
  CHECK(judged(order_of(1)) == "the spec of this job does not say \"drills\": true");
  spec.drills = true;
  CHECK(judged(order_of(1)).empty());
  CHECK(judged(order_of(supervisor_rank.value)).empty());
  CHECK(judged(order_of(2)) == "there is no rank 2; the last one is 1");
  auto nowhere = order_of(1);
  nowhere.rule.point = "nowhere";
  CHECK(judged(nowhere).find("'nowhere'") != std::string::npos);
}
