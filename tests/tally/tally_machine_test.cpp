#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "protocols/wire/codec.hpp"
#include "runtime/cluster/message_text.hpp"
#include "runtime/cluster/spec_file.hpp"
#include "tests/tally/counter_machine.hpp"
#include "tests/tally/tally_job.hpp"
#include "tests/tally/tally_program.hpp"
#include "tests/tally/teller_machine.hpp"

using namespace troupe;
using namespace troupe::protocols;
using namespace troupe::tally;
using namespace std::chrono_literals;

namespace {

result<cluster::loaded_spec> read(const std::string& more) {
  tests::know_tally();
  return cluster::read_spec_text(tests::tally_job::spec_text(more), "tally.json");
}

time_point at(duration since) {
  return time_point{since};
}

/// A teller 0 and a mesh 1, 2.
struct scene {
  cluster_plan plan = make_plan(read("").value().spec).value();
  teller_machine machine{
      plan, {.numbers_max = 8, .piece_numbers = 4, .questions_max = 2, .rounds_max = 2, .question_deadline = 10s}};

  scene() {
    for (const auto rank : {1u, 2u})
      CHECK(machine.on_lend(rank_id{rank}, lend{generation{1}}, at(0s)).empty());
  }
  template <class Effect>
  static std::vector<Effect> all(const teller_machine::effects& what) {
    std::vector<Effect> found;
    for (const auto& each : what)
      if (const auto* const one = std::get_if<Effect>(&each))
        found.push_back(*one);
    return found;
  }
  teller_machine::effects ask(std::uint64_t id, std::uint32_t amount = 7) {
    auto taken = machine.on_count(request_id{id}, 10, amount, at(0s));
    REQUIRE(taken);
    return *std::move(taken);
  }
};

using writes = std::vector<teller_machine::write_numbers>;
using ends = std::vector<teller_machine::end_question>;

} // namespace

TEST_CASE("K4: every message between the roles of tally has a route, and no route is of another message") {
  tests::know_tally();
  const auto has_row = []<class... Messages>(std::variant<Messages...>*) {
    const auto& routes = tally_program().routes;
    return ((std::ranges::find(routes, Messages::type, &route::message) != routes.end()) && ...) &&
           routes.size() == sizeof...(Messages);
  };
  CHECK(has_row(static_cast<tally_message*>(nullptr)));
}

TEST_CASE("a question is cut into equal shares and pieces, and a cell has one round at a time") {
  scene now;
  const auto begun = now.ask(1);
  const auto pieces = scene::all<teller_machine::write_numbers>(begun);
  REQUIRE(pieces.size() == 2); // four numbers and three
  CHECK(pieces[0].to == rank_id{1});
  CHECK(pieces[0].amount == 4);
  CHECK(pieces[1].to == rank_id{2});
  CHECK(pieces[1].first_value == 14);
  CHECK(pieces[1].source_at == 4);
  CHECK(pieces[1].target_at == 0);
  CHECK(scene::all<send_tally>(begun).size() == 2);

  CHECK(now.ask(2).empty());
  CHECK(now.machine.on_count(request_id{3}, 0, 1, at(0s)).error().code == fault::queue_full);
  const auto answered = now.machine.on_sum(rank_id{1}, sum{room_id{1}, 91}, at(1s));
  CHECK(scene::all<teller_machine::end_question>(answered) == ends{{request_id{1}, std::nullopt, 91, 1}});
  CHECK(scene::all<teller_machine::write_numbers>(answered).empty()); // the old writes are not known to have ended
  CHECK(now.machine.on_written(room_id{1}, {}, at(1s)).empty());
  CHECK(scene::all<teller_machine::write_numbers>(now.machine.on_written(room_id{1}, {}, at(1s))).size() == 2);
}

TEST_CASE("K9: however many pieces a question has, few are under way, and each that ends makes room for the next") {
  const auto plan = make_plan(read("").value().spec).value();
  constexpr std::uint32_t amount = 1000;
  teller_machine machine{plan,
                         {.numbers_max = amount,
                          .piece_numbers = 1,
                          .questions_max = 1,
                          .rounds_max = 1,
                          .writes_max = 5,
                          .question_deadline = 10s}};
  for (const auto rank : {1u, 2u})
    machine.on_lend(rank_id{rank}, lend{generation{1}}, at(0s));
  auto next = scene::all<teller_machine::write_numbers>(machine.on_count(request_id{1}, 7, amount, at(0s)).value());
  CHECK(next.size() == 5);
  writes all;
  while (!next.empty()) {
    all.insert(all.end(), next.begin(), next.end());
    next = scene::all<teller_machine::write_numbers>(machine.on_written(room_id{1}, {}, at(1s)));
    REQUIRE(next.size() == (all.size() < amount ? 1 : 0));
  }
  REQUIRE(all.size() == amount);
  for (std::uint32_t i = 0; i < amount; ++i) {
    CHECK(all[i].part == i);
    CHECK(all[i].first_value == 7 + i);
    CHECK(all[i].target_at == i % (amount / 2));
  }
}

