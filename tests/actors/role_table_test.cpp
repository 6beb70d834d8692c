#include "actors/role_table.hpp"
#include "protocols/serve/roles.hpp"

#include <doctest/doctest.h>

#include <condition_variable>
#include <thread>

using namespace troupe;
using namespace troupe::actors;
using protocols::fault;
using protocols::role_kind;
namespace serve_role = protocols::serve_role;

namespace {

/// What an actor has been told, in order.
class ear {
public:
  caf::actor listen(caf::actor_system& in) {
    return in.spawn([this]() -> caf::behavior { return {[this](int word) { hear(word); }}; });
  }
  std::vector<int> first(std::size_t count) {
    std::unique_lock lock{mutex_};
    heard_more_.wait_for(lock, std::chrono::seconds{30}, [&] { return heard_.size() >= count; });
    return heard_;
  }

private:
  void hear(int word) {
    const std::lock_guard lock{mutex_};
    heard_.push_back(word);
    heard_more_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable heard_more_;
  std::vector<int> heard_;
};

struct fixture {
  fixture() { config.set("scheduler.max-threads", std::size_t{2}); }

  caf::actor_system_config config;
  ear front;
  ear decode;
};

} // namespace

TEST_CASE_FIXTURE(fixture, "K12: what comes before its role is there waits, and the role gets it in order and first") {
  caf::actor_system system{config};
  role_table roles;
  CHECK(roles.find(serve_role::front) == nullptr);
  CHECK(roles.tell(serve_role::front, 1, 8));
  CHECK(roles.tell(serve_role::decode, 10, 8));
  CHECK(roles.tell(serve_role::front, 2, 8));

  roles.publish(serve_role::front, front.listen(system));
  CHECK(roles.tell(serve_role::front, 3, 8));
  CHECK(front.first(3) == std::vector{1, 2, 3});

  CHECK(roles.find(serve_role::decode) == nullptr);
  roles.tell_all(4);
  roles.publish(serve_role::decode, decode.listen(system));
  CHECK(decode.first(1) == std::vector{10});
  roles.tell_all(5);
  CHECK(front.first(5) == std::vector{1, 2, 3, 4, 5});
  CHECK(decode.first(2) == std::vector{10, 5});
  CHECK(roles.dropped() == 0);
}

TEST_CASE_FIXTURE(fixture,
                  "K12: what waits is bounded in number and bytes, and what is beyond is dropped by name and counted") {
  caf::actor_system system{config};
  role_table roles{{.messages = 2, .bytes = 100}};
  CHECK(roles.tell(serve_role::front, 1, 60));
  const auto too_long = roles.tell(serve_role::front, 2, 60);
  REQUIRE_FALSE(too_long);
  CHECK(too_long.error().code == fault::queue_full);
  CHECK(too_long.error().what.find("front is not there yet") != std::string::npos);
  CHECK(roles.tell(serve_role::front, 3, 40));
  CHECK_FALSE(roles.tell(serve_role::front, 4, 0));
  CHECK(roles.dropped() == 2);

  CHECK(roles.tell(serve_role::decode, 10, 100)); // each role has its own
  roles.publish(serve_role::front, front.listen(system));
  CHECK(roles.tell(serve_role::front, 5, 1000)); // it is there: the mailbox takes it
  CHECK(front.first(3) == std::vector{1, 3, 5});
}

TEST_CASE_FIXTURE(fixture,
                  "K12: a role that is published while threads tell it things misses none, in each one's order") {
  caf::actor_system system{config};
  constexpr int words = 2000;
  role_table roles{{.messages = 2 * words, .bytes = 1 << 20}};
  const auto talk = [&](int from) {
    for (int word = 0; word < words; ++word)
      CHECK_MESSAGE(roles.tell(serve_role::front, from + word, 1), "word ", word);
  };
  std::thread one{[&] { talk(0); }};
  std::thread other{[&] { talk(words); }};
  roles.publish(serve_role::front, front.listen(system));
  one.join();
  other.join();
  const auto heard = front.first(2 * words);
  REQUIRE(heard.size() == 2 * words);
  int next_of_one = 0;
  int next_of_other = words;
  for (const int word : heard) {
    auto& next = word < words ? next_of_one : next_of_other;
    REQUIRE(word == next);
    ++next;
  }
}
