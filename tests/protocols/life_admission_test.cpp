#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>

#include "protocols/cluster/life_machine.hpp"
#include "protocols/serve/roles.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

using life = life_machine;
using effects = life::effects;

time_point at(duration since_start) {
  return time_point{since_start};
}

const rank_end killed{rank_end::kind::signalled, 9, "Killed"};
const rank_end lost_peer{rank_end::kind::exited, exit_peer_gone, "peer gone"};
constexpr rank_id front{0};
constexpr rank_id encode_0{1};
constexpr rank_id encode_1{2};
constexpr rank_id prefill_t0{3};
constexpr rank_id prefill_t1{4};
constexpr rank_id decode_0{5};

/// front 0; encode cells 1 and 2; prefill mesh 3 and 4; decode cells 5 and 6. Each unit may be restarted `intensity`
/// times a minute.
struct company {
  cluster_plan plan = make_plan([] {
                        cluster_spec spec;
                        spec.pools = {{"front", serve_role::front},
                                      {"encode", serve_role::encode, 2},
                                      {"prefill", serve_role::prefill, 1, 2},
                                      {"decode", serve_role::decode, 2}};
                        return spec;
                      }())
                          .value();
  life machine;

  explicit company(std::uint32_t intensity = 1, std::uint32_t start_ms = 60'000, std::uint32_t kill_ms = 2000)
      : machine{plan,
                std::vector<std::string>(plan.ranks.size(), "h"),
                {.kill_ms = kill_ms, .start_ms = start_ms},
                {.intensity = intensity},
                at(0s)} {
    const auto everybody = all_but({});
    join(everybody, generation{1}, at(0s));
    for (const auto state : {life_state::grouped, life_state::warm, life_state::ready})
      reach(everybody, state, at(1s));
    REQUIRE(machine.current() == life::state::ready);
  }
  company(const company&) = delete;

  std::vector<rank_id> all_but(const std::vector<rank_id>& absent) const {
    std::vector<rank_id> out;
    for (const auto& rank : plan.ranks)
      if (std::ranges::find(absent, rank.id) == absent.end())
        out.push_back(rank.id);
    return out;
  }
  void join(const std::vector<rank_id>& ranks, generation born, time_point now) {
    for (const auto rank : ranks) {
      endpoint where;
      where.rank = rank;
      where.born = born;
      where.tcp_port = 1000;
      REQUIRE(machine.on_joined(rank, {where, 100}));
    }
    for (const auto rank : ranks)
      REQUIRE(machine.on_agree(rank, {{{"build", "a"}}}, now));
  }
  void reach(const std::vector<rank_id>& ranks, life_state state, time_point now) {
    for (const auto rank : ranks)
      REQUIRE(machine.on_progress(rank, {state, {}}, now));
  }

  /// These die, come back at `now`, and all others are ordered to admit them.
  void return_of(const std::vector<rank_id>& unit, time_point now) {
    for (const auto rank : unit)
      machine.on_end(rank, killed, now);
    REQUIRE(machine.current() == life::state::recovering);
    join(unit, machine.born(unit.front()), now);
  }
  void take_order(const std::vector<rank_id>& ranks, time_point now) {
    for (const auto rank : ranks)
      REQUIRE(machine.on_rejoined(rank, {machine.born(newcomer), 1}, now)->empty());
  }
  void admit(const std::vector<rank_id>& ranks, time_point now) {
    for (const auto rank : ranks)
      REQUIRE(machine.on_rejoined(rank, {machine.born(newcomer), 0}, now));
  }
  effects complain(rank_id from, rank_id of, fault code, std::string where, time_point now) {
    return machine.on_error(from,
                            {.code = static_cast<std::uint16_t>(code),
                             .message = "no edge",
                             .origin = of,
                             .call = {},
                             .where = std::move(where),
                             .request = {}},
                            now);
  }

  rank_id newcomer = encode_0;
};

/// What the person who waits is told of each loss.
std::vector<std::string> told(const effects& out) {
  std::vector<std::string> lines;
  for (const auto& effect : out)
    if (const auto* const one = std::get_if<life::news>(&effect))
      lines.push_back(one->line);
  return lines;
}

std::vector<rank_id> killed_by(const effects& out) {
  std::vector<rank_id> ranks;
  for (const auto& effect : out)
    if (const auto* const order = std::get_if<life::kill_ranks>(&effect))
      ranks = order->ranks;
  return ranks;
}

constexpr recovery_deadlines waits{cluster_spec::timeouts_section{}};
constexpr auto answers_within = waits.answer;

} // namespace

