#include "fabric/lanes/drilled_lane.hpp"
#include "tests/fabric/lane_fixture.hpp"

using namespace lane_fixture;

namespace {

/// A pair whose first end suffers what `rule` says on its control edge to the second.
struct drilled_pair {
  base::fault_injector injector{{first_rank, {}}};
  lane_pair lanes;

  drilled_pair(lane_form form, injection_rule rule) : lanes(make_pair(form)) {
    injector.arm();
    REQUIRE(injector.add(std::move(rule)));
    lanes.first = fabric::drilled(std::move(lanes.first), second_rank, channel_kind::control);
  }

  void send(std::uint64_t call, std::span<const std::byte> payload = {}) {
    REQUIRE(fabric::send(*lanes.first, plain(call), payload, in(10s)));
  }
  std::uint64_t receive() {
    const auto frame = fabric::receive(*lanes.second, in(10s));
    REQUIRE_MESSAGE(frame, to_string(frame.error()));
    const auto call = frame->header.call.value;
    lanes.second->pop();
    return call;
  }
  fault refused() {
    const auto frame = fabric::receive(*lanes.second, in(10s));
    REQUIRE_FALSE(frame);
    return frame.error().code;
  }
};

injection_rule rule_of(drill_action action, std::uint32_t skip = 1, std::uint32_t ms = 0) {
  injection_rule rule;
  rule.action = action;
  rule.skip = skip;
  rule.ms = ms;
  return rule;
}

template <class Body>
void on_every_form(Body body) {
  for (const auto form : all_forms) {
    CAPTURE(name(form));
    body(form);
  }
}

} // namespace

TEST_CASE("without an injector a lane stays what it is") {
  auto lanes = make_pair(lane_form::shared_memory);
  const auto* const before = lanes.first.get();
  lanes.first = fabric::drilled(std::move(lanes.first), second_rank, channel_kind::control);
  CHECK(lanes.first.get() == before);
}

TEST_CASE("A22: a frame that is lost, doubled or late is found by the receiver's sequence") {
  on_every_form([](lane_form form) {
    for (const auto action : {drill_action::drop, drill_action::duplicate, drill_action::reorder}) {
      CAPTURE(name(action));
      drilled_pair pair{form, rule_of(action)};
      for (std::uint64_t call = 1; call <= 3; ++call)
        pair.send(call);
      CHECK(pair.receive() == 1);
      if (action == drill_action::duplicate)
        CHECK(pair.receive() == 2);
      CHECK(pair.refused() == fault::wrong_sequence);
    }
  });
}

TEST_CASE("A22: a byte that changes on the way is found by the receiver's checksum, in payload and header") {
  on_every_form([](lane_form form) {
    for (const std::size_t bytes : {0, 1, 5000}) {
      CAPTURE(bytes);
      drilled_pair pair{form, rule_of(drill_action::corrupt)};
      const std::vector<std::byte> payload(bytes, std::byte{7});
      pair.send(1, payload);
      pair.send(2, payload);
      CHECK(pair.receive() == 1);
      CHECK(pair.refused() == fault::bad_checksum);
    }
  });
}

TEST_CASE("a delayed frame keeps those behind it waiting, and all of them arrive in order") {
  on_every_form([](lane_form form) {
    drilled_pair pair{form, rule_of(drill_action::delay, 1, 50)};
    const auto began = base::now();
    for (std::uint64_t call = 1; call <= 3; ++call)
      pair.send(call);
    CHECK(base::now() - began >= 50ms);
    for (std::uint64_t call = 1; call <= 3; ++call)
      CHECK(pair.receive() == call);
  });
}

TEST_CASE("a cut link tells neither side: nothing goes out, nothing comes in") {
  on_every_form([](lane_form form) {
    drilled_pair pair{form, rule_of(drill_action::cut)};
    for (std::uint64_t call = 1; call <= 3; ++call)
      pair.send(call);
    CHECK(pair.receive() == 1);
    const auto silence = fabric::receive(*pair.lanes.second, in(50ms));
    REQUIRE_FALSE(silence);
    CHECK(silence.error().code == fault::timeout);

    REQUIRE(fabric::send(*pair.lanes.second, plain(9), {}, in(10s)));
    const auto deaf = fabric::receive(*pair.lanes.first, in(50ms));
    REQUIRE_FALSE(deaf);
    CHECK(deaf.error().code == fault::timeout);
  });
}

TEST_CASE("a link that works one way loses what goes out and delivers what comes in") {
  on_every_form([](lane_form form) {
    drilled_pair pair{form, rule_of(drill_action::one_way, 0)};
    pair.send(1);
    REQUIRE(fabric::send(*pair.lanes.second, plain(9), {}, in(10s)));
    const auto heard = fabric::receive(*pair.lanes.first, in(10s));
    REQUIRE(heard);
    CHECK(heard->header.call == call_id{9});
    const auto silence = fabric::receive(*pair.lanes.second, in(50ms));
    REQUIRE_FALSE(silence);
    CHECK(silence.error().code == fault::timeout);
  });
}

TEST_CASE("E21: a slow consumer fills its lane, and what it has not read is there when it reads again") {
  on_every_form([](lane_form form) {
    drilled_pair pair{form, rule_of(drill_action::unread, 0, 100)};
    const std::vector<std::byte> payload(4096, std::byte{1});
    REQUIRE(fabric::send(*pair.lanes.second, plain(1), payload, in(10s)));
    CHECK_FALSE(pair.lanes.first->peek()->has_value());
    std::uint64_t sent = 1;
    while (pair.lanes.second->try_send(plain(sent + 1), payload))
      ++sent;
    for (std::uint64_t call = 1; call <= sent; ++call) {
      pair.lanes.second->flush();
      const auto frame = fabric::receive(*pair.lanes.first, in(10s));
      REQUIRE_MESSAGE(frame, to_string(frame.error()));
      CHECK(frame->header.call.value == call);
      pair.lanes.first->pop();
    }
  });
}

TEST_CASE("C1: the end of a peer is seen through a lane whose frames nobody reads") {
  on_every_form([](lane_form form) {
    drilled_pair pair{form, rule_of(drill_action::unread, 0)};
    REQUIRE(fabric::send(*pair.lanes.second, plain(1), {}, in(10s)));
    CHECK_FALSE(pair.lanes.first->peek()->has_value());
    pair.lanes.second->close();
    pair.lanes.second.reset();
    const auto last = fabric::receive(*pair.lanes.first, in(10s)); // what it had sent is delivered before its end
    REQUIRE(last);
    pair.lanes.first->pop();
    const auto end = fabric::receive(*pair.lanes.first, in(10s));
    REQUIRE_FALSE(end);
    CHECK(end.error().code == fault::peer_gone);
  });
}
