#include <doctest/doctest.h>

#include <chrono>

#include "protocols/cluster/first_cause_machine.hpp"
#include "runtime/base/exit_code.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;
using troupe::base::exit_code;

static_assert(exit_supervisor_gone == static_cast<int>(exit_code::supervisor_gone));
static_assert(exit_peer_gone == static_cast<int>(exit_code::peer_gone));

namespace {

constexpr auto grace = 200ms;

time_point at(duration since_start) {
  return time_point{since_start};
}

first_cause_machine three_ranks() {
  return first_cause_machine{{{"front", "h1"}, {"prefill.0/t0", "h1"}, {"prefill.0/t1", "h2"}}, grace};
}

const rank_end killed{rank_end::kind::signalled, 9, "Killed"};
const rank_end lost_peer{rank_end::kind::exited, exit_peer_gone, "peer_gone"};
const rank_end executor{rank_end::kind::exited, 74, "executor"};

error terminal(fault code, std::string message, rank_id origin = rank_id{2}) {
  return {.code = static_cast<std::uint16_t>(code),
          .message = std::move(message),
          .origin = origin,
          .call = call_id{17},
          .where = "prefill",
          .request = {}};
}

} // namespace

TEST_CASE("C1: a rank killed by a signal is the first cause at once") {
  auto supervision = three_ranks();

  const auto cause = supervision.on_end(rank_id{2}, killed, life_state::ready, at(1s));

  REQUIRE(cause);
  CHECK(cause->rank == rank_id{2});
  CHECK(cause->text == "rank 2 (prefill.0/t1) on h2 was killed by signal 9 (Killed) while ready");
  CHECK_FALSE(supervision.on_end(rank_id{1}, killed, life_state::ready, at(1s)));
  CHECK_FALSE(supervision.on_tick(at(10s)));
}

TEST_CASE("A11: what a rank said before it left stands in the cause") {
  auto supervision = three_ranks();
  supervision.on_error(rank_id{2}, terminal(fault::executor_failed, "out of memory"), rank_id{2}, life_state::ready,
                       at(1s));

  const auto cause = supervision.on_end(rank_id{2}, executor, life_state::ready, at(1s));

  REQUIRE(cause);
  CHECK(cause->call == call_id{17});
  CHECK(cause->where == "prefill");
  CHECK(cause->text == "rank 2 (prefill.0/t1) on h2 left with exit code 74 (executor) while ready; it said: "
                       "executor_failed: out of memory (call 17, prefill)");
}

TEST_CASE("C24: a rank that left because of another is not the cause, even if it is seen first") {
  for (const bool said_so : {false, true}) {
    CAPTURE(said_so);
    auto supervision = three_ranks();
    if (said_so)
      supervision.on_error(rank_id{1}, terminal(fault::peer_gone, "prefill.0/t1", rank_id{1}), rank_id{1},
                           life_state::ready, at(1s));
    CHECK_FALSE(supervision.on_end(rank_id{1}, lost_peer, life_state::ready, at(1s)));
    CHECK_FALSE(supervision.on_tick(at(1s + grace - 1ns)));

    const auto cause = supervision.on_end(rank_id{2}, killed, life_state::ready, at(1s + grace - 1ns));

    REQUIRE(cause);
    CHECK(cause->rank == rank_id{2});
  }
}

TEST_CASE("C24: a consequence without a cause is named after the grace, as what it is") {
  auto supervision = three_ranks();
  REQUIRE_FALSE(supervision.on_end(rank_id{1}, lost_peer, life_state::ready, at(1s)));
  REQUIRE_FALSE(supervision.on_end(rank_id{0}, lost_peer, life_state::ready, at(1s)));

  const auto cause = supervision.on_tick(at(1s + grace));

  REQUIRE(cause);
  CHECK(cause->text == "rank 1 (prefill.0/t0) on h1 left with exit code 72 (peer_gone) while ready; no rank was seen "
                       "to fail before it");
  CHECK_FALSE(supervision.on_tick(at(2s)));
  CHECK_FALSE(supervision.conclude());
}

TEST_CASE("C1: a rank that reports its own fault and does not leave is blamed after the grace") {
  auto supervision = three_ranks();
  supervision.on_error(rank_id{1}, terminal(fault::peer_gone, "prefill.0/t1", rank_id{1}), rank_id{1}, life_state::warm,
                       at(1s));
  supervision.on_error(rank_id{2}, terminal(fault::plan_mismatch, "one too many"), rank_id{2}, life_state::warm,
                       at(1s));

  const auto cause = supervision.on_tick(at(1s + grace));

  REQUIRE(cause);
  CHECK(cause->text ==
        "rank 2 (prefill.0/t1) on h2 failed while warm and had not left; it said: plan_mismatch: one too "
        "many (call 17, prefill)");
}

TEST_CASE("C29: an error of one request is no failure of its rank") {
  auto supervision = three_ranks();
  auto said = terminal(fault::transfer_failed, "slot 3");
  said.request = request_id{5};
  supervision.on_error(rank_id{2}, said, rank_id{2}, life_state::ready, at(1s));

  CHECK_FALSE(supervision.on_tick(at(10s)));
  CHECK_FALSE(supervision.conclude());
}