TEST_CASE("K14: a rank that stayed and stands still is lost, not the newcomer, whose restarts are not counted") {
  company c;
  c.return_of({encode_0}, at(10s));
  c.take_order(c.all_but({encode_0, prefill_t1}), at(10s));

  CHECK(c.machine.on_tick(at(10s) + answers_within - 1ns).empty());
  const auto out = c.machine.on_tick(at(10s) + answers_within);

  REQUIRE(told(out).size() == 1);
  CHECK(told(out)[0] == "rank 4 (prefill.0/t1) on h stayed and does not admit encode.0: it has not taken the order "
                        "within 4000 ms; restart 1 of at most 1 in 60 s");
  CHECK(killed_by(out) == std::vector{encode_0, prefill_t0, prefill_t1});

  // All three come back together, and the newcomer may still be restarted as often as before.
  for (const auto rank : {encode_0, prefill_t0, prefill_t1})
    c.machine.on_end(rank, killed, at(15s));
  c.join({encode_0, prefill_t0, prefill_t1}, generation{3}, at(16s));
  c.admit(c.all_but({encode_0, prefill_t0, prefill_t1}), at(16s));
  for (const auto state : {life_state::grouped, life_state::warm, life_state::ready})
    c.reach({encode_0, prefill_t0, prefill_t1}, state, at(17s));
  CHECK(c.machine.current() == life::state::ready);
}

TEST_CASE("K14: the one that stands still is named alone when its own restarts are used up") {
  company c;
  c.return_of({prefill_t0, prefill_t1}, at(10s));
  c.newcomer = prefill_t0;
  c.admit(c.all_but({prefill_t0, prefill_t1}), at(10s));
  for (const auto state : {life_state::grouped, life_state::warm, life_state::ready})
    c.reach({prefill_t0, prefill_t1}, state, at(11s));
  REQUIRE(c.machine.current() == life::state::ready);

  c.newcomer = encode_0;
  c.return_of({encode_0}, at(12s));
  c.take_order(c.all_but({encode_0, prefill_t1}), at(12s));
  c.machine.on_tick(at(12s) + answers_within);

  CHECK(c.machine.current() == life::state::aborting);
  for (const auto rank : c.all_but({decode_0}))
    c.machine.on_end(rank, killed, at(17s));
  const auto last = c.machine.on_end(decode_0, killed, at(17s));
  const auto& cause = std::get<life::cluster_ended>(last.back()).cause;
  CHECK(cause.starts_with("first cause: rank 4 (prefill.0/t1) on h stayed and does not admit encode.0"));
}

TEST_CASE("K14: several that stand still are lost at once, a front that does ends the cluster by its name") {
  company c;
  SUBCASE("two cells") {
    c.return_of({encode_0}, at(10s));
    c.take_order({front, encode_1, prefill_t0, decode_0}, at(10s));
    const auto out = c.machine.on_tick(at(10s) + answers_within);
    CHECK(told(out).size() == 2); // prefill.0 and decode.1
    CHECK(killed_by(out) == std::vector{encode_0, prefill_t0, prefill_t1, rank_id{6}});
  }
  SUBCASE("all of one cell, which counts once") {
    c.return_of({encode_0}, at(10s));
    c.take_order({front, encode_1, decode_0, rank_id{6}}, at(10s));
    CHECK(told(c.machine.on_tick(at(10s) + answers_within)).size() == 1);
    CHECK(c.machine.current() == life::state::recovering);
  }
  SUBCASE("the front") {
    c.return_of({encode_0}, at(10s));
    c.take_order(c.all_but({encode_0, front}), at(10s));
    const auto out = c.machine.on_tick(at(10s) + answers_within);
    CHECK(c.machine.current() == life::state::aborting);
    CHECK(std::get<life::report>(out.front()).line.starts_with("rank 0 (front) on h stayed and does not admit"));
  }
}

