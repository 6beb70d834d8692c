#include "tests/sim/sequence.hpp"

#include "protocols/cluster/program.hpp"
#include "protocols/serve/roles.hpp"
#include "protocols/serve/serve_program.hpp"
#include "tests/sim/clients.hpp"
#include "tests/sim/reach.hpp"
#include "tests/sim/supervisor.hpp"
#include "tests/sim/world.hpp"

namespace troupe::sim {

using namespace protocols;

namespace {

sim_cluster small_cluster() {
  cluster_spec spec;
  spec.name = "sequence";
  spec.model_path = "/simulated";
  for (const auto role : {serve_role::front, serve_role::encode, serve_role::prefill, serve_role::decode}) {
    pool_spec one;
    one.name = name(role);
    one.role = role;
    spec.pools.push_back(one);
  }
  spec.lanes.bulk = bulk_lane::shared_memory;
  auto made = cluster_of(std::move(spec));
  TROUPE_ASSERT("spec", made.has_value());
  return *std::move(made);
}

template <class Done>
void run_until(world& all, const Done& done) {
  while (!done() && !all.past.violated() && !all.time.empty())
    all.time.step();
}

/// A picture of two tokens between two words; an answer of three tokens.
sim_question small_question() {
  sim_question one{.prompt = {11, image_token, image_token, 12},
                   .pictures = {{.content = 7, .rows = 1, .columns = 2}},
                   .first_tokens = {1},
                   .max_tokens = 3};
  while (answer_alone(one).tokens.size() != one.max_tokens || answer_alone(one).tokens.back() == end_token)
    ++one.pictures[0].content;
  return one;
}

} // namespace

std::string describe_request() {
  weather still; // everything takes no time, so that nothing depends on what is drawn
  still.hop = still.frame = still.compute = still.copy = {};
  world all{1, small_cluster(), still, true};
  auto& reach = reach_count::mine();
  all.users->plan(0);
  all.begin();
  run_until(all, [&] { return all.boss->was_ready(); });
  const auto ready = all.time.now();
  run_until(all, [&] { return all.time.now() > ready + 1s; });

  std::string out;
  const auto line = [&](const std::string& from, const std::string& to, std::string_view what) {
    out += from + " -> " + (from == to ? "itself" : to) + ": " + std::string{what} + "\n";
  };
  const auto label = [&](rank_id rank) { return all.plan().rank(rank).label; };
  line("client", label(all.plan().front()), "ask, and the picture");
  reach.tell([&](rank_id from, rank_id to, role_kind, message_type type) { line(label(from), label(to), name(type)); },
             [&](rank_id from, rank_id to, transfer_kind kind) {
               line(label(from), label(to),
                    kind == serve_transfer::pixels ? "a write of pixels"
                    : kind == serve_transfer::rows ? "a write of rows"
                                                   : "a write of keys and values");
             });
  all.users->ask_one(small_question());
  run_until(all, [&] { return all.users->all_ended(); });
  line(label(all.plan().front()), "client", "tokens, and the end");
  const auto ended = all.time.now();
  run_until(all, [&] { return all.time.now() > ended + 1s; });
  reach.tell({}, {});
  return out;
}

} // namespace troupe::sim
