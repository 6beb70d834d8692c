#include "protocols/cluster/due_order.hpp"

#include <doctest/doctest.h>

#include <set>

using namespace troupe::protocols;

namespace {

/// Three ranks with a process, an output and a socket each.
struct fixture {
  std::vector<std::size_t> owners{0, 0, 0, 1, 1, 1, 2, 2, 2};
  std::set<std::size_t> found;
  std::vector<std::size_t> due{7};

  void ready(std::size_t place) { found.insert(place); }
  std::vector<std::size_t> order(bool all = false) {
    const std::vector<std::size_t> woken{found.begin(), found.end()};
    put_due_in_order(owners, woken, all, due);
    return due;
  }
};

} // namespace

TEST_CASE_FIXTURE(fixture, "C1: a rank whose process has ended is looked at before what others have sent and written") {
  CHECK(order().empty());
  ready(1); // output of 0
  ready(5); // socket of 1
  CHECK(order() == std::vector<std::size_t>{0, 1});
  ready(6); // process of 2
  ready(8);
  CHECK(order() == std::vector<std::size_t>{2, 0, 1});
  ready(3); // process of 1
  CHECK(order() == std::vector<std::size_t>{1, 2, 0});
}

TEST_CASE_FIXTURE(fixture, "where a frame is there already everybody is due, the dead first") {
  ready(6);
  CHECK(order(true) == std::vector<std::size_t>{2, 0, 1});
}
