#include "fabric/transfers/staged_engine.hpp"

#include <algorithm>
#include <memory>

#include "tests/fabric/pretended_device.hpp"
#include "tests/fabric/transfer_harness.hpp"

using namespace troupe;
using namespace troupe::fabric;
using namespace troupe::fabric::testing;

namespace {

constexpr std::size_t region_bytes = 256;
constexpr std::uint64_t room = 7; ///< completion data of every write

/// Two ranks with a device each, over a lane that reaches neither, each with a region of it and one of the host.
struct staged_pair {
  struct side {
    event_log log;
    std::shared_ptr<pretended_memory> memory = std::make_shared<pretended_memory>();
    std::shared_ptr<arrival_table> arrivals = std::make_shared<arrival_table>();
    std::unique_ptr<transfer_engine> engine;
    local_region of_device, of_host;
    protocols::endpoint at;
  } writer, reader;
  std::uint64_t posted = 0;

  explicit staged_pair(bulk_kind over = bulk_kind::shared_memory, std::size_t queue_max = 16) {
    open(writer, 0, over, queue_max);
    open(reader, 1, over, queue_max);
    REQUIRE(writer.engine->attach_peer(reader.at, within(patience)));
    REQUIRE(reader.engine->attach_peer(writer.at, within(patience)));
    for (const auto* region : {&reader.of_device, &reader.of_host})
      REQUIRE(writer.engine->attach_region(rank_id{1}, region->card, within(patience)));
    std::fill(writer.of_device.bytes.begin(), writer.of_device.bytes.end(), std::byte{42});
  }

  static void open(side& one, std::uint32_t rank, bulk_kind over, std::size_t queue_max) {
    one.at.rank = rank_id{rank};
    one.at.born = generation{1};
    one.at.unix_path = fresh_path();
    auto lane =
        over == bulk_kind::fabric
            ? make_fabric_engine({.self = one.at.rank, .born = one.at.born})
            : make_shared_memory_engine({.self = one.at.rank, .born = one.at.born, .unix_path = one.at.unix_path});
    REQUIRE_MESSAGE(lane, to_string(lane.error()));
    one.at.fabric_address = (*lane)->address();
    one.engine = std::make_unique<staged_engine>(*std::move(lane), one.memory, one.arrivals, queue_max);
    one.of_device = *one.engine->register_region(region_bytes, memory_kind::device);
    one.of_host = *one.engine->register_region(region_bytes);
    REQUIRE(one.engine->start(one.log.events()));
  }

  result<void> write(const local_region& source, const local_region& target, std::vector<write_piece> pieces,
                     ready_event ready = ready_event::already(), protocols::duration time = patience) {
    return writer.engine->post({.to = rank_id{1},
                                .source_region = source.id,
                                .target_region = target.id,
                                .pieces = std::move(pieces),
                                .completion_data = room,
                                .lease = {generation{1}, within(patience)},
                                .deadline = within(time),
                                .cookie = ++posted},
                               std::move(ready));
  }

  void expect(std::vector<write_piece> pieces) {
    reader.arrivals->expect(rank_id{0}, room, {reader.of_device.id, std::move(pieces)});
  }

  /// Which bytes of the reader's device have come from the writer's.
  bool has_come(std::size_t first, std::size_t last) const {
    const auto bytes = std::as_const(reader.of_device.bytes);
    for (std::size_t i = 0; i < bytes.size(); ++i)
      if ((bytes[i] == std::byte{42}) != (i >= first && i < last))
        return false;
    return true;
  }
};

} // namespace

TEST_CASE(
    "I31: what one device computed stands in the other's memory when it is said to have arrived, whatever the lane") {
  for (const auto lane : {bulk_kind::shared_memory, bulk_kind::fabric}) {
    CAPTURE(name_of(lane));
    staged_pair with{lane};
    with.expect({{128, 128, 32}});
    REQUIRE(with.write(with.writer.of_device, with.reader.of_device, {{0, 128, 32}}));
    REQUIRE(with.reader.log.wait_arrived(1));
    CHECK(with.reader.log.arrived().front().data == room);
    CHECK(with.has_come(128, 160));
    REQUIRE(with.writer.log.wait_delivered(1));
    CHECK(with.writer.log.delivered().front().outcome);
    CHECK(with.writer.memory->copied_by == device_reach::pinned);
  }
}

