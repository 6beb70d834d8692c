#include <doctest/doctest.h>

#include <set>
#include <string>

#include "protocols/cluster/program.hpp"
#include "protocols/drill/injection_machine.hpp"
#include "protocols/drill/injection_points.hpp"
#include "protocols/serve/client_messages.hpp"
#include "protocols/serve/message_types.hpp"
#include "protocols/serve/transfer_messages.hpp"
#include "protocols/wire/edge_messages.hpp"

using namespace troupe::protocols;

namespace {

injection_rule rule_of(drill_action action, std::string point = {}) {
  injection_rule rule;
  rule.action = action;
  rule.point = std::move(point);
  if (action == drill_action::slow || action == drill_action::delay || action == drill_action::delay_completion)
    rule.ms = 10;
  if (action == drill_action::deliver)
    rule.message = static_cast<std::uint16_t>(serve_type::arrived);
  return rule;
}

constexpr injection_machine::frame_place outgoing{.peer = rank_id{2},
                                                  .channel = static_cast<std::uint8_t>(channel_kind::control),
                                                  .message = static_cast<std::uint16_t>(serve_type::arrived),
                                                  .outgoing = true};

} // namespace

TEST_CASE("every fault point of all programs has a name, a sentence, and is found by its name") {
  std::set<std::string_view> names;
  const auto check = [&](std::span<const fault_point> table) {
    for (const auto& point : table) {
      CAPTURE(point.name);
      CHECK(names.insert(point.name).second);
      CHECK(point.sentence.ends_with('.'));
      CHECK(is_fault_point(point.name));
      CHECK_FALSE(name(point.phase).empty());
    }
  };
  check(fault_points);
  for (const auto* const each : programs())
    check(each->fault_points);
  CHECK(fault_point_names().size() == names.size());
  CHECK_FALSE(is_fault_point("group.enter"));
  static_assert(fault_point_in(fault_points, "rank.spawned") == "rank.spawned");
}

TEST_CASE("every action has a name of its own and a target") {
  std::set<std::string_view> names;
  for (const auto known : drill_action_names())
    CHECK(names.insert(known).second);
  CHECK(names.size() == 25);
  CHECK(target_of(drill_action::kill) == drill_target::process);
  CHECK(target_of(drill_action::hang_device) == drill_target::process);
  CHECK(target_of(drill_action::corrupt) == drill_target::frame);
  CHECK(target_of(drill_action::lose_arrival) == drill_target::write);
  CHECK(target_of(drill_action::deliver) == drill_target::message);
  CHECK_FALSE(is_valid(drill_action{9}));
}

TEST_CASE("a rule that cannot be carried out is refused, with what is wrong with it") {
  const auto refused = [](injection_rule rule) {
    const auto judged = validate_rule(rule);
    return judged ? std::string{} : judged.error().what;
  };
  CHECK(refused(rule_of(drill_action::kill, "grup.entered")).find("grup.entered") != std::string::npos);
  auto timeless = rule_of(drill_action::delay);
  timeless.ms = 0;
  CHECK(refused(timeless).find("'ms'") != std::string::npos);
  auto silent = rule_of(drill_action::deliver);
  silent.message = 0;
  CHECK(refused(silent).find("'message'") != std::string::npos);
  auto nowhere = rule_of(drill_action::drop);
  nowhere.channel = 9;
  CHECK(refused(nowhere).find("channel") != std::string::npos);
  CHECK(refused(rule_of(drill_action::kill, "group.entered")).empty());
}

TEST_CASE("a process action strikes at its point, after so many hits, so many times") {
  injection_machine rules;
  auto rule = rule_of(drill_action::stop, "group.entered");
  rule.skip = 2;
  rule.times = 2;
  REQUIRE(rules.add(rule));

  std::string seen;
  for (int i = 0; i < 6; ++i) {
    CHECK_FALSE(rules.on_point("link.posting"));
    seen += rules.on_point("group.entered") ? 'x' : '.';
  }
  CHECK(seen == "..xx..");
  CHECK_FALSE(rules.on_frame(outgoing));
}

TEST_CASE("a frame rule counts the frames that it is about, and no others") {
  injection_machine rules;
  auto rule = rule_of(drill_action::drop);
  rule.peer = rank_id{2};
  rule.channel = static_cast<std::uint8_t>(channel_kind::control);
  rule.message = static_cast<std::uint16_t>(serve_type::arrived);
  rule.skip = 1;
  REQUIRE(rules.add(rule));

  auto other = outgoing;
  other.peer = rank_id{3};
  CHECK_FALSE(rules.on_frame(other));
  other = outgoing;
  other.channel = static_cast<std::uint8_t>(channel_kind::group);
  CHECK_FALSE(rules.on_frame(other));
  other = outgoing;
  other.message = static_cast<std::uint16_t>(serve_type::kv_sent);
  CHECK_FALSE(rules.on_frame(other));
  other = outgoing;
  other.outgoing = false;
  CHECK_FALSE(rules.on_frame(other));

  CHECK_FALSE(rules.on_frame(outgoing)); // skipped
  const auto struck = rules.on_frame(outgoing);
  REQUIRE(struck);
  CHECK(struck->action == drill_action::drop);
  CHECK_FALSE(rules.on_frame(outgoing)); // once
}

TEST_CASE("a frame rule with a point counts from the point's first hit on") {
  injection_machine rules;
  auto rule = rule_of(drill_action::corrupt, "prefill.preflight");
  rule.times = 0;
  REQUIRE(rules.add(rule));
  CHECK_FALSE(rules.on_frame(outgoing));
  CHECK_FALSE(rules.on_point("prefill.preflight")); // nothing strikes the thread itself
  for (int i = 0; i < 5; ++i)
    CHECK(rules.on_frame(outgoing)); // without end
}

TEST_CASE("a write rule strikes at its own moment alone") {
  using moment = injection_machine::write_moment;
  const std::pair<drill_action, moment> all[] = {{drill_action::repeat_write, moment::posted},
                                                 {drill_action::shift_write, moment::posted},
                                                 {drill_action::lose_completion, moment::delivered},
                                                 {drill_action::delay_completion, moment::delivered},
                                                 {drill_action::lose_arrival, moment::arrived}};
  for (const auto& [action, when] : all)
    for (const auto at : {moment::posted, moment::delivered, moment::arrived}) {
      injection_machine rules;
      REQUIRE(rules.add(rule_of(action)));
      CHECK(rules.on_write(rank_id{1}, at).has_value() == (at == when));
    }
}

TEST_CASE("without a point process actions and deliveries strike at once, and once") {
  for (const auto action : {drill_action::kill, drill_action::deliver}) {
    injection_machine rules;
    REQUIRE(rules.add(rule_of(action)));
    CHECK(rules.take_immediate());
    CHECK_FALSE(rules.take_immediate());
  }
  injection_machine rules;
  REQUIRE(rules.add(rule_of(drill_action::drop)));
  REQUIRE(rules.add(rule_of(drill_action::kill, "rank.idle")));
  CHECK_FALSE(rules.take_immediate());
}

TEST_CASE("the rules of a rank are bounded") {
  injection_machine rules;
  for (std::size_t i = 0; i < limits::injection_rules_max; ++i)
    REQUIRE(rules.add(rule_of(drill_action::kill, "rank.idle")));
  const auto one_more = rules.add(rule_of(drill_action::kill, "rank.idle"));
  REQUIRE_FALSE(one_more);
  CHECK(one_more.error().code == fault::queue_full);
}
