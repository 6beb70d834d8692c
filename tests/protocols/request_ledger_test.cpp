#include "protocols/serve/request_ledger.hpp"
#include "protocols/serve/roles.hpp"

#include <doctest/doctest.h>

#include "tests/protocols/serve_fixture.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

struct order {
  request_id request;
  std::uint32_t deadline_ms = 60'000;
  std::uint64_t tokens = 16;
  std::size_t pictures = 1;
};
enum class stage { waits, runs };
struct progress {
  stage at = stage::waits;
};
using effects = std::vector<std::variant<send_message>>;

/// Of the prefill cell of two ranks: four blocks, two row slots, three requests.
struct fixture {
  using ledger = request_ledger<order, progress>;

  explicit fixture(lent_memory lends = lent_memory::row_slots)
      : of(plan.cell(plan.cells_of(serve_role::prefill)[0]), {.front = front_rank,
                                                              .role = "prefill",
                                                              .kv_blocks = 4,
                                                              .row_slots = 2,
                                                              .requests_max = 3,
                                                              .lends = lends,
                                                              .needs = [](const order& one) {
                                                                return cell_needs{one.tokens, one.pictures};
                                                              }}) {}

  cluster_plan plan = reader_plan();
  ledger of;
  effects out;

  void take(std::uint64_t request, std::uint64_t tokens = 16, std::size_t pictures = 1) {
    of.take(order{.request = request_id{request}, .tokens = tokens, .pictures = pictures}, at(0ms), out);
  }
  std::uint64_t start() {
    const auto which = of.start_next();
    return which == of.none() ? 0 : which->first.value;
  }
  void end(std::uint64_t request) { of.end(of.find(request_id{request}), out); }
  std::vector<fault> refusals() const {
    std::vector<fault> all;
    for (const auto& [to, what] : sent<error>(out))
      all.push_back(static_cast<fault>(what.code));
    return all;
  }
};

} // namespace

TEST_CASE("F13, K2: what a request lends rests until the last rank is quiet, and the rest is free at once") {
  for (const auto lends : {lent_memory::row_slots, lent_memory::kv_blocks}) {
    const bool blocks_rest = lends == lent_memory::kv_blocks;
    CAPTURE(blocks_rest);
    fixture cell{lends};
    cell.take(1, 64, 2); // all there is
    CHECK(cell.start() == 1);
    cell.end(1);
    cell.take(2, 64, 0);
    cell.take(3, 16, 2);
    CHECK(cell.start() == (blocks_rest ? 0 : 2)); // needs the blocks
    if (!blocks_rest)
      cell.end(2);
    CHECK(cell.start() == 0); // needs the slots, or stands behind who needs the blocks
    CHECK_FALSE(cell.of.on_quiet(request_id{1}, 0));
    CHECK_FALSE(cell.of.on_quiet(request_id{1}, 0));
    CHECK_FALSE(cell.of.on_quiet(request_id{1}, 2)); // of no rank
    CHECK(cell.start() == 0);
    CHECK(cell.of.on_quiet(request_id{1}, 1));
    CHECK(cell.start() == (blocks_rest ? 2 : 3));
  }
}

TEST_CASE_FIXTURE(fixture, "D10: an order that comes again while it waits, runs or rests is served once") {
  take(1);
  take(1);
  CHECK(of.requests() == 1);
  CHECK(start() == 1);
  take(1);
  CHECK(start() == 0);
  end(1);
  for (std::uint64_t id = 100; id < 100 + 2 * tombstones::kept_max; ++id)
    of.on_cancel(request_id{id}); // until its end has been forgotten
  CHECK_FALSE(of.has_ended(request_id{1}));
  take(1);
  CHECK(of.requests() == 0);
  CHECK(sent<ack>(out).size() == 1);
}

TEST_CASE_FIXTURE(fixture, "A12: what is too much for the cell, or for its line, is refused by name") {
  take(1, 65);
  take(2, 16, 3);
  CHECK(refusals() == std::vector{fault::no_memory, fault::no_memory});
  take(3);
  take(4);
  CHECK(start() == 3);
  take(5);
  take(6);
  CHECK(refusals().back() == fault::queue_full);
  CHECK(of.requests() == 3);
}

TEST_CASE_FIXTURE(fixture, "C15: a request that is cancelled before it starts never starts, and blocks nobody") {
  take(1, 64);
  take(2, 64);
  take(3, 16);
  CHECK(start() == 1);
  CHECK(of.on_cancel(request_id{2}) == of.none());
  CHECK(of.on_cancel(request_id{9}) == of.none()); // before its order
  CHECK(of.on_cancel(request_id{1}) != of.none()); // the leader's to end
  end(1);
  CHECK(start() == 3);
  take(2);
  take(9);
  CHECK(of.requests() == 1);
}

TEST_CASE_FIXTURE(fixture, "B15: a failed vote ends its request with that cause, and a cancelled one without a word") {
  using vote = ledger::vote_result;
  for (std::uint64_t id = 1; id <= 2; ++id) {
    take(id);
    CHECK(start() == id);
  }
  const auto first = of.find(request_id{1});
  CHECK(of.on_vote(first, {admission::done, admission::pending}, "why", out) == vote::pending);
  CHECK(of.on_vote(first, {admission::done, admission::done}, "why", out) == vote::whole);
  CHECK(of.on_vote(first, {admission::failed, admission::done}, "why", out) == vote::ended);
  CHECK(refusals() == std::vector{fault::not_admitted});
  const auto second = of.find(request_id{2});
  second->second.ending = failure{fault::cancelled, {}};
  CHECK(of.on_vote(second, {admission::failed}, "why", out) == vote::ended);
  CHECK(refusals().size() == 1);
  CHECK(of.requests() == 0);
}