TEST_CASE("K14: a rank that takes the order and never comes back from it is at fault too") {
  company c;
  c.return_of({encode_0}, at(10s));
  c.take_order(c.all_but({encode_0}), at(11s));
  c.admit(c.all_but({encode_0, prefill_t1}), at(11s));

  CHECK(c.machine.on_tick(at(11s) + waits.word - 1ns).empty());
  const auto out = c.machine.on_tick(at(11s) + waits.word);

  REQUIRE(told(out).size() == 1);
  CHECK(
      told(out)[0].starts_with("rank 4 (prefill.0/t1) on h stayed and does not admit encode.0: it has not come back"));
}

TEST_CASE("K14: a rank that stayed and cannot be reached is restarted with the newcomer that says so") {
  company c;
  c.return_of({encode_0}, at(10s));
  c.take_order(c.all_but({encode_0}), at(10s));
  CHECK(c.complain(encode_0, prefill_t1, fault::peer_gone, "edge", at(10s)).empty());
  CHECK(c.machine.on_end(encode_0, lost_peer, at(10s)).empty()); // a consequence
  const auto out = c.machine.on_tick(at(10s) + limits::first_cause_grace);

  REQUIRE(told(out).size() == 1);
  CHECK(told(out)[0].starts_with("rank 4 (prefill.0/t1) on h cannot be used: rank 1 (encode.0) on h says: peer_gone"));
  CHECK(killed_by(out) == std::vector{prefill_t0, prefill_t1});

  // Of two newcomers the one that its fellow cannot reach is at fault.
  for (const auto rank : {prefill_t0, prefill_t1})
    c.machine.on_end(rank, killed, at(11s));
  c.join({encode_0, prefill_t0, prefill_t1}, generation{3}, at(12s));
  CHECK(c.complain(encode_0, prefill_t1, fault::peer_gone, "edge", at(12s)).empty());
  CHECK(c.machine.on_end(encode_0, lost_peer, at(12s)).empty());
  CHECK(c.machine.on_tick(at(12s) + limits::first_cause_grace - 1ns).empty());
  c.machine.on_tick(at(12s) + limits::first_cause_grace);
  CHECK(c.machine.current() == life::state::aborting); // its one restart was the one above
  CHECK(c.machine.take_blamed()->rank == prefill_t1);
}

TEST_CASE("K14: an edge that breaks between two newcomers of one recovery fails their start, and they are lost again") {
  company c{2};
  const std::vector unit{prefill_t0, prefill_t1};
  c.newcomer = prefill_t0;
  c.return_of(unit, at(10s));
  c.admit(c.all_but(unit), at(10s));

  CHECK(c.complain(prefill_t0, prefill_t1, fault::peer_gone, "edge", at(11s)).empty());
  CHECK(c.machine.on_tick(at(11s) + limits::first_cause_grace - 1ns).empty());
  const auto out = c.machine.on_tick(at(11s) + limits::first_cause_grace);

  REQUIRE(told(out).size() == 1);
  CHECK(told(out)[0].starts_with("rank 4 (prefill.0/t1) on h cannot be used: rank 3 (prefill.0/t0) on h says: "
                                 "peer_gone: no edge"));
  CHECK(told(out)[0].ends_with("restart 2 of at most 2 in 60 s"));
  CHECK(killed_by(out) == unit);
  for (const auto rank : unit)
    c.machine.on_end(rank, killed, at(12s));
  c.join(unit, generation{3}, at(13s));
  c.admit(c.all_but(unit), at(13s));
  for (const auto state : {life_state::grouped, life_state::warm, life_state::ready})
    c.reach(unit, state, at(14s));
  CHECK(c.machine.current() == life::state::ready);
}

TEST_CASE("K14: what a rank that stayed says of an edge to the lost one's predecessor costs the newcomer nothing") {
  company c;
  SUBCASE("before the lost one has come back") {
    c.machine.on_end(encode_0, killed, at(10s));
  }
  SUBCASE("before it is told to admit the newcomer") {
    c.return_of({encode_0}, at(10s));
  }
  SUBCASE("while it admits the newcomer") {
    c.return_of({encode_0}, at(10s));
    c.take_order(c.all_but({encode_0}), at(10s));
  }
  REQUIRE(c.machine.current() == life::state::recovering);

  CHECK(c.complain(prefill_t1, encode_0, fault::peer_gone, "edge", at(11s)).empty());
  CHECK(c.machine.on_tick(at(11s) + limits::first_cause_grace).empty());
  CHECK(c.machine.current() == life::state::recovering);
}

