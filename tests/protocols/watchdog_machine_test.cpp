#include "protocols/cluster/watchdog_machine.hpp"

#include <doctest/doctest.h>

#include "protocols/mesh/collective_kind.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

time_point at(duration since_start) {
  return time_point{since_start};
}

using verdict = liveness_judge::liveness;
using trouble = watchdog_machine::trouble;

/// heartbeat 200 ms, suspect 1 s, kill 2 s, progress 4 s; everybody lives until told otherwise.
struct rank {
  const std::vector<rank_id> peers{rank_id{1}, rank_id{2}};
  watchdog_machine machine{{}, 2, peers};
  time_point now = at(0s);
  std::uint64_t beats = 0;

  std::vector<watchdog_machine::thread_view> threads{{}, {}};
  std::vector<watchdog_machine::peer_view> seen{{rank_id{1}, true, {}, 0}, {rank_id{2}, true, {}, 0}};
  bool wire_lives = true;
  std::vector<bool> peer_lives{true, true};
  std::uint64_t wire_turns = 0;

  std::optional<watchdog_machine::finding> look() {
    now += 200ms;
    ++beats;
    wire_turns += wire_lives ? 1 : 0;
    for (std::size_t i = 0; i < seen.size(); ++i)
      seen[i].heard += peer_lives[i] ? 1 : 0;
    return machine.on_sample({threads, seen, wire_turns}, now);
  }
  /// Time until something is found.
  duration time_to_find(watchdog_machine::finding& found) {
    const auto began = now;
    while (now < began + 20s)
      if (const auto news = look()) {
        found = *news;
        return now - began;
      }
    return 0s;
  }
};

} // namespace

TEST_CASE("C4: a pulse that stands still is suspected, then given up, and a new beat clears it") {
  liveness_judge judge{{.suspect = 1s, .silent = 2s, .look = 400ms}};
  CHECK(judge.on_sample(5, at(0s)) == verdict::alive);
  for (auto now = 200ms; now < 1000ms; now += 200ms)
    CHECK(judge.on_sample(5, at(now)) == verdict::alive);
  CHECK(judge.on_sample(5, at(1000ms)) == verdict::suspected);
  CHECK(judge.on_sample(6, at(1200ms)) == verdict::alive);
  for (auto now = 1400ms; now < 3200ms; now += 200ms)
    CHECK(judge.on_sample(6, at(now)) != verdict::silent);
  CHECK(judge.on_sample(6, at(3200ms)) == verdict::silent);
  CHECK(judge.silent_for() == 2s);
}

TEST_CASE("C4, C13: one that could run and is not let run has more time, and not for ever") {
  liveness_judge judge{{.suspect = 1s, .silent = 2s, .look = 400ms, .starved = 8s}};
  CHECK(judge.on_sample(5, at(0s)) == verdict::alive);
  CHECK(judge.excuse(true) == verdict::alive);
  for (auto now = 200ms; now < 2000ms; now += 200ms)
    CHECK(judge.on_sample(5, at(now)) != verdict::silent);
  CHECK(judge.excuse(true) == verdict::suspected);
  for (auto now = 2000ms; now < 8000ms; now += 200ms) {
    CHECK(judge.on_sample(5, at(now)) == verdict::silent); // whoever is stopped, or waits for what does not come
    CHECK(judge.excuse(false) == verdict::silent);
    CHECK(judge.excuse(true) == verdict::suspected);
  }
  CHECK(judge.on_sample(5, at(8000ms)) == verdict::silent);
  CHECK(judge.excuse(true) == verdict::silent);
  CHECK(judge.on_sample(6, at(8200ms)) == verdict::alive);

  liveness_judge strict{{.suspect = 1s, .silent = 2s, .look = 400ms}};
  (void)strict.on_sample(5, at(0s));
  for (auto now = 400ms; now <= 2000ms; now += 400ms)
    (void)strict.on_sample(5, at(now));
  CHECK(strict.excuse(true) == verdict::silent);
}

TEST_CASE("C4: time in which the judge itself was stopped is nobody's silence") {
  liveness_judge judge{{.suspect = 1s, .silent = 2s, .look = 400ms}};
  CHECK(judge.on_sample(5, at(0s)) == verdict::alive);
  CHECK(judge.on_sample(5, at(1h)) == verdict::alive);
  CHECK(judge.silent_for() == 400ms);
}