TEST_CASE(
    "K1: the round of a cell that is lost is begun anew, with memory of the new generation, once it serves again") {
  scene now;
  now.ask(1);
  CHECK(now.machine.on_lost({{rank_id{1}, rank_id{2}}, generation{2}, "killed"}, at(1s)).empty());
  for (int each = 0; each < 2; ++each)
    CHECK(now.machine.on_written(room_id{1}, fail(fault::peer_gone), at(1s)).empty());
  CHECK(now.machine.on_sum(rank_id{1}, sum{room_id{1}, 1}, at(1s)).empty()); // of a round that is over
  for (const auto rank : {1u, 2u})
    CHECK(now.machine.on_lend(rank_id{rank}, lend{generation{2}}, at(2s)).empty());
  const auto again = now.machine.on_recovered({{rank_id{1}, rank_id{2}}}, at(2s));
  for (const auto& piece : scene::all<teller_machine::write_numbers>(again)) {
    CHECK(piece.owner == generation{2});
    CHECK(piece.round == room_id{2});
  }
  CHECK(scene::all<teller_machine::write_numbers>(again).size() == 2);

  // The second loss ends the question: it has had its rounds.
  const auto given_up = now.machine.on_lost({{rank_id{1}}, generation{3}, "killed"}, at(3s));
  REQUIRE(scene::all<teller_machine::end_question>(given_up).size() == 1);
  CHECK(scene::all<teller_machine::end_question>(given_up)[0].why->code == fault::cell_gone);
}

TEST_CASE("K1: after a write whose bytes may still arrive the cell's memory rests for the quarantine") {
  scene now;
  now.ask(1);
  CHECK(now.machine.on_written(room_id{1}, {}, at(1s)).empty());
  CHECK(now.machine.on_written(room_id{1}, fail(fault::timeout), at(1s)).empty());
  CHECK(now.machine.on_tick(at(2s)).empty());
  const auto later = now.machine.on_tick(at(1s + limits::slot_quarantine) - 1ms);
  CHECK(scene::all<teller_machine::write_numbers>(later).empty());
}

TEST_CASE("C3: a drain ends what was asked, then says so once, and a question that is late ends with a fault") {
  scene now;
  now.ask(1);
  CHECK(now.machine.on_drain(at(1s)).empty());
  CHECK(now.machine.on_count(request_id{2}, 0, 1, at(1s)).error().code == fault::shutting_down);
  const auto late = now.machine.on_tick(at(10s));
  REQUIRE(scene::all<teller_machine::end_question>(late).size() == 1);
  CHECK(scene::all<teller_machine::end_question>(late)[0].why->code == fault::timeout);
  CHECK(scene::all<teller_machine::drained>(late).size() == 1);
  CHECK(scene::all<teller_machine::drained>(now.machine.on_tick(at(11s))).empty());
}

TEST_CASE("a rank has landed when its order and all of its pieces are there, in any order, and the leader adds up when "
          "all have") {
  scene now;
  const auto& cell = now.plan.cell(now.plan.cells_of(counter).front());
  const counter_machine::options how{.front = rank_id{0}, .born = generation{1}, .numbers_max = 8};
  counter_machine worker{cell, 1, how};
  CHECK(worker.on_piece(room_id{1}).empty());
  CHECK(worker.on_add({room_id{1}, 5, 2}).value().empty());
  const counter_machine::effects said{send_tally{rank_id{1}, landed{room_id{1}, 5}}};
  CHECK(worker.on_piece(room_id{1}) == said);
  CHECK(worker.on_add({room_id{2}, 9, 3}).error().code == fault::out_of_bounds);

  counter_machine leader{cell, 0, how};
  CHECK(leader.on_landed(1, {room_id{1}, 5}).empty());
  CHECK(leader.on_landed(1, {room_id{2}, 3}).empty()); // the round before is over
  CHECK(leader.on_landed(1, {room_id{1}, 5}).empty());
  CHECK(leader.on_piece(room_id{2}).empty());
  const counter_machine::effects begins{counter_machine::add_up{{room_id{2}, false, {4, 3}}}};
  CHECK(leader.on_add({room_id{2}, 4, 1}).value() == begins);
}

TEST_CASE("J8: a spec sets what its program lets it set, in bounds, and nothing of another program") {
  const auto spec = read(R"(, "tally": {"numbers_max": 500})");
  REQUIRE(spec);
  CHECK(tally_program().setting(spec->spec, tally_setting::numbers_max) == 500);
  CHECK(tally_program().setting(spec->spec, tally_setting::piece_numbers) == 256);
  CHECK(spec->effective_json.find("\"piece_numbers\": 256") != std::string::npos);
  CHECK(cluster::parse_effective_spec(spec->effective_json)->settings.at("tally.numbers_max") == 500);

  const auto refused = read(R"(, "tally": {"numbers_max": 0, "pieces": 1})");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().what.find("tally.numbers_max") != std::string::npos);
  CHECK(refused.error().what.find("unknown key 'pieces' in tally") != std::string::npos);

  const auto foreign = cluster::read_spec_text(
      R"({"troupe": 1, "name": "x", "pools": {"x": {"role": "stub"}}, "tally": {"numbers_max": 5}})", "x.json");
  REQUIRE_FALSE(foreign);
  CHECK(foreign.error().what.find("tally.numbers_max is a key of program tally; this spec's is serve") !=
        std::string::npos);

  const auto of_serve = read(R"(, "restart": {"decode": "none"})");
  REQUIRE_FALSE(of_serve);
  CHECK(of_serve.error().what.starts_with("tally.json:"));
  CHECK(of_serve.error().what.find("restart.decode is a key of program serve; this spec's is tally; valid here: "
                                   "counter, intensity, window_s") != std::string::npos);
  CHECK(spec->effective_json.find("decode") == std::string::npos);
  CHECK(spec->effective_json.find("\"counter\": \"cell\"") != std::string::npos);
}

TEST_CASE("a drill writes the messages of an added program as text, and strikes at its fault points") {
  tests::know_tally();
  const auto bytes = cluster::payload_of_text(landed::type, R"({"round": 7, "numbers": 5})");
  REQUIRE(bytes);
  landed word;
  REQUIRE(decode_payload(*bytes, word, true));
  CHECK(word == landed{room_id{7}, 5});
  CHECK_FALSE(cluster::payload_of_text(landed::type, "[7]"));
  CHECK(is_fault_point("counter.piece"));
}
