#include <doctest/doctest.h>

#include <chrono>

#include "protocols/limits.hpp"
#include "protocols/transfers/block_pool_machine.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

std::vector<block_index> blocks(std::initializer_list<std::uint32_t> places) {
  std::vector<block_index> list;
  for (const auto place : places)
    list.emplace_back(place);
  return list;
}

} // namespace

TEST_CASE("I27: blocks are reserved all at once or not at all") {
  block_pool_machine pool{4};

  CHECK(pool.reserve(3) == blocks({0, 1, 2}));
  CHECK(pool.reserve(2).error().code == fault::no_memory);
  CHECK(pool.available() == 1);
  CHECK(pool.reserve(1) == blocks({3}));
  CHECK(pool.reserve(0) == blocks({}));
}

TEST_CASE("F13: released blocks are lent again, those that have been free longest first") {
  block_pool_machine pool{4};
  const auto first = pool.reserve(2);
  REQUIRE(pool.release(*first));

  CHECK(pool.reserve(4) == blocks({2, 3, 0, 1}));
}

TEST_CASE("F13: a wrong release changes nothing") {
  block_pool_machine pool{4};
  REQUIRE(pool.reserve(2));

  CHECK(pool.release(blocks({0, 3})).error().code == fault::illegal_transition); // 3 is free
  CHECK(pool.release(blocks({0, 0})).error().code == fault::illegal_transition); // twice
  CHECK(pool.release(blocks({0, 4})).error().code == fault::illegal_transition); // not there
  CHECK(pool.available() == 2);
  CHECK(pool.release(blocks({0, 1})));
  CHECK(pool.release(blocks({0})).error().code == fault::illegal_transition);
}
