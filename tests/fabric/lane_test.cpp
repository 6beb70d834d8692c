#include <sys/resource.h>

#include <thread>

#include "lane_fixture.hpp"

using namespace lane_fixture;

namespace {

constexpr std::size_t payload_max = small.frame_bytes_max - limits::frame_header_bytes;

/// Waits with arm and poll alone: the wake-up itself is under test, spinning would hide a lost one.
result<frame_view> receive_asleep(fabric::lane& from, time_point deadline) {
  std::vector<pollfd> scratch;
  for (;;) {
    auto next = from.peek();
    if (!next)
      return tl::unexpected<failure>{next.error()};
    if (*next)
      return **next;
    const fabric::waiting wait{&from, {.readable = true, .writable = false}};
    if (auto woken = fabric::wait_any({&wait, 1}, deadline, scratch); !woken)
      return tl::unexpected<failure>{woken.error()};
  }
}

/// Until the lane stays full: a kernel that has just refused may move bytes to the peer's side and take more.
std::size_t fill(fabric::lane& lane, std::span<const std::byte> payload) {
  constexpr fabric::lane::interest room{.readable = false, .writable = true};
  std::size_t sent = 0;
  for (bool stays = false;;) {
    if (const auto outcome = lane.try_send(plain(), payload); outcome) {
      ++sent;
      stays = false;
      continue;
    } else {
      REQUIRE(outcome.error().code == fault::lane_full);
    }
    if (stays)
      return sent;
    auto set = lane.waitables(room);
    stays = lane.arm(room) && ::poll(set.fds.data(), set.count, 20) == 0;
    lane.disarm();
  }
}

} // namespace

TEST_CASE("A26: frames of any size arrive whole, unchanged and in order, both ways at once") {
  for (const auto form : all_forms) {
    constexpr std::uint64_t seed = 20'240'601;
    INFO("lane: ", name(form), ", seed: ", seed);
    auto pair = make_pair(form);

    const auto send_all = [](fabric::lane& to, std::uint64_t with_seed) {
      std::mt19937_64 random{with_seed};
      for (std::uint64_t i = 1; i <= 600; ++i) {
        const auto payload = random_bytes(random, random_size(random, payload_max));
        if (!fabric::send(to, plain(i), payload, in(20s)))
          return false;
      }
      while (!to.flush())
        std::this_thread::yield();
      return true;
    };
    const auto receive_all = [](fabric::lane& from, std::uint64_t with_seed) {
      std::mt19937_64 random{with_seed};
      for (std::uint64_t i = 1; i <= 600; ++i) {
        const auto expected = random_bytes(random, random_size(random, payload_max));
        const auto got = fabric::receive(from, in(20s));
        if (!got || !equal(got->payload, expected) || got->header.call != call_id{i} || got->header.sequence != i)
          return false;
        from.pop();
      }
      return true;
    };

    // Each lane is driven by one thread that sends, one direction after the other overlapping by what a lane holds.
    bool first_sent = false;
    bool first_received = false;
    std::thread first{[&] {
      first_sent = send_all(*pair.first, seed);
      first_received = receive_all(*pair.first, seed + 1);
    }};
    const bool second_received = receive_all(*pair.second, seed);
    const bool second_sent = send_all(*pair.second, seed + 1);
    first.join();

    CHECK(first_sent);
    CHECK(second_received);
    CHECK(second_sent);
    CHECK(first_received);
  }
}

TEST_CASE("A22: a lane sets who sends to whom, in which epoch and sequence") {
  for (const auto form : all_forms) {
    INFO("lane: ", name(form));
    auto pair = make_pair(form);

    frame_header header = plain(7);
    header.epoch = cache_epoch{3};
    header.source = rank_id{99};
    header.sequence = 1234;
    REQUIRE(pair.second->try_send(header, {}));

    const auto got = fabric::receive(*pair.first, in(60s));
    REQUIRE(got);
    CHECK(got->header.source == second_rank);
    CHECK(got->header.source_generation == born);
    CHECK(got->header.destination == first_rank);
    CHECK(got->header.destination_generation == born);
    CHECK(got->header.sequence == 1);
    CHECK(got->header.epoch == cache_epoch{});
    CHECK(got->header.call == call_id{7});
    CHECK(got->payload.empty());
  }
}

TEST_CASE("a frame stays in front until it is popped") {
  for (const auto form : all_forms) {
    INFO("lane: ", name(form));
    auto pair = make_pair(form);
    REQUIRE(pair.first->try_send(plain(1), {}));
    REQUIRE(pair.first->try_send(plain(2), {}));

    REQUIRE(fabric::receive(*pair.second, in(60s))->header.call == call_id{1});
    CHECK(fabric::receive(*pair.second, in(60s))->header.call == call_id{1});
    pair.second->pop();
    CHECK(fabric::receive(*pair.second, in(60s))->header.call == call_id{2});
  }
}

