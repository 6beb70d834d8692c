#include "protocols/drill/injection_machine.hpp"

#include <utility>

#include "protocols/limits.hpp"

namespace troupe::protocols {

namespace {

bool strikes_thread(const injection_rule& rule) noexcept {
  const auto target = target_of(rule.action);
  return target == drill_target::process || target == drill_target::message;
}

bool is_outgoing(drill_action action) noexcept {
  return action != drill_action::unread;
}

bool is_of(drill_action action, injection_machine::write_moment when) noexcept {
  switch (when) {
  case injection_machine::write_moment::posted:
    return action == drill_action::repeat_write || action == drill_action::shift_write;
  case injection_machine::write_moment::delivered:
    return action == drill_action::lose_completion || action == drill_action::delay_completion;
  case injection_machine::write_moment::arrived:
    return action == drill_action::lose_arrival;
  }
  return false;
}

} // namespace

result<void> injection_machine::add(injection_rule rule) {
  if (auto judged = validate_rule(rule); !judged)
    return judged;
  if (rules_.size() >= limits::injection_rules_max)
    return fail(fault::queue_full, std::to_string(limits::injection_rules_max) + " rules wait on this rank");
  const bool counts = rule.point.empty() || strikes_thread(rule);
  rules_.push_back({.rule = std::move(rule), .counts = counts});
  return {};
}

bool injection_machine::is_due(waiting_rule& one) noexcept {
  if (!one.counts || (one.rule.times != 0 && one.struck == one.rule.times))
    return false;
  if (one.passed < one.rule.skip) {
    ++one.passed;
    return false;
  }
  ++one.struck;
  return true;
}

std::optional<injection_rule> injection_machine::on_point(std::string_view point) {
  std::optional<injection_rule> strike;
  for (auto& one : rules_) {
    if (one.rule.point != point)
      continue;
    one.counts = true;
    if (!strike && strikes_thread(one.rule) && is_due(one))
      strike = one.rule;
  }
  return strike;
}

std::optional<injection_rule> injection_machine::on_frame(const frame_place& at) {
  for (auto& one : rules_) {
    const auto& rule = one.rule;
    const bool here = target_of(rule.action) == drill_target::frame && is_outgoing(rule.action) == at.outgoing &&
                      (rule.peer == any_rank || rule.peer == at.peer) &&
                      (rule.channel == 0 || rule.channel == at.channel) &&
                      (rule.message == 0 || at.message == 0 || rule.message == at.message);
    if (here && is_due(one))
      return rule;
  }
  return std::nullopt;
}

std::optional<injection_rule> injection_machine::on_write(rank_id peer, write_moment when) {
  for (auto& one : rules_)
    if (is_of(one.rule.action, when) && (one.rule.peer == any_rank || one.rule.peer == peer) && is_due(one))
      return one.rule;
  return std::nullopt;
}

std::optional<injection_rule> injection_machine::take_immediate() {
  for (auto& one : rules_)
    if (one.rule.point.empty() && strikes_thread(one.rule) && is_due(one))
      return one.rule;
  return std::nullopt;
}

} // namespace troupe::protocols
