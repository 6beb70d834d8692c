#include <doctest/doctest.h>

#include <chrono>
#include <random>
#include <set>

#include "protocols/transfers/slot_pool_machine.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {
time_point at(duration since_start) {
  return time_point{since_start};
}
} // namespace

TEST_CASE("I27: a pool lends each slot once and says when none is left") {
  slot_pool_machine pool{2};

  const auto first = pool.acquire();
  const auto second = pool.acquire();

  REQUIRE(first);
  REQUIRE(second);
  CHECK(first->slot != second->slot);
  CHECK(pool.acquire().error().code == fault::no_memory);
  CHECK(pool.available() == 0);
}

TEST_CASE("I24: a reference is stale as soon as its lease_generation has ended") {
  slot_pool_machine pool{1};
  const auto old = *pool.acquire();
  REQUIRE(pool.release(old));

  CHECK(pool.check(old).error().code == fault::stale_grant);
  const auto next = *pool.acquire();
  CHECK(next.slot == old.slot);
  CHECK(pool.check(next));
  CHECK(pool.check(old).error().code == fault::stale_grant);
  CHECK(pool.release(old).error().code == fault::stale_grant);
  CHECK(pool.fail(old).error().code == fault::stale_grant);
  CHECK(pool.check(next)); // the present tenant is untouched
}

TEST_CASE("I24: a default-made or invented reference opens nothing") {
  slot_pool_machine pool{1};

  CHECK(pool.check(slot_ref{}).error().code == fault::stale_grant);
  CHECK(pool.check({slot_index{1}, generation{1}}).error().code == fault::bad_value);
}

TEST_CASE("I24: a failed slot rests for the whole quarantine, in time that the rank itself ran") {
  slot_pool_machine pool{1};
  pool.tick(at(1s));
  REQUIRE(pool.fail(*pool.acquire()));
  CHECK(pool.resting() == 1);

  auto now = at(1h); // a pause is one step
  pool.tick(now);
  for (auto ran = limits::own_time_step_max; ran + 100ms < limits::slot_quarantine; ran += 100ms)
    pool.tick(now += 100ms);
  CHECK(pool.acquire().error().code == fault::no_memory);

  pool.tick(now += 100ms);
  CHECK(pool.acquire());
  CHECK(pool.resting() == 0);
}

TEST_CASE("I24: the slot that has been free longest is lent first") {
  slot_pool_machine pool{3};
  const auto first = *pool.acquire();
  REQUIRE(pool.release(first));

  CHECK(pool.acquire()->slot == slot_index{1});
  CHECK(pool.acquire()->slot == slot_index{2});
  CHECK(pool.acquire()->slot == first.slot);
}

TEST_CASE("E23: over many random tenancies no slot has two tenants and none is lost") {
  constexpr std::uint64_t seed = 7;
  CAPTURE(seed);
  std::mt19937_64 random{seed};
  slot_pool_machine pool{5};
  std::vector<slot_ref> tenants;
  auto now = at(0s);

  for (int step = 0; step < 5000; ++step) {
    now += 100ms;
    pool.tick(now);
    if (random() % 2 == 0) {
      if (const auto slot = pool.acquire())
        tenants.push_back(*slot);
    } else if (!tenants.empty()) {
      const auto which = static_cast<std::ptrdiff_t>(random() % tenants.size());
      const auto ref = tenants[static_cast<std::size_t>(which)];
      REQUIRE((random() % 8 == 0 ? pool.fail(ref) : pool.release(ref)));
      tenants.erase(tenants.begin() + which);
    }
    std::set<slot_index> lent;
    for (const auto& ref : tenants) {
      REQUIRE(pool.check(ref));
      REQUIRE(lent.insert(ref.slot).second);
    }
    REQUIRE(tenants.size() + pool.available() + pool.resting() == pool.size());
  }
}