TEST_CASE("C1: a rank that leaves with code 0 though nobody asked is a cause") {
  auto supervision = three_ranks();

  CHECK(supervision.on_end(rank_id{0}, {rank_end::kind::exited, 0, "done"}, life_state::warm, at(0s))->text ==
        "rank 0 (front) on h1 left with exit code 0 (done) while warm");
}

TEST_CASE(
    "C12: the last words of a rank that tells its supervisor nothing stand in the cause, beside an error they do not") {
  rank_end watchdog{rank_end::kind::exited, 75, "watchdog", "watchdog: a step completes nothing for 4000 ms: leaving"};
  CHECK(three_ranks()
            .on_end(rank_id{1}, watchdog, life_state::ready, at(1s))
            ->text.ends_with("left with exit code 75 (watchdog) while ready; its last words: watchdog: a step "
                             "completes nothing for 4000 ms: "
                             "leaving"));

  auto supervision = three_ranks();
  supervision.on_error(rank_id{1}, terminal(fault::executor_failed, "out of memory", rank_id{1}), rank_id{1},
                       life_state::ready, at(1s));
  const auto told = supervision.on_end(rank_id{1}, watchdog, life_state::ready, at(1s))->text;
  CHECK(told.find("it said: executor_failed: out of memory") != told.npos);
  CHECK(told.find("last words") == told.npos);
}

TEST_CASE("C24, K14: what is said of a rank that stays is judged in its own grace, though another was lost meanwhile") {
  auto supervision = three_ranks();
  supervision.on_error(rank_id{0}, terminal(fault::timeout, "silent", rank_id{2}), rank_id{2}, life_state::ready,
                       at(1s));
  supervision.on_error(rank_id{0}, terminal(fault::peer_gone, "cut", rank_id{1}), rank_id{1}, life_state::ready,
                       at(1s + 150ms));
  REQUIRE(supervision.on_tick(at(1s + grace))->rank == rank_id{2});

  supervision.begin_anew(std::vector{rank_id{2}});

  CHECK_FALSE(supervision.on_tick(at(1s + grace)));
  CHECK_FALSE(supervision.on_tick(at(1s + 150ms + grace - 1ns)));
  const auto cause = supervision.on_tick(at(1s + 150ms + grace));
  REQUIRE(cause);
  CHECK(cause->rank == rank_id{1});
  CHECK(cause->text == "rank 1 (prefill.0/t0) on h1 cannot be used: rank 0 (front) on h1 says: peer_gone: cut (call "
                       "17, prefill); no rank was seen to fail before it");
}

TEST_CASE("K14: what a rank that is lost has said, and what was said of it, costs nobody anything once it is lost") {
  auto supervision = three_ranks();
  supervision.on_error(rank_id{1}, terminal(fault::timeout, "silent", rank_id{0}), rank_id{0}, life_state::ready,
                       at(1s));
  supervision.on_error(rank_id{0}, terminal(fault::timeout, "silent", rank_id{1}), rank_id{1}, life_state::ready,
                       at(1s));
  supervision.on_error(rank_id{1}, terminal(fault::executor_failed, "out of memory", rank_id{1}), rank_id{1},
                       life_state::ready, at(1s));
  REQUIRE(supervision.on_end(rank_id{1}, killed, life_state::ready, at(1s)));

  supervision.begin_anew(std::vector{rank_id{1}});

  CHECK_FALSE(supervision.on_tick(at(1h)));
  CHECK_FALSE(supervision.conclude());
  const auto next = supervision.on_end(rank_id{1}, killed, life_state::spawned, at(1h)); // its successor
  REQUIRE(next);
  CHECK(next->text == "rank 1 (prefill.0/t0) on h1 was killed by signal 9 (Killed) while spawned");
}

TEST_CASE("K14: each complainant counts: the first one's loss does not hide what a rank that stays has said after it") {
  auto supervision = three_ranks();
  supervision.on_error(rank_id{2}, terminal(fault::peer_gone, "cut", rank_id{1}), rank_id{1}, life_state::ready,
                       at(1s));
  supervision.on_error(rank_id{0}, terminal(fault::peer_gone, "cut", rank_id{1}), rank_id{1}, life_state::ready,
                       at(1s + 50ms));
  REQUIRE(supervision.on_end(rank_id{2}, killed, life_state::ready, at(1s + 100ms)));

  supervision.begin_anew(std::vector{rank_id{2}});

  CHECK_FALSE(supervision.on_tick(at(1s + 50ms + grace - 1ns)));
  const auto cause = supervision.on_tick(at(1s + 50ms + grace));
  REQUIRE(cause);
  CHECK(cause->rank == rank_id{1});
  CHECK(cause->text.starts_with("rank 1 (prefill.0/t0) on h1 cannot be used: rank 0 (front) on h1 says: peer_gone"));
}