TEST_CASE("no wake-up is lost when both sides sleep between frames") {
  for (const auto form : all_forms) {
    INFO("lane: ", name(form));
    auto pair = make_pair(form);
    constexpr int rounds = 3000;

    std::thread echo{[&] {
      for (int i = 0; i < rounds; ++i) {
        if (!receive_asleep(*pair.second, in(10s)))
          return;
        pair.second->pop();
        if (!pair.second->try_send(plain(), {}))
          return;
      }
    }};
    int answered = 0;
    for (; answered < rounds; ++answered) {
      REQUIRE(pair.first->try_send(plain(), {}));
      if (!receive_asleep(*pair.first, in(10s)))
        break;
      pair.first->pop();
    }
    echo.join();

    CHECK(answered == rounds);
  }
}

TEST_CASE("E3: a full lane says so, takes nothing of the frame, and wakes its sender when there is room") {
  for (const auto form : all_forms) {
    INFO("lane: ", name(form));
    auto pair = make_pair(form);
    const std::vector<std::byte> payload(16 * 1024, std::byte{7});

    // given a lane that is full
    const auto sent = fill(*pair.first, payload);
    REQUIRE(sent > 0);
    CHECK(pair.first->bytes_in_flight() >= small.in_flight_bytes_max / 2);
    REQUIRE(pair.first->arm({.readable = false, .writable = true}));
    auto set = pair.first->waitables({.readable = false, .writable = true});
    CHECK(::poll(set.fds.data(), set.count, 0) == 0);

    // when the peer takes everything
    std::size_t received = 0;
    for (int woken = 0; woken == 0;) {
      while (pair.second->peek().value()) {
        pair.second->pop();
        ++received;
      }
      woken = ::poll(set.fds.data(), set.count, 1);
    }
    pair.first->disarm();

    // then there is room, and every frame that was taken arrives
    CHECK(fabric::send(*pair.first, plain(1), payload, in(60s)));
    while (received < sent + 1) {
      const auto next = fabric::receive(*pair.second, in(60s));
      REQUIRE(next);
      pair.second->pop();
      pair.first->flush();
      ++received;
    }
    CHECK(pair.second->peek().value() == std::nullopt);
  }
}

TEST_CASE("a sender waits for a slow receiver and loses nothing") {
  for (const auto form : all_forms) {
    INFO("lane: ", name(form));
    auto pair = make_pair(form);
    constexpr std::uint64_t frames = 400;
    const std::vector<std::byte> payload(32 * 1024, std::byte{9});

    bool sent = true;
    std::thread sender{[&] {
      for (std::uint64_t i = 1; i <= frames && sent; ++i)
        sent = fabric::send(*pair.first, plain(i), payload, in(10s)).has_value();
      while (!pair.first->flush())
        std::this_thread::yield();
    }};
    std::uint64_t received = 0;
    for (; received < frames; ++received) {
      const auto got = receive_asleep(*pair.second, in(10s));
      if (!got || got->header.call != call_id{received + 1})
        break;
      pair.second->pop();
    }
    sender.join();

    CHECK(sent);
    CHECK(received == frames);
  }
}

TEST_CASE("C5: every wait ends at its deadline") {
  for (const auto form : all_forms) {
    INFO("lane: ", name(form));
    auto pair = make_pair(form);
    const std::vector<std::byte> payload(16 * 1024);

    auto began = base::now();
    CHECK(fabric::receive(*pair.first, in(30ms)).error().code == fault::timeout);
    CHECK(base::now() - began >= 30ms);
    CHECK(base::now() - began < 20s);

    fill(*pair.first, payload);
    protocols::result<void> sent;
    for (int i = 0; i < 100 && sent; ++i) { // a kernel that was full may move bytes to the peer's side and take more
      began = base::now();
      sent = fabric::send(*pair.first, plain(), payload, in(30ms));
    }
    REQUIRE_FALSE(sent);
    CHECK(sent.error().code == fault::timeout);
    CHECK(base::now() - began >= 30ms);
    CHECK(base::now() - began < 20s);

    CHECK(fabric::receive(*pair.first, base::now() - 1s).error().code == fault::timeout);
  }
}

TEST_CASE("C17, C44: of a frame that a lane refuses nothing is sent: the peer sees whole frames or none") {
  for (const auto form : all_forms) {
    INFO("lane: ", name(form));
    auto pair = make_pair(form);
    const std::vector<std::byte> payload(16 * 1024, std::byte{7});
    std::uint64_t taken = 0;
    for (int refused = 0; refused < 3;) { // a kernel may make room meanwhile
      const auto sent = pair.first->try_send(plain(taken + 1), payload);
      taken += sent ? 1 : 0;
      refused += sent ? 0 : 1;
    }
    CHECK(pair.first->try_send(plain(), std::vector<std::byte>(payload_max + 1)).error().code ==
          fault::frame_too_long); // after its header nothing could stop it any more
    std::thread closer{[&] {
      while (!pair.first->flush())
        std::this_thread::yield();
      pair.first->close();
    }};

    for (std::uint64_t i = 1; i <= taken; ++i) {
      const auto got = fabric::receive(*pair.second, in(60s));
      REQUIRE(got);
      CHECK(got->header.call == call_id{i});
      CHECK(equal(got->payload, payload));
      pair.second->pop();
    }
    closer.join();
    CHECK(fabric::receive(*pair.second, in(60s)).error().code == fault::peer_gone);
  }
}

