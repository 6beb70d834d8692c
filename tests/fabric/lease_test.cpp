#include <algorithm>

#include "tests/fabric/transfer_harness.hpp"

using namespace troupe;
using namespace troupe::fabric;
using namespace troupe::fabric::testing;

namespace {

constexpr std::size_t region_bytes = std::size_t{1} << 20;
constexpr std::size_t pieces_that_take_long =
    65536; ///< 64 GiB: far longer on any machine than the lease that is tried first

/// A writer and a reader of generation 3, on one lane, and a region of each.
struct two_parties {
  party writer, reader;

  explicit two_parties(bulk_kind kind)
      : writer(kind, 1, {region_bytes}), reader(kind, 2, {region_bytes}, 64, fresh_path(), 3) {
    writer.attach(reader);
  }
  write_request write(std::size_t pieces, protocols::lease under) const {
    return {.to = reader.rank,
            .source_region = 1,
            .target_region = 1,
            .pieces = std::vector<write_piece>(pieces, {0, 0, region_bytes}),
            .completion_data = 5,
            .lease = under,
            .deadline = within(120s)};
  }
};

} // namespace

TEST_CASE("K1: on every lane a write under a lease of another generation, or one that has ended, is refused") {
  for (const auto kind : {bulk_kind::shared_memory, bulk_kind::fabric}) {
    CAPTURE(name_of(kind));
    two_parties with{kind};
    const auto refused_with = [&](protocols::lease under) {
      const auto posted = with.writer.engine->post(with.write(1, under), ready_event::already());
      return posted ? fault{} : posted.error().code;
    };
    CHECK(refused_with({generation{2}, within(patience)}) == fault::stale_grant);
    CHECK(refused_with({generation{4}, within(patience)}) == fault::stale_grant);
    CHECK(refused_with({generation{3}, base::now()}) == fault::stale_grant);
    CHECK(refused_with({}) == fault::stale_grant);
    CHECK(refused_with({generation{3}, within(patience)}) == fault{});
    REQUIRE(with.reader.log.wait_arrived(1));
    with.reader.engine->stop();
    CHECK(with.reader.log.arrived().size() == 1);
  }
}

TEST_CASE("K1: on every lane a lease that ends in the middle of a write ends it, and nothing arrives after that word") {
  for (const auto kind : {bulk_kind::shared_memory, bulk_kind::fabric}) {
    CAPTURE(name_of(kind));
    two_parties with{kind};
    const auto bytes = with.writer.regions[0].bytes;
    std::fill(bytes.begin(), bytes.end(), std::byte{1});
    auto slow = with.write(pieces_that_take_long, {generation{3}, {}});
    protocols::result<void> posted = protocols::fail(fault::stale_grant);
    for (protocols::duration time = 50ms; !posted && time < 10s; time *= 2) { // a loaded machine may post it too late
      slow.lease.until = within(time);
      posted = with.writer.engine->post(slow, ready_event::already());
    }
    REQUIRE(posted);
    REQUIRE(with.writer.log.wait_delivered(1));
    const auto outcome = with.writer.log.delivered()[0].outcome;
    REQUIRE(!outcome);
    CHECK(outcome.error().code == fault::stale_grant);

    // What is read after it would bring this.
    std::fill(bytes.begin(), bytes.end(), std::byte{2});
    REQUIRE(with.writer.engine->post(with.write(0, {generation{3}, within(patience)}), ready_event::already()));
    REQUIRE(with.reader.log.wait_arrived(1)); // the second alone is told of
    const auto target = with.reader.regions[0].bytes;
    CHECK(std::find(target.begin(), target.end(), std::byte{2}) == target.end());
    with.reader.engine->stop();
    CHECK(with.reader.log.arrived().size() == 1);
  }
}
