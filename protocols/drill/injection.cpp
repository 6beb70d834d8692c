#include "protocols/drill/injection.hpp"

#include <algorithm>
#include <array>

#include "protocols/drill/injection_points.hpp"
#include "protocols/wire/edge_messages.hpp"

namespace troupe::protocols {

namespace {

struct action_entry {
  drill_action action;
  std::string_view name;
  drill_target target;
};
constexpr std::array actions{
    action_entry{drill_action::kill, "kill", drill_target::process},
    action_entry{drill_action::stop, "stop", drill_target::process},
    action_entry{drill_action::segfault, "segfault", drill_target::process},
    action_entry{drill_action::abort, "abort", drill_target::process},
    action_entry{drill_action::throw_error, "throw", drill_target::process},
    action_entry{drill_action::bad_alloc, "bad_alloc", drill_target::process},
    action_entry{drill_action::wedge, "wedge", drill_target::process},
    action_entry{drill_action::slow, "slow", drill_target::process},
    action_entry{drill_action::hang_device, "hang_device", drill_target::process},
    action_entry{drill_action::break_device, "break_device", drill_target::process},
    action_entry{drill_action::no_capture, "no_capture", drill_target::process},
    action_entry{drill_action::drop, "drop", drill_target::frame},
    action_entry{drill_action::delay, "delay", drill_target::frame},
    action_entry{drill_action::duplicate, "duplicate", drill_target::frame},
    action_entry{drill_action::reorder, "reorder", drill_target::frame},
    action_entry{drill_action::corrupt, "corrupt", drill_target::frame},
    action_entry{drill_action::cut, "cut", drill_target::frame},
    action_entry{drill_action::one_way, "one_way", drill_target::frame},
    action_entry{drill_action::unread, "unread", drill_target::frame},
    action_entry{drill_action::lose_completion, "lose_completion", drill_target::write},
    action_entry{drill_action::delay_completion, "delay_completion", drill_target::write},
    action_entry{drill_action::lose_arrival, "lose_arrival", drill_target::write},
    action_entry{drill_action::repeat_write, "repeat_write", drill_target::write},
    action_entry{drill_action::shift_write, "shift_write", drill_target::write},
    action_entry{drill_action::deliver, "deliver", drill_target::message},
};

const action_entry* find(drill_action action) noexcept {
  const auto found = std::ranges::find(actions, action, &action_entry::action);
  return found == actions.end() ? nullptr : &*found;
}

bool needs_time(drill_action action) noexcept {
  return action == drill_action::slow || action == drill_action::hang_device || action == drill_action::delay ||
         action == drill_action::delay_completion;
}

} // namespace

bool is_valid(drill_action action) noexcept {
  return find(action) != nullptr;
}

std::string_view name(drill_action action) noexcept {
  const auto* const found = find(action);
  return found == nullptr ? std::string_view{} : found->name;
}

std::vector<std::string_view> drill_action_names() {
  std::vector<std::string_view> names;
  std::ranges::transform(actions, std::back_inserter(names), &action_entry::name);
  return names;
}

drill_target target_of(drill_action action) noexcept {
  const auto* const found = find(action);
  return found == nullptr ? drill_target::process : found->target;
}

result<void> validate_rule(const injection_rule& rule) {
  const auto wrong = [&](const std::string& what) {
    return fail(fault::invalid_request, std::string{name(rule.action)} + ": " + what);
  };
  if (!is_valid(rule.action))
    return fail(fault::invalid_request, "action " + std::to_string(static_cast<int>(rule.action)));
  if (!rule.point.empty() && !is_fault_point(rule.point))
    return wrong("no fault point is called '" + rule.point + "'");
  if (rule.channel != 0 && !is_valid(static_cast<channel_kind>(rule.channel)))
    return wrong("no channel has the number " + std::to_string(rule.channel));
  if (rule.message != 0 && !is_known(static_cast<message_type>(rule.message)))
    return wrong("no message has the number " + std::to_string(rule.message));
  if (needs_time(rule.action) && rule.ms == 0)
    return wrong("'ms' is missing: for how long");
  if (rule.action == drill_action::deliver && rule.message == 0)
    return wrong("'message' is missing: which one");
  return {};
}

std::string in_words(const injection_rule& rule) {
  std::string text{name(rule.action)};
  if (rule.message != 0)
    text += " " + std::string{name(static_cast<message_type>(rule.message))};
  if (rule.peer != any_rank)
    text += " with rank " + std::to_string(rule.peer.value);
  if (!rule.point.empty())
    text += (target_of(rule.action) == drill_target::process ? " at " : " from ") + rule.point;
  if (rule.skip != 0)
    text += ", after " + std::to_string(rule.skip);
  return text;
}

} // namespace troupe::protocols