TEST_CASE("a frame longer than its limit is not sent, and the lane goes on") {
  for (const auto form : all_forms) {
    INFO("lane: ", name(form));
    auto pair = make_pair(form);

    const auto sent = pair.first->try_send(plain(), std::vector<std::byte>(payload_max + 1));
    REQUIRE_FALSE(sent);
    CHECK(sent.error().code == fault::frame_too_long);

    REQUIRE(pair.first->try_send(plain(), std::vector<std::byte>(payload_max)));
    const auto got = fabric::receive(*pair.second, in(60s));
    REQUIRE(got);
    CHECK(got->payload.size() == payload_max);
    CHECK(got->header.sequence == 1);
  }
}

TEST_CASE("C15: what was sent before closing is delivered, then the peer is gone") {
  for (const auto form : all_forms) {
    INFO("lane: ", name(form));
    auto pair = make_pair(form);
    for (std::uint64_t i = 1; i <= 3; ++i)
      REQUIRE(pair.first->try_send(plain(i), {}));
    pair.first->close();

    for (std::uint64_t i = 1; i <= 3; ++i) {
      const auto got = fabric::receive(*pair.second, in(60s));
      REQUIRE(got);
      CHECK(got->header.call == call_id{i});
      pair.second->pop();
    }
    const auto began = base::now();
    CHECK(fabric::receive(*pair.second, in(60s)).error().code == fault::peer_gone);
    CHECK(base::now() - began < 20s);
    CHECK(pair.second->peek().error().code == fault::peer_gone);
    CHECK(pair.second->try_send(plain(), {}).error().code == fault::peer_gone);
    CHECK_FALSE(pair.second->arm({}));
    CHECK(pair.first->try_send(plain(), {}).error().code == fault::peer_gone);
  }
}

TEST_CASE("C15: a sender that sleeps on a full lane learns at once that its peer is gone") {
  for (const auto form : all_forms) {
    INFO("lane: ", name(form));
    auto pair = make_pair(form);
    const std::vector<std::byte> payload(16 * 1024);
    fill(*pair.first, payload);

    std::thread closer{[&] { pair.second->close(); }};
    const auto began = base::now();
    auto sent = fabric::send(*pair.first, plain(), payload, in(10s));
    while (sent) // a socket may have found room before the end came
      sent = fabric::send(*pair.first, plain(), payload, in(10s));
    closer.join();

    REQUIRE_FALSE(sent);
    CHECK(sent.error().code == fault::peer_gone);
    CHECK(base::now() - began < 20s);
  }
}

TEST_CASE("a caller that only peeks learns of its peer's end") {
  for (const auto form : all_forms) {
    INFO("lane: ", name(form));
    auto pair = make_pair(form);
    pair.second->close();

    const auto deadline = in(60s);
    auto seen = pair.first->peek();
    while (seen && base::now() < deadline)
      seen = pair.first->peek();
    REQUIRE_FALSE(seen);
    CHECK(seen.error().code == fault::peer_gone);
  }
}

TEST_CASE("one wait covers many lanes and wakes for any of them") {
  std::vector<lane_pair> pairs;
  std::vector<fabric::waiting> waits;
  for (int i = 0; i < 6; ++i) {
    pairs.push_back(make_pair(all_forms[i % 3]));
    waits.push_back({pairs.back().second.get(), {.readable = true, .writable = false}});
  }
  std::vector<pollfd> scratch;
  for (std::size_t which = 0; which < pairs.size(); ++which) {
    INFO("lane: ", which);
    CHECK(fabric::wait_any(waits, in(1ms), scratch).error().code == fault::timeout);
    REQUIRE(pairs[which].first->try_send(plain(), {}));
    REQUIRE(fabric::wait_any(waits, in(60s), scratch));
    for (std::size_t i = 0; i < pairs.size(); ++i)
      CHECK(pairs[i].second->peek().value().has_value() == (i == which));
    pairs[which].second->pop();
  }
}

TEST_CASE("small frames stay within the first pages of a ring") {
  // given a lane whose rings have 32 MiB each
  const auto resident = [] {
    rusage use{};
    ::getrusage(RUSAGE_SELF, &use);
    return use.ru_maxrss; // KiB, highest so far
  };
  const fabric::lane_options large{.frame_bytes_max = 16 << 20, .in_flight_bytes_max = 32 << 20};
  auto pair = make_pair(lane_form::shared_memory, large);
  const auto before = resident();

  // when 64 MiB of small frames have passed
  const std::vector<std::byte> payload(960);
  for (int i = 0; i < 65'536; ++i) {
    REQUIRE(pair.first->try_send(plain(), payload));
    REQUIRE(pair.second->peek().value());
    pair.second->pop();
  }

  // then what they touched is less than one ring
  CHECK(resident() - before < 4 * 1024);
}
