// Cancels, losses, pauses and late words against the machines that lend memory: whoever is late, no write reaches
// memory that has another tenant, and memory comes back.

#include <doctest/doctest.h>

#include "lent_company.hpp"
#include "protocols/serve/roles.hpp"

using namespace troupe::protocols;
using namespace troupe::protocols::testing;

namespace {

using ending = company::ending;

constexpr rank_id encode_leader{1};
cell_id decode_cell_of(const cluster_plan& plan) {
  return plan.cells_of(serve_role::decode)[0];
}

enum class when { queued, before_pixels, tower, rows, voting, running, sending };
enum class late {
  nobody,
  front_to_prefill,
  front_to_decode,
  front_to_encode,
  prefill_leader,
  prefill_member,
  encode_rank,
  engine
};
enum class then { same_generation, encode_killed, prefill_killed, decode_killed };

const char* words(when what) {
  switch (what) {
  case when::queued:
    return "queued";
  case when::before_pixels:
    return "before its pixels";
  case when::tower:
    return "in the tower";
  case when::rows:
    return "rows on their way";
  case when::voting:
    return "voting";
  case when::running:
    return "in the forward";
  case when::sending:
    return "keys and values on their way";
  }
  return "";
}

void make_late(company& all, late who, duration time) {
  const auto& prefill = all.plan.cell(all.plan.cells_of(serve_role::prefill)[0]);
  switch (who) {
  case late::nobody:
    break;
  case late::front_to_prefill:
    all.slow_front(prefill.leader(), time);
    break;
  case late::front_to_decode:
    all.slow_front(all.plan.cell(decode_cell_of(all.plan)).leader(), time);
    break;
  case late::front_to_encode:
    all.slow_front(encode_leader, time);
    break;
  case late::prefill_leader:
    all.pause(prefill.ranks[0], time);
    break;
  case late::prefill_member:
    all.pause(prefill.ranks[1], time);
    break;
  case late::encode_rank:
    all.pause(encode_leader, time);
    break;
  case late::engine:
    all.stop_engine(encode_leader, time);
    all.stop_engine(prefill.ranks[0], time);
    all.stop_engine(prefill.ranks[1], time);
    break;
  }
}

/// The request has come so far, or as far as it comes.
void wait_for(company& all, when stage) {
  const auto prefill = all.plan.cell(all.plan.cells_of(serve_role::prefill)[0]).leader();
  const auto reached = [&] {
    switch (stage) {
    case when::queued:
    case when::before_pixels:
      return true;
    case when::tower:
      return all.is_running(encode_leader);
    case when::rows:
      return all.has_posted(memory::rows);
    case when::voting:
      return !all.has_posted(memory::rows) && !all.is_running(encode_leader);
    case when::running:
      return all.is_running(prefill);
    case when::sending:
      return all.has_posted(memory::blocks);
    }
    return true;
  };
  if (stage == when::voting)
    REQUIRE(all.run_until([&] { return all.has_posted(memory::rows); }, 2s));
  REQUIRE(all.run_until(reached, 2s));
}

void strike(company& all, then what) {
  switch (what) {
  case then::same_generation:
    break;
  case then::encode_killed:
    all.kill(all.plan.cells_of(serve_role::encode)[0]);
    break;
  case then::prefill_killed:
    all.kill(all.plan.cells_of(serve_role::prefill)[0]);
    break;
  case then::decode_killed:
    all.kill(decode_cell_of(all.plan));
    break;
  }
}

} // namespace

