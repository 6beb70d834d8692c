#include <algorithm>

#include "fabric/transfers/drilled_engine.hpp"
#include "tests/fabric/transfer_harness.hpp"

using namespace troupe;
using namespace troupe::fabric;
using namespace troupe::fabric::testing;
using protocols::drill_action;

namespace {

protocols::injection_rule rule_of(drill_action action, std::uint32_t ms = 0) {
  protocols::injection_rule rule;
  rule.action = action;
  rule.ms = ms;
  return rule;
}

/// An engine around which a drill stands, attached to a plain one.
struct drilled_party {
  event_log log;
  rank_id rank;
  std::string path = fresh_path();
  std::unique_ptr<transfer_engine> engine;
  std::vector<local_region> regions;

  explicit drilled_party(std::uint32_t number) : rank(number) {
    auto made = make_shared_memory_engine({.self = rank, .born = generation{1}, .job_token = {}, .unix_path = path});
    REQUIRE(made);
    engine = drilled(std::move(*made));
    auto region = engine->register_region(4096);
    REQUIRE(region);
    regions.push_back(*region);
    REQUIRE(engine->start(log.events()));
  }
  protocols::endpoint endpoint() const {
    return {
        .rank = rank, .born = generation{1}, .unix_path = path, .tcp_address = {}, .tcp_port = 0, .fabric_address = {}};
  }
  void attach(const drilled_party& other) {
    REQUIRE(engine->attach_peer(other.endpoint(), within(patience)));
    REQUIRE(engine->attach_region(other.rank, other.regions[0].card, within(patience)));
  }
  protocols::result<void> write(const drilled_party& to, std::uint64_t data) {
    return engine->post({.to = to.rank,
                         .source_region = regions[0].id,
                         .target_region = to.regions[0].id,
                         .pieces = {{0, 0, 64}},
                         .completion_data = data,
                         .lease = {generation{1}, within(patience)},
                         .deadline = within(patience),
                         .cookie = data},
                        ready_event::already());
  }
};

struct armed_injector : base::fault_injector {
  armed_injector() : fault_injector({rank_id{1}, {}}) { arm(); }
};

struct two_parties {
  armed_injector injector; // before the engines, around which drills stand only then
  drilled_party writer{1}, reader{2};

  two_parties() {
    writer.attach(reader);
    reader.attach(writer);
  }
};

} // namespace

TEST_CASE_FIXTURE(two_parties, "a completion that is lost is told to nobody, and the next one is") {
  REQUIRE(injector.add(rule_of(drill_action::lose_completion)));
  REQUIRE(writer.write(reader, 11));
  REQUIRE(reader.log.wait_arrived(1));
  REQUIRE(writer.write(reader, 12));
  REQUIRE(writer.log.wait_delivered(1));
  CHECK(writer.log.delivered().size() == 1);
  CHECK(writer.log.delivered()[0].cookie == 12);
}

TEST_CASE_FIXTURE(two_parties, "a completion that is delayed comes later, with its outcome") {
  REQUIRE(injector.add(rule_of(drill_action::delay_completion, 60)));
  const auto began = base::now();
  REQUIRE(writer.write(reader, 11));
  REQUIRE(writer.log.wait_delivered(1));
  CHECK(base::now() - began >= 60ms);
  CHECK(writer.log.delivered()[0].outcome.has_value());
}

TEST_CASE_FIXTURE(two_parties, "an arrival that is lost is not told, though the bytes are there") {
  writer.regions[0].bytes[5] = std::byte{42};
  REQUIRE(injector.add(rule_of(drill_action::lose_arrival)));
  REQUIRE(writer.write(reader, 11));
  REQUIRE(writer.log.wait_delivered(1));
  REQUIRE(writer.write(reader, 12));
  REQUIRE(reader.log.wait_arrived(1));
  CHECK(reader.log.arrived()[0].data == 12);
  CHECK(reader.regions[0].bytes[5] == std::byte{42});
}

TEST_CASE_FIXTURE(
    two_parties, "I24: a write that is made again is told to the reader twice, to the writer once, and moves no byte") {
  REQUIRE(writer.write(reader, 11));
  REQUIRE(reader.log.wait_arrived(1));
  REQUIRE(writer.log.wait_delivered(1)); // until then the source is the engine's
  writer.regions[0].bytes[5] = std::byte{42};
  REQUIRE(injector.add(rule_of(drill_action::repeat_write)));
  REQUIRE(writer.write(reader, 12));
  REQUIRE(reader.log.wait_arrived(3));
  const auto arrived = reader.log.arrived();
  CHECK(std::count_if(arrived.begin(), arrived.end(), [](const auto& each) { return each.data == 11; }) == 2);
  REQUIRE(writer.log.wait_delivered(2));
  CHECK(writer.log.delivered().size() == 2);
}

TEST_CASE_FIXTURE(two_parties,
                  "a write that is shifted brings other bytes than those that it should, and says that all went well") {
  REQUIRE(writer.write(reader, 11)); // the first of a rank is never struck
  REQUIRE(reader.log.wait_arrived(1));
  REQUIRE(writer.log.wait_delivered(1)); // until then the source is the engine's
  writer.regions[0].bytes[5] = std::byte{42};
  REQUIRE(injector.add(rule_of(drill_action::shift_write)));
  REQUIRE(writer.write(reader, 12));
  REQUIRE(reader.log.wait_arrived(2));
  REQUIRE(writer.log.wait_delivered(2));
  CHECK(writer.log.delivered()[1].outcome.has_value());
  CHECK(reader.regions[0].bytes[5] == std::byte{0});
  CHECK(reader.regions[0].bytes[1] == std::byte{42});
}
