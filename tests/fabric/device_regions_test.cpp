#include <algorithm>
#include <memory>

#include "tests/fabric/pretended_device.hpp"
#include "tests/fabric/transfer_harness.hpp"

using namespace troupe;
using namespace troupe::fabric;
using namespace troupe::fabric::testing;
using protocols::result;

namespace {

/// Two engines on one device, each with a region of it and one of the host.
struct pair_on_device {
  std::shared_ptr<pretended_memory> memory = std::make_shared<pretended_memory>();
  struct side {
    event_log log;
    std::unique_ptr<transfer_engine> engine;
    local_region of_device, of_host;
    protocols::endpoint at;
  } writer, reader;

  explicit pair_on_device(device_reach reach = device_reach::direct) {
    memory->reach = reach;
    open(writer, 0);
    open(reader, 1);
    REQUIRE(writer.engine->attach_peer(reader.at, within(patience)));
    REQUIRE(reader.engine->attach_peer(writer.at, within(patience)));
    for (const auto* region : {&reader.of_device, &reader.of_host})
      REQUIRE(writer.engine->attach_region(rank_id{1}, region->card, within(patience)));
  }

  void open(side& one, std::uint32_t rank) {
    one.at.rank = rank_id{rank};
    one.at.born = generation{1};
    one.at.unix_path = fresh_path();
    one.engine = *make_shared_memory_engine(
        {.self = one.at.rank, .born = one.at.born, .unix_path = one.at.unix_path, .devices = memory});
    one.of_device = *one.engine->register_region(256, memory_kind::device);
    one.of_host = *one.engine->register_region(256);
    REQUIRE(one.engine->start(one.log.events()));
  }

  result<void> write(std::uint32_t source, std::uint32_t target, std::vector<write_piece> pieces,
                     ready_event ready = ready_event::already()) {
    return writer.engine->post({.to = rank_id{1},
                                .source_region = source,
                                .target_region = target,
                                .pieces = std::move(pieces),
                                .completion_data = 7,
                                .lease = {generation{1}, within(patience)},
                                .deadline = within(patience),
                                .cookie = 11},
                               std::move(ready));
  }
};

} // namespace

TEST_CASE("I25: a write between regions of a device arrives once the device has carried it out") {
  pair_on_device with;
  std::fill(with.writer.of_device.bytes.begin(), with.writer.of_device.bytes.end(), std::byte{42});

  REQUIRE(with.write(with.writer.of_device.id, with.reader.of_device.id, {{0, 16, 32}, {64, 128, 8}}));

  REQUIRE(with.reader.log.wait_arrived(1));
  REQUIRE(with.writer.log.wait_delivered(1));
  CHECK(with.writer.log.delivered().front().outcome);
  for (std::size_t i = 0; i < 256; ++i)
    CHECK((with.reader.of_device.bytes[i] == std::byte{42}) == ((i >= 16 && i < 48) || (i >= 128 && i < 136)));
}

TEST_CASE("I25: what the device reports ends that write alone, and a write between two kinds of memory is refused") {
  pair_on_device with;
  const auto mixed = with.write(with.writer.of_host.id, with.reader.of_device.id, {{0, 0, 8}});
  CHECK(mixed.error().code == fault::bad_value);

  with.memory->breaks = true;
  REQUIRE(with.write(with.writer.of_device.id, with.reader.of_device.id, {{0, 0, 8}}));
  REQUIRE(with.writer.log.wait_delivered(1));
  CHECK(with.writer.log.delivered().front().outcome.error().code == fault::executor_failed);
  CHECK(with.reader.log.arrived().empty());

  REQUIRE(with.write(with.writer.of_host.id, with.reader.of_host.id, {{0, 0, 8}}));
  REQUIRE(with.writer.log.wait_delivered(2));
  CHECK(with.writer.log.delivered().back().outcome);
}

TEST_CASE("a device that cannot be reached is copied to by way of the host") {
  for (const auto reach : {device_reach::direct, device_reach::by_way_of_host}) {
    pair_on_device with{reach};
    REQUIRE(with.write(with.writer.of_device.id, with.reader.of_device.id, {{0, 0, 8}}));
    REQUIRE(with.writer.log.wait_delivered(1));
    CHECK(with.memory->copied_by == reach);
  }
}

TEST_CASE("E12, E16: a write stands behind the event of what it reads, and holds it until it is delivered") {
  pair_on_device with;
  auto computed = std::make_shared<pretended_event>();
  const std::weak_ptr<pretended_event> held = computed;
  REQUIRE(with.write(with.writer.of_device.id, with.reader.of_device.id, {{0, 16, 32}}, ready_event::behind(computed)));
  // What is computed meanwhile is what the peer gets: a copy that had begun at once would have taken zeros.
  std::fill(with.writer.of_device.bytes.begin(), with.writer.of_device.bytes.end(), std::byte{42});
  CHECK(with.reader.log.arrived().empty());
  computed->passed = true;
  computed.reset();

  REQUIRE(with.reader.log.wait_arrived(1));
  REQUIRE(with.writer.log.wait_delivered(1));
  CHECK(with.reader.of_device.bytes[16] == std::byte{42});
  REQUIRE(with.write(with.writer.of_device.id, with.reader.of_device.id, {{0, 16, 32}})); // the one before is let go of
  REQUIRE(with.writer.log.wait_delivered(2));
  CHECK(held.expired());

  const auto of_host = with.write(with.writer.of_host.id, with.reader.of_host.id, {{0, 0, 8}},
                                  ready_event::behind(std::make_shared<pretended_event>()));
  CHECK(of_host.error().code == fault::bad_value);
}

TEST_CASE("K1: a write that was posted in time is not begun when its lease has ended in the queue") {
  pair_on_device with;
  auto computed = std::make_shared<pretended_event>();
  REQUIRE(with.write(with.writer.of_device.id, with.reader.of_device.id, {{0, 16, 32}}, ready_event::behind(computed)));
  std::fill(with.writer.of_host.bytes.begin(), with.writer.of_host.bytes.end(), std::byte{42});
  const auto until = within(50ms);
  REQUIRE(with.writer.engine->post({.to = rank_id{1},
                                    .source_region = with.writer.of_host.id,
                                    .target_region = with.reader.of_host.id,
                                    .pieces = {{0, 0, 256}},
                                    .completion_data = 8,
                                    .lease = {generation{1}, until},
                                    .deadline = within(patience),
                                    .cookie = 12},
                                   ready_event::already()));
  CHECK_FALSE(with.reader.log.wait_arrived(1, until - base::now())); // the first one stands before it
  computed->passed = true;

  REQUIRE(with.writer.log.wait_delivered(2));
  const auto ended = with.writer.log.delivered();
  CHECK(ended[0].outcome);
  REQUIRE_FALSE(ended[1].outcome);
  CHECK(ended[1].outcome.error().code == fault::stale_grant);
  CHECK(with.reader.of_host.bytes[0] == std::byte{0});
}

TEST_CASE("a rank without a device is refused regions of one") {
  auto engine = *make_shared_memory_engine({.self = rank_id{0}, .born = generation{1}, .unix_path = fresh_path()});
  CHECK(engine->register_region(64, memory_kind::device).error().code == fault::config_invalid);
}
