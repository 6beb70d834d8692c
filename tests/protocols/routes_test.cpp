#include "protocols/serve/message_types.hpp"
#include "protocols/serve/roles.hpp"
#include "protocols/serve/routes.hpp"
#include "protocols/serve/serve_program.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>

#include "every_message.hpp"
#include "serve_world.hpp"

using namespace troupe::protocols;

namespace {

pool_spec pool(role_kind role, std::uint32_t cells = 1, std::uint32_t tensor_parallel = 1,
               std::uint32_t pipeline_parallel = 1) {
  return {std::string{name(role)}, role, cells, tensor_parallel, pipeline_parallel};
}

cluster_plan plan_of(std::vector<pool_spec> pools) {
  cluster_spec spec;
  spec.pools = std::move(pools);
  return make_plan(spec).value();
}

/// One of each shape that a cluster can have, most of them at once.
std::vector<cluster_plan> plans() {
  namespace role = serve_role;
  return {
      plan_of({pool(role::front), pool(role::encode), pool(role::prefill), pool(role::decode)}),
      plan_of({pool(role::front), pool(role::encode, 1, 2), pool(role::prefill, 2), pool(role::decode, 2, 2)}),
      plan_of({pool(role::front), pool(role::encode, 2, 4), pool(role::prefill, 1, 2, 2), pool(role::decode, 1, 1, 2)}),
      plan_of({pool(role::front), pool(role::encode, 2, 2), pool(role::prefill, 2, 2), pool(role::decode, 2)}),
      plan_of({pool(role::front), pool(role::prefill, 1, 2), pool(role::decode, 1, 2)}),
      plan_of({pool(role::all)})};
}

/// What all machines of the cluster say in many walks.
std::set<serve_world::passed> walk(const cluster_plan& plan, std::size_t& answered) {
  std::set<serve_world::passed> heard;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    INFO("seed ", seed);
    serve_world world{plan, seed};
    world.run(12);
    CHECK(world.refusals() == std::vector<std::string>{});
    CHECK(world.settled());
    heard.insert(world.heard().begin(), world.heard().end());
    answered += world.answered();
  }
  return heard;
}

/// Every rank may find what it hears refused, and tells the front (`actors/routing.cpp`).
bool is_complaint(message_type type, const cell_plan& sender, const cell_plan& taker) {
  return type == message_type::error && taker.role == serve_role::front && sender.role != serve_role::front;
}

template <class Visit>
void for_each_pair(const cluster_plan& plan, Visit visit) {
  for (const auto& sender : plan.cells)
    for (const auto from : sender.ranks)
      for (const auto& taker : plan.cells)
        for (const auto to : taker.ranks)
          visit(sender, from, taker, to);
}

} // namespace

TEST_CASE("K4: what any machine of any cluster sends is heard, and nothing is allowed that none of them sends") {
  std::set<serve_world::passed> heard;
  for (const auto& plan : plans()) {
    CAPTURE(describe_groups(plan));
    std::size_t answered = 0;
    heard.merge(walk(plan, answered));
    CHECK(answered > 100); // the walks go to the end of answers and not only along their failures
  }
  for (const auto& plan : plans())
    testing::for_each_message([&]<class Message>(const Message&) {
      for_each_pair(plan, [&](const cell_plan& sender, rank_id from, const cell_plan& taker, rank_id to) {
        const auto what = serve_world::as_passed(Message::type, sender, from, taker, to);
        const bool allowed = takers_of(plan, Message::type, from, to, sender.role).contains(taker.role);
        const bool sent = heard.contains(what) || is_complaint(Message::type, sender, taker);
        CHECK_MESSAGE(allowed == sent, std::string{name(Message::type)}, " from ", plan.rank(from).label, " as ",
                      std::string{name(sender.role)}, " to ", plan.rank(to).label, " as ",
                      std::string{name(taker.role)}, ": allowed ", allowed, ", sent ", sent);
      });
    });
}

TEST_CASE("K4: a rank of role all is told by the sender's role who takes what it says to itself") {
  const auto plan = plan_of({pool(serve_role::all)});
  const rank_id self{0};
  auto takers = takers_of(plan, serve_type::arrived, self, self, serve_role::prefill);
  CHECK(takers.take_first() == serve_role::prefill);
  CHECK(takers.empty());
  takers = takers_of(plan, serve_type::cancel, self, self, serve_role::front);
  for (const auto role : {serve_role::encode, serve_role::prefill, serve_role::decode})
    CHECK(takers.take_first() == role);
  CHECK(takers.empty());
  CHECK(takers_of(plan, serve_type::submit, self, self, serve_role::decode).empty());
}

TEST_CASE("K4: protocols/README.md prints the table of routes as it is") {
  std::ifstream file{TROUPE_SOURCE_DIR "/protocols/README.md"};
  const std::string readme{std::istreambuf_iterator<char>{file}, {}};
  INFO("the table now:\n", describe_routes(serve_program()));
  CHECK(readme.find(describe_routes(serve_program())) != std::string::npos);
}