TEST_CASE("K14: a death that is seen within the grace explains why a rank could not be reached") {
  company c;
  c.return_of({encode_0}, at(10s));
  c.take_order(c.all_but({encode_0}), at(10s));
  c.complain(encode_0, decode_0, fault::peer_gone, "edge", at(10s));
  const auto out = c.machine.on_end(prefill_t1, killed, at(10s));
  REQUIRE(told(out).size() == 1);
  CHECK(told(out)[0].starts_with("rank 4 (prefill.0/t1) on h was killed by signal 9"));
}

TEST_CASE("K14: a front that a newcomer cannot reach ends the cluster by its name once the next one says so too") {
  company c{3};
  c.return_of({encode_0}, at(10s));
  c.complain(encode_0, front, fault::peer_gone, "edge", at(10s));
  c.machine.on_end(encode_0, lost_peer, at(10s));
  const auto first = c.machine.on_tick(at(10s) + limits::first_cause_grace);
  REQUIRE(told(first).size() == 1);
  CHECK(told(first)[0].starts_with("rank 1 (encode.0) on h says: peer_gone: no edge"));

  c.join({encode_0}, generation{3}, at(12s));
  c.complain(encode_0, front, fault::peer_gone, "edge", at(12s));
  c.machine.on_end(encode_0, lost_peer, at(12s));
  const auto second = c.machine.on_tick(at(12s) + limits::first_cause_grace);

  CHECK(c.machine.current() == life::state::aborting);
  CHECK(std::get<life::report>(second.front())
            .line.starts_with("rank 0 (front) on h cannot be used: rank 1 (encode.0) on h says: peer_gone"));
}

TEST_CASE("K14: the only one that gets no edge where others got theirs is at fault, else the newcomer is") {
  const auto grace = limits::first_cause_grace;
  company c;
  c.return_of({encode_0}, at(10s));
  c.take_order(c.all_but({encode_0}), at(10s));
  SUBCASE("one of them") {
    c.admit(c.all_but({encode_0, prefill_t1, decode_0}), at(11s));
    c.complain(prefill_t1, encode_0, fault::timeout, "rejoin", at(15s));
    CHECK(c.machine.on_tick(at(15s) + grace).empty()); // decode.0 has not said how it went
    c.admit({decode_0}, at(16s));
    const auto out = c.machine.on_tick(at(16s));
    REQUIRE(told(out).size() == 1);
    CHECK(told(out)[0].starts_with(
        "rank 4 (prefill.0/t1) on h stayed and does not admit encode.0, which others have admitted: no edge"));
  }
  SUBCASE("all that have an edge to it") {
    c.admit({encode_1, decode_0, rank_id{6}}, at(11s)); // have none to another encode cell
    for (const auto rank : {front, prefill_t0, prefill_t1})
      c.complain(rank, encode_0, fault::timeout, "rejoin", at(15s));
    CHECK(c.machine.on_tick(at(15s) + grace - 1ns).empty());
    c.machine.on_tick(at(15s) + grace);
    CHECK(c.machine.current() == life::state::aborting); // the newcomer's one restart was its own death
  }
  SUBCASE("the front alone, which is never given up for what a newcomer does not do") {
    c.admit(c.all_but({encode_0, front}), at(11s));
    c.complain(front, encode_0, fault::timeout, "rejoin", at(15s));
    c.machine.on_tick(at(15s) + grace);
    CHECK(c.machine.take_blamed()->rank == encode_0);
  }
  SUBCASE("two of them") {
    c.admit(c.all_but({encode_0, prefill_t1, decode_0}), at(11s));
    c.complain(prefill_t1, encode_0, fault::timeout, "rejoin", at(15s));
    c.complain(decode_0, encode_0, fault::timeout, "rejoin", at(15s));
    c.machine.on_tick(at(15s) + grace);
    CHECK(c.machine.take_blamed()->rank == encode_0);
  }
  SUBCASE("one of them, because the newcomer has died") {
    c.admit(c.all_but({encode_0, prefill_t1}), at(11s));
    c.complain(prefill_t1, encode_0, fault::peer_gone, "rejoin", at(12s));
    c.machine.on_end(encode_0, killed, at(12s));
    CHECK(c.machine.current() == life::state::aborting);
    CHECK(c.machine.take_blamed()->rank == encode_0);
  }
  SUBCASE("a complaint that crossed with the next order") {
    c.machine.on_end(decode_0, killed, at(11s));
    c.machine.on_end(encode_0, killed, at(11s));
    c.join({encode_0, decode_0}, generation{3}, at(11s));
    c.complain(prefill_t1, encode_0, fault::timeout, "rejoin", at(11s)); // of the order before
    c.take_order({prefill_t1}, at(11s));
    CHECK(c.machine.on_tick(at(11s) + grace).empty());
  }
}

