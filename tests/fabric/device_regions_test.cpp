#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <optional>

#include "fabric/device_memory.hpp"
#include "tests/fabric/transfer_harness.hpp"

using namespace troupe;
using namespace troupe::fabric;
using namespace troupe::fabric::testing;
using protocols::fail;
using protocols::result;

namespace {

/// A point that the test lets the pretended device reach.
struct pretended_event final : device_event {
  std::atomic<bool> passed = false;
};

/// Memory that plays a device's: a handle is its address, which holds within one process, and a copy is carried out
/// when its end is asked for the second time behind the event that it waits for.
class pretended_memory final : public device_memory {
public:
  bool breaks = false;                       ///< copies fail when they are asked for
  device_reach reach = device_reach::direct; ///< of what is opened
  std::optional<device_reach> copied_by;     ///< the newest copy

  result<std::unique_ptr<device_region>> make(std::size_t bytes) override {
    auto made = std::make_unique<region>();
    made->owned.resize(bytes);
    made->view = made->owned;
    const auto* const data = made->owned.data();
    std::memcpy(made->name.data(), &data, sizeof data);
    return made;
  }
  result<std::unique_ptr<device_region>> open(const device_handle& of, std::size_t bytes) override {
    auto opened = std::make_unique<region>();
    std::byte* data = nullptr;
    std::memcpy(&data, of.data(), sizeof data);
    opened->view = {data, bytes};
    opened->name = of;
    opened->how = reach;
    return opened;
  }
  std::unique_ptr<device_copies> make_copies() override { return std::make_unique<copies>(*this); }
  result<room> left() override { return room{}; }

private:
  struct region final : device_region {
    std::vector<std::byte> owned;
    std::span<std::byte> view;
    device_handle name{};
    device_reach how = device_reach::direct;

    std::span<std::byte> bytes() const noexcept override { return view; }
    const device_handle& handle() const noexcept override { return name; }
    device_reach reach() const noexcept override { return how; }
  };

  struct copies final : device_copies {
    explicit copies(pretended_memory& memory) : of(memory) {}

    result<void> begin(std::span<const write_piece> what, const std::byte* source, std::byte* target, device_reach way,
                       const device_event* after) override {
      of.copied_by = way;
      behind = static_cast<const pretended_event*>(after);
      pieces.assign(what.begin(), what.end());
      from = source;
      to = target;
      asked = 0;
      return {};
    }
    result<bool> finished() override {
      if (of.breaks)
        return fail(fault::executor_failed, "the device is gone");
      if ((behind != nullptr && !behind->passed) || ++asked < 2)
        return false;
      for (const auto& piece : pieces)
        std::memcpy(to + piece.target_offset, from + piece.source_offset, piece.bytes);
      return true;
    }

    pretended_memory& of;
    std::vector<write_piece> pieces;
    const std::byte* from = nullptr;
    std::byte* to = nullptr;
    const pretended_event* behind = nullptr;
    int asked = 0;
  };
};

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
      REQUIRE(writer.engine->attach_region(rank_id{1}, region->card));
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
                                .deadline = within(patience),
                                .cookie = 11},
                               std::move(ready));
  }
};

} // namespace

TEST_CASE("I25: a write between regions of a device lands once the device has carried it out") {
  pair_on_device with;
  std::fill(with.writer.of_device.bytes.begin(), with.writer.of_device.bytes.end(), std::byte{42});

  REQUIRE(with.write(with.writer.of_device.id, with.reader.of_device.id, {{0, 16, 32}, {64, 128, 8}}));

  REQUIRE(with.reader.log.wait_landed(1));
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
  CHECK(with.reader.log.landed().empty());

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
  CHECK(with.reader.log.landed().empty());
  computed->passed = true;
  computed.reset();

  REQUIRE(with.reader.log.wait_landed(1));
  REQUIRE(with.writer.log.wait_delivered(1));
  CHECK(with.reader.of_device.bytes[16] == std::byte{42});
  REQUIRE(with.write(with.writer.of_device.id, with.reader.of_device.id, {{0, 16, 32}})); // the one before is let go of
  REQUIRE(with.writer.log.wait_delivered(2));
  CHECK(held.expired());

  const auto of_host = with.write(with.writer.of_host.id, with.reader.of_host.id, {{0, 0, 8}},
                                  ready_event::behind(std::make_shared<pretended_event>()));
  CHECK(of_host.error().code == fault::bad_value);
}

TEST_CASE("a rank without a device is refused regions of one") {
  auto engine = *make_shared_memory_engine({.self = rank_id{0}, .born = generation{1}, .unix_path = fresh_path()});
  CHECK(engine->register_region(64, memory_kind::device).error().code == fault::config_invalid);
}