TEST_CASE("rows of a device go to a peer that reads them in the host's memory, and pixels as ever") {
  staged_pair with;
  REQUIRE(with.write(with.writer.of_device, with.reader.of_host, {{16, 0, 8}}));
  REQUIRE(with.reader.log.wait_arrived(1));
  CHECK(with.reader.of_host.bytes[0] == std::byte{42});
  CHECK(with.reader.of_host.bytes[8] == std::byte{});

  with.writer.of_host.bytes[0] = std::byte{3};
  REQUIRE(with.write(with.writer.of_host, with.reader.of_host, {{0, 100, 1}}));
  REQUIRE(with.reader.log.wait_arrived(2));
  CHECK(with.reader.of_host.bytes[100] == std::byte{3});
}

TEST_CASE("E12, E16: the copy out of the device stands behind the event of what it reads, and lets go of it") {
  staged_pair with;
  auto computed = std::make_shared<pretended_event>();
  const std::weak_ptr<pretended_event> held = computed;
  std::fill(with.writer.of_device.bytes.begin(), with.writer.of_device.bytes.end(), std::byte{});
  with.expect({{0, 0, 8}});
  REQUIRE(with.write(with.writer.of_device, with.reader.of_device, {{0, 0, 8}}, ready_event::behind(computed)));
  // What is computed meanwhile is what the peer gets: a copy that had begun at once would have taken zeros.
  std::fill(with.writer.of_device.bytes.begin(), with.writer.of_device.bytes.end(), std::byte{42});
  CHECK(with.reader.log.arrived().empty());
  computed->passed = true;
  computed.reset();

  REQUIRE(with.reader.log.wait_arrived(1));
  CHECK(with.has_come(0, 8));
  with.writer.engine->stop();
  CHECK(held.expired());
}

TEST_CASE("what several peers get is copied out once, and again when the device has computed anew") {
  staged_pair with;
  for (const int copies : {1, 2}) {
    const auto computed = std::make_shared<pretended_event>();
    computed->passed = true;
    for (int peer = 0; peer < 3; ++peer)
      REQUIRE(with.write(with.writer.of_device, with.reader.of_host, {{16, 16, 8}}, ready_event::behind(computed)));
    REQUIRE(with.reader.log.wait_arrived(with.posted));
    REQUIRE(with.writer.log.wait_delivered(with.posted));
    CHECK(with.writer.memory->begun == copies);
    CHECK(with.reader.of_host.bytes[23] == std::byte{42});
  }
}

TEST_CASE("D11, I24: a word that comes again, or of a room that has ended, moves nothing on the device") {
  staged_pair with;
  with.expect({{0, 0, 16}});
  REQUIRE(with.write(with.writer.of_device, with.reader.of_device, {{0, 0, 16}}));
  REQUIRE(with.reader.log.wait_arrived(1));
  REQUIRE(with.writer.log.wait_delivered(1));
  with.reader.of_device.bytes[15] = std::byte{9}; // a step has written behind the prompt meanwhile
  REQUIRE(with.write(with.writer.of_device, with.reader.of_device, {{0, 0, 16}}));
  REQUIRE(with.reader.log.wait_arrived(2)); // the role is told, and judges
  REQUIRE(with.writer.log.wait_delivered(2));
  CHECK(with.reader.of_device.bytes[15] == std::byte{9});

  with.expect({{32, 32, 16}});
  with.reader.arrivals->forget(room);
  REQUIRE(with.write(with.writer.of_device, with.reader.of_device, {{0, 32, 16}}));
  REQUIRE(with.reader.log.wait_arrived(3));
  CHECK(with.reader.of_device.bytes[32] == std::byte{});
}

