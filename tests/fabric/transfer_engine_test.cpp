#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "tests/fabric/transfer_harness.hpp"

using namespace troupe;
using namespace troupe::fabric;
using namespace troupe::fabric::testing;

namespace {

void fill(std::span<std::byte> bytes, std::uint32_t seed) {
  for (auto& byte : bytes) {
    seed = seed * 1'664'525u + 1'013'904'223u;
    byte = static_cast<std::byte>(seed >> 24);
  }
}

bool same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

bool untouched(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{0}; });
}

std::chrono::microseconds cpu_time() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& time) {
    return std::chrono::seconds{time.tv_sec} + std::chrono::microseconds{time.tv_usec};
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

/// Every lane gives the same bytes and the same refusals (I31), so each case below runs on each.
template <class Body>
void on_every_lane(Body body) {
  for (const auto kind : {bulk_kind::shared_memory, bulk_kind::fabric}) {
    CAPTURE(name_of(kind));
    body(kind);
  }
}

} // namespace

TEST_CASE("I31: a write of several pieces lands byte for byte, and both sides are told once") {
  on_every_lane([](bulk_kind kind) {
    party writer{kind, 1, {8192}};
    party reader{kind, 2, {4096, 8192}};
    writer.attach(reader);
    reader.attach(writer);
    const auto source = writer.regions[0].bytes;
    const auto target = reader.regions[1].bytes;
    fill(source, 7);

    const auto posted = writer.engine->post({.to = reader.rank,
                                             .source_region = writer.regions[0].id,
                                             .target_region = reader.regions[1].id,
                                             .pieces = {{0, 4096, 100}, {101, 0, 4000}, {0, 0, 0}, {8191, 8191, 1}},
                                             .completion_data = 0x0000'dead'beef'0001,
                                             .deadline = within(patience),
                                             .cookie = 42},
                                            ready_event::already());
    REQUIRE_MESSAGE(posted, to_string(posted.error()));
    REQUIRE(writer.log.wait_delivered(1));
    REQUIRE(reader.log.wait_landed(1));

    CHECK(writer.log.delivered[0].cookie == 42);
    CHECK(writer.log.delivered[0].outcome.has_value());
    CHECK(reader.log.landed[0].from == writer.rank);
    CHECK(reader.log.landed[0].data == 0x0000'dead'beef'0001);
    CHECK(same(target.subspan(4096, 100), source.subspan(0, 100)));
    CHECK(same(target.subspan(0, 4000), source.subspan(101, 4000)));
    CHECK(target[8191] == source[8191]);
    CHECK(untouched(target.subspan(4000, 96)));
    CHECK(untouched(target.subspan(4196, 8191 - 4196)));
    CHECK(untouched(reader.regions[0].bytes));
    writer.engine->stop();
    reader.engine->stop();
    CHECK(writer.log.delivered.size() == 1);
    CHECK(reader.log.landed.size() == 1);
  });
}
