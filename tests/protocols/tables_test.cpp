#include <doctest/doctest.h>

#include <functional>
#include <set>
#include <vector>

#include "protocols/cluster/cluster_states.hpp"
#include "protocols/cluster/life_machine.hpp"
#include "protocols/cluster/parity_machine.hpp"
#include "protocols/cluster/rank_life_machine.hpp"
#include "protocols/mesh/collective_plan_machine.hpp"
#include "protocols/mesh/plan_states.hpp"
#include "tests/protocols/serve_fixture.hpp"
#include "tests/sim/tables.hpp"

using namespace troupe;
using namespace troupe::protocols;

namespace {

void complain(const std::string& words) {
  FAIL_CHECK("no table allows " << words);
}

/// Every event of every machine in every test of this program is held against the tables.
struct watched_program {
  sim::table_watch watch{complain};
  watched_program() { watch_machines(&watch); }
  ~watched_program() { watch_machines(nullptr); }
};
watched_program watched;

/// Takes a machine through every event in every state that it comes to, and holds that against its table in both
/// directions: the machine does nothing else, and the table says nothing else.
/// `key`: what makes two machines the same for this walk.
template <class Machine, class Key>
void walk(const state_table& of, const Machine& first, const std::vector<std::function<void(Machine&)>>& events,
          const Key& key) {
  sim::table_watch watch{complain, true};
  watch_machines(&watch);
  std::set<decltype(key(first))> known{key(first)};
  std::vector<Machine> open{first};
  while (!open.empty()) {
    const auto from = open.back();
    open.pop_back();
    for (const auto& event : events) {
      auto machine = from;
      event(machine);
      if (known.insert(key(machine)).second)
        open.push_back(machine);
    }
  }
  watch_machines(&watched.watch);
  for (std::size_t place = 0; place < sim::transitions().size(); ++place)
    if (const auto& one = sim::transitions()[place]; one.of == &of && watch.seen()[place] == 0)
      FAIL_CHECK("the table allows what the machine does not: " << sim::words_of(one));
}

} // namespace

TEST_CASE("B20: a rank's life has the transitions of its table and no others") {
  std::vector<std::function<void(rank_life_machine&)>> events{
      [](rank_life_machine& rank) { (void)rank.on_roster(); },
      [](rank_life_machine& rank) {
        (void)rank.on_verdict({true, {}});
      },
      [](rank_life_machine& rank) {
        (void)rank.on_verdict({false, "differs"});
      },
      [](rank_life_machine& rank) { (void)rank.on_shutdown({.drain = true, .reason = {}}); },
      [](rank_life_machine& rank) { (void)rank.on_shutdown({.drain = false, .reason = {}}); },
      [](rank_life_machine& rank) { (void)rank.on_left(); },
      [](rank_life_machine& rank) { (void)rank.on_inbox({}, {}); },
      [](rank_life_machine& rank) {
        if (rank.current() != life_state::left)
          (void)rank.on_failed({fault::timeout, {}}, {}, {});
      },
      [](rank_life_machine& rank) {
        if (rank.current() == life_state::spawned)
          rank.on_launch(reader_plan());
      },
      [](rank_life_machine& rank) {
        endpoint other;
        other.rank = rank_id{1};
        other.born = generation{2};
        if (rank.current() == life_state::ready || rank.current() == life_state::draining)
          (void)rank.on_rejoin({.ranks = {other}});
      },
  };
  for (std::uint8_t number = 0; is_valid(life_state{number}); ++number) {
    events.emplace_back([number](rank_life_machine& rank) { (void)rank.on_proceed({life_state{number}}); });
    events.emplace_back([number](rank_life_machine& rank) { (void)rank.on_reached(life_state{number}); });
  }
  walk(rank_life_table, rank_life_machine{prefill_leader}, events, [](const rank_life_machine& rank) {
    return std::tuple{rank.current(), rank.heading(), rank.aborting()};
  });
}

TEST_CASE("D18: a group's collectives have the transitions of their table and no others") {
  const group_plan mesh{group_id{0}, "mesh", {rank_id{0}, rank_id{1}}};
  struct counted {
    collective_plan_machine machine;
    std::size_t events = 0;
    std::size_t path = 0;
  };
  std::vector<std::function<void(counted&)>> events;
  const auto add = [&](auto event) {
    events.emplace_back([event, number = events.size() + 1](counted& one) {
      if (one.events == 5) // longer ways add nothing
        return;
      ++one.events;
      one.path = one.path * 8 + number;
      event(one.machine);
    });
  };
  for (const std::uint32_t expected : {0u, 1u, 2u})
    add([expected](collective_plan_machine& group) { (void)group.begin(group.call().next(), "step", expected); });
  add([](collective_plan_machine& group) {
    if (group.call().value > 0)
      (void)group.begin(call_id{0}, "step", 1);
  });
  add([](collective_plan_machine& group) { (void)group.enter("all_reduce_sum", 1); });
  add([](collective_plan_machine& group) { (void)group.end(); });
  walk(collective_plan_table, counted{collective_plan_machine{mesh, 0}}, events,
       [](const counted& one) { return one.path; });
}

TEST_CASE("A18: a rank's facts have the transitions of their table and no others") {
  walk(parity_table, parity_machine{{"a", "b"}},
       {
           [](parity_machine& all) { (void)all.on_agree(rank_id{0}, {}); },
           [](parity_machine& all) { (void)all.on_agree(rank_id{1}, {}); },
           [](parity_machine& all) {
             (void)all.on_agree(rank_id{0}, {.facts = {{"model", "a"}, {"model", "b"}}});
           },
           [](parity_machine& all) { all.forget(rank_id{0}); },
           [](parity_machine& all) { all.forget(rank_id{1}); },
       },
       [](const parity_machine& all) {
         return std::pair{all.has_stated(rank_id{0}), all.has_stated(rank_id{1})};
       });
}
