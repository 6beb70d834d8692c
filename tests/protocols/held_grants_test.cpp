#include "protocols/transfers/held_grants.hpp"

#include <array>
#include <vector>

#include <doctest/doctest.h>

#include "serve_fixture.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

using grants = held_grants<grant_rows>;
using revocation = grants::revocation;
using writing = grants::writing;

constexpr rank_id ann{4};
constexpr rank_id ben{5};

grant_rows part(std::uint32_t number) {
  grant_rows grant;
  grant.part = number;
  grant.born = generation{2};
  grant.valid_ms = 100;
  return grant;
}

/// What the receivers of a room of two parts have granted.
struct two_parts : grants {
  two_parts() {
    REQUIRE(take(ann, part(0), at(1s)));
    REQUIRE(take(ben, part(1), at(1s)));
  }
  void begin(std::uint32_t number) { find_unused(number)->at = writing::on_its_way; }
  std::vector<rank_id> returned() {
    std::vector<rank_id> to;
    end_unused([&](const held& one) { to.push_back(one.from); });
    return to;
  }
};

} // namespace

TEST_CASE("D10, K1: a part is held once, under a lease of its owner's generation that ends when the grant says") {
  two_parts room;
  CHECK_FALSE(room.take(ann, part(0), at(2s)));
  CHECK(room.find_unused(0)->under == lease{generation{2}, at(1100ms)});
  room.begin(0);
  CHECK(room.find_unused(0) == nullptr);
  CHECK(room.find_unused(7) == nullptr);
}

TEST_CASE("K2: what is revoked while it is written is returned when the write has ended, whatever came of it") {
  for (const bool whole : {true, false}) {
    CAPTURE(whole);
    two_parts room;
    room.begin(0);
    CHECK(room.on_revoke(ann) == revocation::waits);
    CHECK(room.any_on_its_way());
    CHECK(room.returned() == std::vector{ben}); // and not what is being written
    const auto* const ended = room.on_written(0, whole);
    REQUIRE(ended != nullptr);
    CHECK(ended->revoked);
    CHECK(room.is_delivered(0) == whole);
    CHECK_FALSE(room.any_on_its_way());
    CHECK(room.on_written(0, whole) == nullptr); // told twice
  }
}

TEST_CASE("K2: what is revoked before its write begins is never written, and a repeated revoke is answered again") {
  two_parts room;
  CHECK(room.on_revoke(ann) == revocation::unused);
  CHECK(room.find_unused(0) == nullptr);
  CHECK(room.on_revoke(ann) == revocation::was_over);
  CHECK(room.on_revoke(rank_id{9}) == revocation::was_over);
  CHECK(room.returned() == std::vector{ben});
  CHECK(room.returned().empty());
}

TEST_CASE(
    "K1: a lost owner's memory is not written, what is on its way there ends by itself, and old grants are void") {
  two_parts room;
  room.begin(1);
  const std::array both{ann, ben};
  CHECK(room.any_from(both));
  CHECK(room.on_lost(both));
  CHECK(room.find_unused(0) == nullptr);
  CHECK(room.any_on_its_way());
  CHECK_FALSE(room.on_lost(both));
  CHECK(room.returned().empty()); // nobody is there to be told

  lost_owners owners;
  CHECK_FALSE(owners.is_of_the_past(ann, generation{2}));
  owners.on_lost({.ranks = {ann}, .next = generation{3}, .cause = {}});
  CHECK(owners.is_of_the_past(ann, generation{2}));
  CHECK_FALSE(owners.is_of_the_past(ann, generation{3}));
  CHECK_FALSE(owners.is_of_the_past(ben, generation{2}));
}
