#include "actors/rank_actor.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <future>
#include <stop_token>
#include <thread>

#include "actors/clock_actor.hpp"
#include "runtime/base/clock.hpp"

using namespace troupe;
using namespace std::chrono_literals;

namespace {

/// What has not happened by then will not: an actor system waits for its actors, so no wait here may be without end.
constexpr auto patience = 20s;

bool comes_true(const std::function<bool()>& what) {
  const auto deadline = base::now() + patience;
  while (!what()) {
    if (base::now() >= deadline)
      return false;
    std::this_thread::yield();
  }
  return true;
}

struct scene {
  std::promise<void> entered;
  std::promise<void> go_on;
  std::promise<void> got_on;
  std::promise<void> end;
};

class worker : public actors::rank_actor {
public:
  worker(caf::actor_config& config, const actors::rank_context& rank, scene& in)
      : rank_actor(config, rank, "worker", std::nullopt), in_(in) {}

private:
  handlers make_handlers() override {
    return on([this](actors::run_atom) {
      in_.entered.set_value();
      in_.go_on.get_future().wait_for(patience);
      note_progress();
      in_.got_on.set_value();
      in_.end.get_future().wait_for(patience);
      quit();
    });
  }

  scene& in_;
};

} // namespace

TEST_CASE("C4: an actor in the middle of a message is seen at work, and seen to get on in a long one") {
  actors::rank_context rank;
  rank.turns = std::make_unique<base::progress_table>(1);
  scene in;
  caf::actor_system_config config;
  config.set("scheduler.max-threads", std::size_t{1});
  caf::actor_system system{config};
  const caf::actor watched = system.spawn<worker>(rank, in); // it is there as long as anybody looks
  caf::anon_send(watched, actors::run_atom::value);

  REQUIRE(in.entered.get_future().wait_for(patience) == std::future_status::ready);
  const auto working = rank.turns->at(0);
  CHECK(working.works);
  in.go_on.set_value();
  REQUIRE(in.got_on.get_future().wait_for(patience) == std::future_status::ready);
  CHECK(rank.turns->at(0).works);
  CHECK(rank.turns->at(0).turn > working.turn);
  in.end.set_value();
  system.await_all_actors_done();
  CHECK(comes_true([&] { return !rank.turns->at(0).works; })); // the scheduler is not done with it at once
}

TEST_CASE("C1: a message that an actor has no handler for ends the rank, by name of the actor and of the message") {
  actors::rank_context rank;
  std::promise<std::pair<protocols::failure, std::string>> failed;
  rank.fail_rank = [&](const protocols::failure& cause, const std::string& where) { failed.set_value({cause, where}); };
  scene in;
  caf::actor_system_config config;
  caf::actor_system system{config};
  const caf::actor asked = system.spawn<worker>(rank, in);
  caf::anon_send(asked, protocols::recovered{});
  auto told = failed.get_future();
  const bool has_ended = told.wait_for(patience) == std::future_status::ready;
  in.go_on.set_value();
  in.end.set_value();
  caf::anon_send(asked, actors::run_atom::value);
  system.await_all_actors_done();
  REQUIRE(has_ended);
  const auto [cause, where] = told.get();
  CHECK(cause.code == protocols::fault::unknown_type);
  CHECK(cause.what.find("recovered") != std::string::npos);
  CHECK(where == "worker");
}

TEST_CASE("K13: a message that waits and is not begun counts as no progress, and an actor without one is at rest") {
  actors::rank_context rank;
  rank.turns = std::make_unique<base::progress_table>(2);
  scene first;
  scene second;
  caf::actor_system_config config;
  config.set("scheduler.max-threads", std::size_t{1});
  caf::actor_system system{config};
  const auto holds_the_worker = system.spawn<worker>(rank, first);
  const auto waits = system.spawn<worker>(rank, second);
  REQUIRE(comes_true([&] { return !rank.turns->at(1).works; })); // it has begun to wait for messages

  caf::anon_send(holds_the_worker, actors::run_atom::value);
  REQUIRE(first.entered.get_future().wait_for(patience) == std::future_status::ready);
  CHECK_FALSE(rank.turns->at(1).works);
  const auto before = rank.turns->at(1).turn;
  caf::anon_send(waits, actors::run_atom::value);
  CHECK(rank.turns->at(1).works);
  CHECK(rank.turns->at(1).turn == before); // nobody begins it: the only worker is held

  first.go_on.set_value();
  first.end.set_value();
  REQUIRE(second.entered.get_future().wait_for(patience) == std::future_status::ready);
  CHECK(rank.turns->at(1).turn > before);
  second.go_on.set_value();
  second.end.set_value();
  system.await_all_actors_done();
  CHECK(comes_true([&] { return !rank.turns->at(1).works; }));
}

TEST_CASE("K13: who watches may look while an actor is still being made") { // judged by ThreadSanitizer
  actors::rank_context rank;
  rank.turns = std::make_unique<base::progress_table>(1);
  scene in;
  caf::actor_system_config config;
  caf::actor_system system{config};
  std::atomic<int> looks = 0;
  std::jthread watch{[&](const std::stop_token& end) {
    while (!end.stop_requested()) {
      (void)rank.turns->at(0);
      looks.fetch_add(1, std::memory_order_relaxed);
    }
  }};
  const auto made = system.spawn<worker>(rank, in);
  for (const auto before = looks.load(std::memory_order_relaxed); looks.load(std::memory_order_relaxed) < before + 3;)
    std::this_thread::yield();
  watch.request_stop();
  watch.join();
  CHECK(looks > 0);
  caf::anon_send_exit(made, caf::exit_reason::kill);
  system.await_all_actors_done();
}

TEST_CASE("K13: the clock of an actor system shows that it turns, and is never at rest") {
  actors::rank_context rank;
  rank.turns = std::make_unique<base::progress_table>(1);
  caf::actor_system_config config;
  config.set("scheduler.max-threads", std::size_t{1});
  caf::actor_system system{config};
  const auto clock = system.spawn<actors::clock_actor>(rank, 1ms);
  bool turns = comes_true([&] { return rank.turns->at(0).works; });
  for (int seen = 0; seen < 3 && turns; ++seen) {
    const auto before = rank.turns->at(0).turn;
    turns = comes_true([&] { return rank.turns->at(0).turn != before; }) && rank.turns->at(0).works;
  }
  CHECK(turns);
  caf::anon_send_exit(clock, caf::exit_reason::kill);
}
