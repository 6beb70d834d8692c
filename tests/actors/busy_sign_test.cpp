#include "actors/busy_sign.hpp"

#include <future>

#include <doctest/doctest.h>

#include "actors/rank_actor.hpp"

using namespace troupe;
using namespace std::chrono_literals;

TEST_CASE("C4: a sign is odd while its owner is at work, grows with what gets done, and rests between") {
  actors::actor_turns all{2};
  auto sign = all.claim("it stands still");
  CHECK(all.at(0) % 2 == 0);
  CHECK_FALSE(sign.set(true));
  const auto began = all.at(0);
  CHECK(began % 2 == 1);
  CHECK(sign.set(true)); // gets on
  CHECK(all.at(0) % 2 == 1);
  CHECK(all.at(0) > began);
  CHECK(sign.set(false));
  CHECK(all.at(0) % 2 == 0);
  const auto rests = all.at(0);
  CHECK_FALSE(sign.set(false));
  CHECK(all.at(0) == rests);
  CHECK(all.stuck(0) == std::string{"it stands still"});

  (void)all.claim();
  auto unwatched = all.claim();
  CHECK_FALSE(unwatched.set(true));
  CHECK(all.at(0) == rests);
  CHECK(all.at(1) % 2 == 0);
}

namespace {

struct scene {
  std::promise<void> entered;
  std::promise<void> go_on;
  std::promise<void> got_on;
  std::promise<void> end;
};

class worker : public actors::rank_actor {
public:
  worker(caf::actor_config& config, const actors::rank_context& rank, scene& in)
      : rank_actor(config, rank, "worker", protocols::actor_kind::link), in_(in) {}
  caf::behavior make_behavior() override {
    return {[this](actors::run_atom) {
      in_.entered.set_value();
      in_.go_on.get_future().wait();
      get_on();
      in_.got_on.set_value();
      in_.end.get_future().wait();
      quit();
    }};
  }

private:
  scene& in_;
};

} // namespace

TEST_CASE("C4: an actor in the middle of a message is seen at work, and seen to get on in a long one") {
  actors::rank_context rank;
  rank.turns = std::make_unique<actors::actor_turns>(1);
  scene in;
  caf::actor_system_config config;
  config.set("scheduler.max-threads", std::size_t{1});
  caf::actor_system system{config};
  caf::anon_send(system.spawn<worker>(rank, in), actors::run_atom::value);

  REQUIRE(in.entered.get_future().wait_for(20s) == std::future_status::ready);
  const auto working = rank.turns->at(0);
  CHECK(working % 2 == 1);
  in.go_on.set_value();
  REQUIRE(in.got_on.get_future().wait_for(20s) == std::future_status::ready);
  CHECK(rank.turns->at(0) % 2 == 1);
  CHECK(rank.turns->at(0) > working);
  in.end.set_value();
  system.await_all_actors_done();
  while (rank.turns->at(0) % 2 == 1) // what the scheduler still does after the actor is done
    std::this_thread::yield();
}
