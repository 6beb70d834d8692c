#include "tests/gpu/group_fixture.hpp"

using namespace group_fixture;

/// Group collectives over TCP: what a cell on several hosts uses. The same must come out as over shared memory.
namespace {

/// What one member has after each collective of a fixed round, in one list of bytes.
struct outcome {
  std::vector<float> sum;
  std::vector<std::int32_t> least;
  std::vector<float> gathered;
  std::vector<float> told;

  bool operator==(const outcome& other) const {
    return same_bits(sum, other.sum) && least == other.least && same_bits(gathered, other.gathered) &&
           same_bits(told, other.told);
  }
};

/// Every collective once, on data that `seed` and the member decide.
result<outcome> play_round(gpu::group& group, std::uint32_t members, std::size_t count, std::uint64_t seed) {
  outcome got;
  got.sum = random_floats(seed + group.self(), count);
  for (const auto value : random_floats(seed + 10 + group.self(), count))
    got.least.push_back(static_cast<std::int32_t>(value));
  got.gathered.resize(count * members);
  got.told = random_floats(seed + 20 + group.self(), count);
  const auto mine = random_floats(seed + 30 + group.self(), count);
  const auto root = static_cast<std::uint32_t>(seed % members);
  return group.begin(call_id{seed}, "round", 4)
      .and_then([&] { return group.all_reduce_sum(got.sum); })
      .and_then([&] { return group.all_reduce_min(got.least); })
      .and_then([&] { return group.all_gather(mine, got.gathered); })
      .and_then([&] { return group.broadcast(std::as_writable_bytes(std::span{got.told}), root); })
      .and_then([&] { return group.end(); })
      .map([&] { return std::move(got); });
}

std::vector<result<outcome>> outcomes_over(lane_form form, std::uint32_t members, std::size_t count,
                                           std::uint64_t seed) {
  cast all{members, 10s, form};
  std::vector<result<outcome>> got(members, fail(fault::timeout));
  all.play([&](gpu::group& group) -> result<void> {
    auto& mine = got[group.self()];
    mine = play_round(group, members, count, seed);
    return mine ? result<void>{} : tl::unexpected<failure>{mine.error()};
  });
  return got;
}

} // namespace

TEST_CASE("G9: collectives over TCP give the bits that they give over shared memory, beyond what a lane holds") {
  for (const std::uint32_t members : {2u, 4u})
    for (const std::size_t count : {0ul, 1ul, 5000ul, narrow.in_flight_bytes_max / sizeof(float) + 1, 400'003ul}) {
      const std::uint64_t seed = 1000 + count;
      INFO("members: ", members, ", count: ", count, ", seed: ", seed);
      const auto over_tcp = outcomes_over(lane_form::tcp, members, count, seed);
      const auto over_memory = outcomes_over(lane_form::shared_memory, members, count, seed);
      for (std::uint32_t i = 0; i < members; ++i) {
        REQUIRE_MESSAGE(over_tcp[i], to_string(over_tcp[i] ? failure{} : over_tcp[i].error()));
        REQUIRE(over_memory[i]);
        CHECK(*over_tcp[i] == *over_memory[i]);
      }
    }
}

TEST_CASE("C15: over TCP, a member that dies in the middle of a collective ends it for all others at once, by name") {
  for (const std::uint32_t members : {2u, 4u}) {
    INFO("members: ", members);
    cast all{members, 10s, lane_form::tcp};
    const auto last = members - 1;
    const auto began = base::now();
    const auto ends = all.play([&](gpu::group& group) -> result<void> {
      auto values = random_floats(group.self(), 400'000);
      if (group.self() == last) { // one frame of the others has come, so they are inside
        const auto first = fabric::receive(*all.lanes[last]->to[0], base::now() + 5s);
        return fail(fault::executor_failed, first ? "planted" : to_string(first.error()));
      }
      return group.begin(call_id{1}, "forward", 1).and_then([&] { return group.all_reduce_sum(values); });
    });
    CHECK(base::now() - began < 9s);
    CHECK(contains(ends[last], "planted"));
    bool dead_named = false;
    for (std::uint32_t i = 0; i < last; ++i) {
      REQUIRE_FALSE(ends[i]);
      CHECK(ends[i].error().code == fault::peer_gone);
      dead_named = dead_named || contains(ends[i], "with rank " + std::to_string(10 + last));
    }
    CHECK(dead_named);
  }
}

TEST_CASE("B19: over TCP, members that bring different counts fail at once, naming both sides") {
  cast all{2, 10s, lane_form::tcp};
  const auto began = base::now();
  const auto ends = all.play([](gpu::group& group) {
    std::vector<float> values(8 + group.self());
    return group.begin(call_id{4}, "forward", 1).and_then([&] { return group.all_reduce_sum(values); });
  });
  CHECK(base::now() - began < 9s);
  REQUIRE_FALSE(ends[0]);
  REQUIRE_FALSE(ends[1]);
  // The slower of the two may find the other gone already; the faster one names both.
  const auto& named = ends[0].error().code == fault::plan_mismatch ? ends[0] : ends[1];
  INFO(words(named));
  CHECK(named.error().code == fault::plan_mismatch);
  CHECK(contains(named, "all_reduce_sum of 8"));
  CHECK(contains(named, "all_reduce_sum of 9"));
}

TEST_CASE("B30: over TCP, one member plans a collective more than the other, and nobody waits") {
  cast all{2, 10s, lane_form::tcp};
  const auto began = base::now();
  const auto ends = all.play([](gpu::group& group) {
    const std::uint32_t planned = 1 + group.self();
    std::vector<float> values(8, 1.0F);
    result<void> done = group.begin(call_id{5}, "forward", planned);
    for (std::uint32_t i = 0; done && i < planned; ++i)
      done = group.all_reduce_sum(values);
    if (done)
      done = group.end();
    // The one that planned less goes on to its next step, as a rank does.
    if (done)
      done = group.begin(call_id{6}, "forward", 1).and_then([&] { return group.all_reduce_sum(values); });
    return done;
  });
  CHECK(base::now() - began < 9s);
  REQUIRE_FALSE(ends[0]);
  REQUIRE_FALSE(ends[1]);
  const auto& named = ends[0].error().code == fault::plan_mismatch ? ends[0] : ends[1];
  INFO(words(named));
  CHECK(named.error().code == fault::plan_mismatch);
  CHECK(contains(named, "call 5"));
  CHECK(contains(named, "call 6"));
}