TEST_CASE("K1, K2: whatever a request was at when it was cancelled, whoever is late and whoever dies, its writes reach "
          "no other tenant, and its memory is lent again") {
  std::size_t cells = 0;
  for (const auto stage :
       {when::queued, when::before_pixels, when::tower, when::rows, when::voting, when::running, when::sending})
    for (const auto who : {late::nobody, late::front_to_prefill, late::front_to_decode, late::front_to_encode,
                           late::prefill_leader, late::prefill_member, late::encode_rank, late::engine})
      for (const auto next : {then::same_generation, then::encode_killed, then::prefill_killed, then::decode_killed})
        for (const std::uint32_t deadline_ms : {60'000u, 5'000u}) { // the lease outlives the lateness, or ends in it
          CAPTURE(words(stage));
          CAPTURE(static_cast<int>(who));
          CAPTURE(static_cast<int>(next));
          CAPTURE(deadline_ms);
          company all{{.pixel_slots = 1, .row_slots = 1, .decode_blocks = 2}};
          if (stage == when::queued)
            (void)all.ask({.encode = 1, .prefill = 0}); // holds what the next one waits for
          const auto first = all.ask({.encode = 0, .prefill = 0, .deadline_ms = deadline_ms});
          wait_for(all, stage);
          make_late(all, who, 12s);
          all.cancel(first);
          strike(all, next);
          // The other prefill cell, and then the same one again, are lent what the first one had.
          const auto second = all.ask({.encode = 1, .prefill = 1});
          all.run(200ms);
          const auto third = all.ask({.encode = 0, .prefill = 0});
          const auto fourth = all.ask({.encode = 1, .prefill = 1, .picture = false});
          CHECK(all.run_until([&] { return all.ended(second) && all.ended(third) && all.ended(fourth); }, 90s));
          CHECK(all.strays() == std::vector<std::string>{});
          if (next == then::same_generation) {
            CHECK(all.end_of(second) == ending::answered);
            CHECK(all.end_of(third) == ending::answered);
            CHECK(all.end_of(fourth) == ending::answered);
          }
          const auto last = all.ask({.encode = 0, .prefill = 0});
          CHECK(all.run_until([&] { return all.ended(last); }, 30s));
          CHECK(all.end_of(last) == ending::answered);
          CHECK(all.strays() == std::vector<std::string>{});
          ++cells;
        }
  CHECK(cells == 7 * 8 * 4 * 2);
}

TEST_CASE(
    "K1, K2, K3: in random walks of cancels, kills, pauses and overload no write reaches another tenant, and in the "
    "end everything is served") {
  std::size_t answered = 0;
  std::size_t writes = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random{seed};
    const auto draw = [&](std::uint64_t below) { return static_cast<std::uint32_t>(random() % below); };
    company all{{.pixel_slots = 1 + draw(2),
                 .row_slots = 1 + draw(2),
                 .decode_blocks = 2 + 2 * draw(3),
                 .tower = duration{std::chrono::milliseconds{1 + draw(200)}},
                 .forward = duration{std::chrono::milliseconds{1 + draw(400)}},
                 .answer = duration{std::chrono::milliseconds{1 + draw(100)}}}};
    std::vector<request_id> asked;
    for (int turn = 0; turn < 120; ++turn) {
      const auto some_rank = rank_id{1 + draw(all.plan.ranks.size() - 1)};
      const auto time = std::chrono::milliseconds{draw(draw(8) == 0 ? 15'000 : 400)};
      switch (draw(12)) {
      case 0:
      case 1:
      case 2:
      case 3:
        asked.push_back(all.ask({.encode = draw(2), .prefill = draw(2), .picture = draw(4) != 0}));
        break;
      case 4:
      case 5:
        if (!asked.empty())
          all.cancel(asked[draw(asked.size())]);
        break;
      case 6:
        all.pause(some_rank, time);
        break;
      case 7:
        all.stop_engine(some_rank, time);
        break;
      case 8:
        all.slow_executor(some_rank, time);
        break;
      case 9:
        all.slow_lane(rank_id{draw(all.plan.ranks.size())}, some_rank, time);
        break;
      case 10:
        all.slow_lane(rank_id{draw(all.plan.ranks.size())}, some_rank, 1ms);
        break;
      default:
        if (draw(3) == 0)
          all.kill(cell_id{1 + draw(all.plan.cells.size() - 1)}, std::chrono::milliseconds{5 + draw(50)});
      }
      all.run(std::chrono::milliseconds{draw(60)});
    }
    for (std::uint32_t from = 0; from < all.plan.ranks.size(); ++from)
      for (std::uint32_t to = 0; to < all.plan.ranks.size(); ++to)
        all.slow_lane(rank_id{from}, rank_id{to}, 1ms);
    CHECK(
        all.run_until([&] { return std::ranges::all_of(asked, [&](request_id id) { return all.ended(id); }); }, 200s));
    CHECK(all.strays() == std::vector<std::string>{});
    const auto last = all.ask({.encode = 0, .prefill = 1});
    CHECK(all.run_until([&] { return all.ended(last); }, 30s));
    CHECK(all.end_of(last) == ending::answered); // everything that was lent has come back
    answered += static_cast<std::size_t>(
        std::ranges::count_if(asked, [&](request_id id) { return all.end_of(id) == ending::answered; }));
    writes += all.writes();
  }
  CHECK(answered > 500); // the walks go to the ends of answers
  CHECK(writes > 5000);
}