TEST_CASE("K14: a rank that stayed names the newcomer that it did not reach, and itself where it reached them all") {
  const failure late{fault::timeout, "no edge"};
  const auto of_peer = refuse_to_rejoin(prefill_t1, decode_0, late);
  CHECK(of_peer.origin == decode_0);
  CHECK(of_peer.where == rejoin_words);

  company c;
  c.return_of({encode_0}, at(10s));
  c.take_order(c.all_but({encode_0}), at(10s));
  c.admit(c.all_but({encode_0, prefill_t1}), at(10s));
  const auto own = refuse_to_rejoin(prefill_t1, std::nullopt, {fault::no_memory, "a region"});
  CHECK(c.machine.on_error(prefill_t1, own, at(10s)).empty());
  const auto out = c.machine.on_tick(at(10s) + limits::first_cause_grace);
  REQUIRE(told(out).size() == 1);
  CHECK(told(out)[0].starts_with("rank 4 (prefill.0/t1) on h"));
  CHECK(killed_by(out) == std::vector{encode_0, prefill_t0, prefill_t1});
}

TEST_CASE("K14: where a recovery's whole deadline is shorter, who has not taken the order is still the one at fault") {
  company c{1, 2000};
  c.return_of({encode_0}, at(10s));
  c.take_order(c.all_but({encode_0, decode_0}), at(10s));
  const auto out = c.machine.on_tick(at(12s));
  REQUIRE(told(out).size() == 1);
  CHECK(told(out)[0].starts_with("rank 5 (decode.0) on h keeps the others from being ready again within "
                                 "timeouts.start_ms (2000 ms): waiting for "));
}

TEST_CASE("K14: a rank that may be silent for longer has longer to take the order and to come back from it") {
  constexpr recovery_deadlines patient{{.kill_ms = 6000}};
  for (const bool takes : {false, true}) {
    CAPTURE(takes);
    company c{1, 60'000, 6000};
    c.return_of({encode_0}, at(10s));
    c.take_order(c.all_but({encode_0, decode_0}), at(10s));
    if (takes)
      c.take_order({decode_0}, at(10s));
    c.admit(c.all_but({encode_0, decode_0}), at(10s));
    const auto within = takes ? patient.word : patient.answer;
    CHECK(within > 6s);
    CHECK(c.machine.on_tick(at(10s) + within - 1ns).empty());
    CHECK(told(c.machine.on_tick(at(10s) + within)).size() == 1);
  }
}

TEST_CASE(
    "K14: what a process says that is lost again before it has risen moves nothing in the recovery that follows") {
  company c{3};
  for (const auto rank : {prefill_t0, prefill_t1})
    c.machine.on_end(rank, killed, at(10s));
  const auto joins = [&](rank_id rank) {
    endpoint where;
    where.rank = rank;
    where.born = c.machine.born(rank);
    where.tcp_port = 1000;
    return c.machine.on_joined(rank, {where, 100});
  };
  const auto lose_another = [&] { REQUIRE_FALSE(killed_by(c.machine.on_end(encode_0, killed, at(11s))).empty()); };
  REQUIRE(joins(prefill_t0));
  SUBCASE("its facts, which are the last that are missing") {
    REQUIRE(joins(prefill_t1));
    REQUIRE(c.machine.on_agree(prefill_t0, {{{"build", "a"}}}, at(10s)));
    lose_another();
    const auto late = c.machine.on_agree(prefill_t1, {{{"build", "a"}}}, at(11s));
    REQUIRE(late);
    CHECK(late->empty());
  }
  SUBCASE("that it has joined") {
    lose_another();
    const auto late = joins(prefill_t1);
    REQUIRE(late);
    CHECK(late->empty());
    CHECK(c.machine.at(prefill_t1) == life_state::spawned);
  }
}
