#include "protocols/serve/ingest_machine.hpp"

#include <set>

#include <doctest/doctest.h>

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t small = 100;
constexpr std::uint64_t large = 101;

time_point at(duration since) {
  return time_point{} + since;
}

/// Three readers, two for large questions, one of which takes 10 s at most.
struct readers {
  ingest_machine machine{
      {.readers = 3, .readers_large = 2, .large_pixels = small, .questions_max = 4, .reading_deadline = 10s}};
  ingest_machine::effects out;

  ingest_machine::ticket ask(std::uint64_t pixels, duration deadline = 100s) {
    return machine.on_question({pixels, at(deadline)}, at(0s), out);
  }
  /// The reader that has begun with it.
  std::optional<std::uint32_t> reader_of(ingest_machine::ticket which) const {
    for (const auto& effect : out)
      if (const auto* const begun = std::get_if<ingest_machine::begin_reading>(&effect); begun && begun->which == which)
        return begun->reader;
    return std::nullopt;
  }
};

std::set<fault> causes_of(const ingest_machine::effects& out) {
  std::set<fault> causes;
  for (const auto& effect : out)
    if (const auto* const given = std::get_if<ingest_machine::give_up>(&effect))
      causes.insert(given->cause.code);
  return causes;
}

} // namespace

TEST_CASE("K7: large questions leave a reader for the small, and those pass the large that wait") {
  readers all;
  // given two large ones that are read and a third that waits
  for (int i = 0; i < 2; ++i)
    REQUIRE(all.reader_of(all.ask(large)));
  const auto third = all.ask(large);
  CHECK_FALSE(all.reader_of(third));
  // when a small one comes, then it is read at once
  const auto quick = all.ask(small);
  const auto reader = all.reader_of(quick);
  REQUIRE(reader);
  // and its reader is not the third's when it is free again, but that of the next large one is
  CHECK(all.machine.on_read(*reader, at(1s), all.out) == quick);
  CHECK_FALSE(all.reader_of(third));
  CHECK(all.machine.on_read(0, at(1s), all.out));
  CHECK(all.reader_of(third) == 0u);
}

TEST_CASE("K7: a question that is late fails alone, and its reader serves nobody until it has stopped") {
  readers all;
  const auto late = all.ask(large);
  const auto other = all.ask(large);
  REQUIRE(all.machine.on_read(*all.reader_of(other), at(9s), all.out) == other);

  CHECK(all.machine.on_tick(at(9'999ms)).empty());
  const auto out = all.machine.on_tick(at(10s));

  REQUIRE(out.size() == 2);
  CHECK(out[0] == ingest_machine::effect{ingest_machine::stop_reading{0}});
  CHECK(std::get<ingest_machine::give_up>(out[1]).which == late);
  CHECK(std::get<ingest_machine::give_up>(out[1]).cause ==
        failure{fault::timeout, "its pictures and prompt were not read within 10000 ms"});
  // it counts as one of the large until it says that it has stopped, and what it read then is nobody's
  REQUIRE(all.reader_of(all.ask(large)) == 1u);
  const auto next = all.ask(large);
  CHECK_FALSE(all.reader_of(next));
  CHECK_FALSE(all.machine.on_read(0, at(11s), all.out));
  CHECK(all.reader_of(next) == 0u);
  for (const auto& effect : all.machine.on_tick(at(11s))) // once: of those that have begun since, others are late now
    if (const auto* const one = std::get_if<ingest_machine::give_up>(&effect))
      CHECK(one->which != late);
}

TEST_CASE("K9: a cancel finds its question while it is read and while it waits, and the others stay") {
  for (const bool while_read : {true, false}) {
    CAPTURE(while_read);
    readers all;
    const auto read = all.ask(large);
    const auto other = all.ask(large);
    const auto waits = all.ask(large);
    REQUIRE(all.machine.waiting() == 1);
    const auto wanted_no_more = while_read ? read : waits;

    const auto out = all.machine.on_cancel(wanted_no_more, at(1s));

    const ingest_machine::effect given_up = ingest_machine::give_up{wanted_no_more, {fault::cancelled, {}}};
    if (while_read)
      CHECK(out == ingest_machine::effects{ingest_machine::stop_reading{0}, given_up});
    else
      CHECK(out == ingest_machine::effects{given_up});
    CHECK(all.machine.on_cancel(wanted_no_more, at(1s)).empty()); // once
    CHECK(all.machine.on_read(*all.reader_of(other), at(2s), all.out) == other);
    CHECK(all.machine.on_read(0, at(2s), all.out) == (while_read ? std::nullopt : std::optional{read}));
    CHECK(all.reader_of(waits).has_value() == while_read);
  }
}

TEST_CASE("K16: a question whose own deadline passes while it waits to be read ends by it") {
  readers all;
  for (int i = 0; i < 2; ++i)
    all.ask(large);
  const auto waits = all.ask(large, 5s);
  const auto out = all.machine.on_tick(at(5s));
  REQUIRE(out.size() == 1);
  CHECK(std::get<ingest_machine::give_up>(out[0]).which == waits);
  CHECK(std::get<ingest_machine::give_up>(out[0]).cause.code == fault::timeout);
}

TEST_CASE("K9: questions that wait to be read are bounded in number") {
  readers all;
  for (int i = 0; i < 6; ++i)
    all.ask(large);
  CHECK(causes_of(all.out).empty());
  all.ask(large);
  CHECK(causes_of(all.out) == std::set{fault::queue_full});
}
