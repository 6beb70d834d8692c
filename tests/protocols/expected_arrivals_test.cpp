#include "protocols/transfers/expected_arrivals.hpp"

#include <doctest/doctest.h>

using namespace troupe::protocols;

TEST_CASE("I24: an arrival is taken once, by who was granted it, and not after its room has ended") {
  expected_arrivals<int> board;
  board.expect(rank_id{1}, 7, 100);
  board.expect(rank_id{2}, 7, 200);
  board.expect(rank_id{1}, 8, 300);

  CHECK_FALSE(board.take(rank_id{3}, 7));
  CHECK_FALSE(board.take(rank_id{2}, 8));
  CHECK(board.take(rank_id{1}, 7) == 100);
  CHECK_FALSE(board.take(rank_id{1}, 7));

  board.forget(7);
  CHECK_FALSE(board.take(rank_id{2}, 7));
  CHECK(board.take(rank_id{1}, 8) == 300);
}
