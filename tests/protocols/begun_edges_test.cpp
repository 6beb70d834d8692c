#include "protocols/wire/begun_edges.hpp"

#include <doctest/doctest.h>

using namespace troupe::protocols;

namespace {

constexpr rank_id peer{3};
const begun_edges::name of_control{peer, channel_kind::control, group_id{}};
const begun_edges::name of_tokens{peer, channel_kind::tokens, group_id{}};

} // namespace

TEST_CASE("B9: a good hello that comes to nothing leaves its edge free, one that becomes a lane takes it once") {
  begun_edges edges;
  CHECK(edges.judge(of_control, generation{1}));
  CHECK(edges.judge(of_control, generation{1})); // what came of the first is not known, or nothing
  CHECK(edges.born(peer) == generation{});

  edges.on_begun(of_control, generation{1});

  CHECK(edges.judge(of_control, generation{1}).error().code == fault::wrong_sequence);
  CHECK(edges.judge(of_tokens, generation{1}));
  CHECK(edges.judge(of_control, generation{2}));
}

TEST_CASE("D2: an edge of a later generation, or news of one, shuts out what an earlier one says") {
  begun_edges edges;
  SUBCASE("an edge") {
    edges.on_begun(of_control, generation{2});
  }
  SUBCASE("news") {
    edges.on_news(peer, generation{2});
  }
  edges.on_news(peer, generation{1}); // late
  CHECK(edges.born(peer) == generation{2});
  CHECK(edges.judge(of_tokens, generation{1}).error().code == fault::stale_generation);
  CHECK(edges.judge(of_tokens, generation{2}));
}