TEST_CASE("I24: a write that is late ends by its deadline, and the next goes out when the device has ended the copy") {
  staged_pair with;
  const auto never = std::make_shared<pretended_event>();
  REQUIRE(with.write(with.writer.of_device, with.reader.of_device, {{0, 0, 8}}, ready_event::behind(never), 20ms));
  REQUIRE(with.writer.log.wait_delivered(1));
  CHECK(with.writer.log.delivered().front().outcome.error().code == fault::timeout);
  REQUIRE(with.write(with.writer.of_device, with.reader.of_device, {{8, 8, 8}}));
  REQUIRE(with.writer.log.wait_delivered(2));
  CHECK(with.writer.log.delivered().back().outcome.error().code == fault::executor_failed);
  CHECK(with.reader.log.arrived().empty());

  never->passed = true;
  with.expect({{16, 16, 8}});
  for (std::size_t i = 3; with.reader.log.arrived().empty() && i < 10; ++i) {
    REQUIRE(with.write(with.writer.of_device, with.reader.of_device, {{16, 16, 8}}));
    REQUIRE(with.writer.log.wait_delivered(i));
    if (with.writer.log.delivered().back().outcome)
      REQUIRE(with.reader.log.wait_arrived(1));
  }
  CHECK(with.has_come(16, 24));
}

TEST_CASE("I25: what a device reports ends that write alone, and what did not reach the reader's is not told") {
  staged_pair with;
  with.writer.memory->breaks = true;
  REQUIRE(with.write(with.writer.of_device, with.reader.of_device, {{0, 0, 8}}));
  REQUIRE(with.writer.log.wait_delivered(1));
  CHECK(with.writer.log.delivered().front().outcome.error().code == fault::executor_failed);
  with.writer.memory->breaks = false;

  with.reader.memory->breaks = true;
  with.expect({{0, 0, 8}});
  REQUIRE(with.write(with.writer.of_device, with.reader.of_device, {{0, 0, 8}}));
  REQUIRE(with.writer.log.wait_delivered(2));
  CHECK(with.writer.log.delivered().back().outcome);
  REQUIRE(with.write(with.writer.of_host, with.reader.of_host, {{0, 0, 8}})); // another's goes on
  REQUIRE(with.reader.log.wait_arrived(1));
  CHECK(with.has_come(0, 0));
}

TEST_CASE("what cannot be is refused by name: more than is pinned, a place outside, an event of the host's memory, too "
          "many writes, a stopped engine") {
  staged_pair with{bulk_kind::shared_memory, 1};
  const auto& [source, target] = std::tie(with.writer.of_device, with.reader.of_device);
  auto lane = *make_shared_memory_engine({.self = rank_id{3}, .born = generation{1}, .unix_path = fresh_path()});
  staged_engine unstarted{std::move(lane), with.reader.memory, with.reader.arrivals};
  CHECK(unstarted.register_region(8192, memory_kind::device).error().code == fault::no_memory);

  CHECK(with.write(source, target, {{250, 0, 8}}).error().code == fault::out_of_bounds);
  const auto never = std::make_shared<pretended_event>();
  CHECK(with.write(with.writer.of_host, with.reader.of_host, {{0, 0, 8}}, ready_event::behind(never)).error().code ==
        fault::bad_value);
  REQUIRE(with.write(source, target, {{0, 250, 8}})); // the engine within judges the target
  REQUIRE(with.writer.log.wait_delivered(1));
  CHECK(with.writer.log.delivered().front().outcome.error().code == fault::out_of_bounds);

  auto refused = result<void>{};
  for (int i = 0; i < 3 && refused; ++i) // one under way, one in line
    refused = with.write(source, target, {{0, 0, 8}}, ready_event::behind(never));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == fault::queue_full);

  with.writer.engine->stop();
  for (const auto& each : with.writer.log.delivered())
    CHECK_FALSE(each.outcome);
  CHECK(with.writer.log.delivered().size() == with.posted - 3); // those that were refused have no end
  CHECK(with.write(source, target, {{0, 0, 8}}).error().code == fault::shutting_down);
}