TEST_CASE("C4: a rank that gets on finds nothing, idle or busy, for an hour") {
  rank here;
  for (int i = 0; i < 18'000; ++i) {
    here.threads[0] = {.computes = i % 3 != 0, .waits = false, .progress = static_cast<std::uint64_t>(i / 10)};
    REQUIRE_FALSE(here.look());
  }
}

TEST_CASE("C12: a thread that computes and completes nothing is wedged, one that waits is not") {
  rank here;
  here.threads[0] = {.computes = false, .waits = false, .progress = 7};
  here.threads[1] = {.computes = true, .waits = false, .progress = 9};
  watchdog_machine::finding found;

  CHECK(here.time_to_find(found) == 4200ms);
  CHECK(found.what == trouble::wedged);
  CHECK(found.subject == 1);
  CHECK(found.since == 4s);
}

TEST_CASE(
    "C12: a thread that is inside a collective beyond its deadline and progress_ms is wedged, though no peer waits") {
  rank here;
  here.threads[1] = {.computes = false, .waits = true, .progress = 9};
  watchdog_machine::finding found;

  const cluster_spec::timeouts_section timeouts;
  const auto within = std::chrono::milliseconds{timeouts.collective_ms + timeouts.progress_ms};
  CHECK(here.time_to_find(found) == within + 200ms);
  CHECK(found.what == trouble::waits_long);
  CHECK(found.subject == 1);
  CHECK(found.since == within);

  rank other;
  for (int i = 0; i < 1'000; ++i) { // one after the other, each in its time
    other.threads[1] = {.computes = false, .waits = true, .progress = static_cast<std::uint64_t>(i / 30)};
    REQUIRE_FALSE(other.look());
  }
}

TEST_CASE("C41, C43: a new generation of a peer is not named for the silence of the one before") {
  rank here;
  here.seen[1].born = generation{1};
  REQUIRE_FALSE(here.look());
  here.peer_lives[1] = false;
  for (int i = 0; i < 9; ++i)
    REQUIRE_FALSE(here.look()); // 1.8 s
  here.seen[1].born = generation{2};
  watchdog_machine::finding found;

  CHECK(here.time_to_find(found) == 2400ms);
  CHECK(found.subject == 2);
  CHECK(found.born == generation{2});
}

TEST_CASE("C41, C43: a peer whose link is silent is named, and again after as long a silence, heard meanwhile or not") {
  rank here;
  here.peer_lives[1] = false;
  watchdog_machine::finding found;

  CHECK(here.time_to_find(found) == 2200ms);
  CHECK(found.what == trouble::peer_silent);
  CHECK(found.subject == 2);
  CHECK(here.time_to_find(found) == 2200ms);
  CHECK(found.since == 2s);
  here.peer_lives[1] = true;
  REQUIRE_FALSE(here.look());
  here.peer_lives[1] = false;
  CHECK(here.time_to_find(found) == 2000ms);
}

TEST_CASE("C46: a peer that has closed its link is somebody else's to notice, and its next generation starts afresh") {
  rank here;
  here.peer_lives[1] = false;
  here.seen[1].linked = false;
  watchdog_machine::finding found;
  CHECK(here.time_to_find(found) == 0s);

  here.seen[1].linked = true;
  CHECK(here.time_to_find(found) == 2200ms);
}

TEST_CASE("C4: a stuck wire is given up after kill_ms") {
  rank here;
  watchdog_machine::finding found;
  here.wire_lives = false;
  CHECK(here.time_to_find(found) == 2200ms);
  CHECK(found.what == trouble::wire_wedged);
}

TEST_CASE(
    "C12: of a thread that stays in a collective it is said in which, of what group, and for whom where it is one") {
  const flight_record all{.call = call_id{17},
                          .number = 3,
                          .group = group_id{1},
                          .operation = static_cast<std::uint16_t>(collective_kind::all_reduce_sum),
                          .action = flight_action::collective};
  auto hop = all;
  hop.peer = rank_id{5};
  hop.operation = static_cast<std::uint16_t>(collective_kind::hop);
  std::array<char, 80> room{};
  CHECK(collective_words(all, "decode.0", room) == "waits in all_reduce_sum of group decode.0, call 17");
  CHECK(collective_words(hop, "decode.0", room) == "waits in hop of group decode.0, call 17, for rank 5");
  CHECK(collective_words(hop, "decode.0", std::span{room}.first(12)) == "waits in hop");
}
