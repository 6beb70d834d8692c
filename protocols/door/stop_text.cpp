#include "protocols/door/stop_text.hpp"

#include <algorithm>
#include <utility>

#include "protocols/door/door_states.hpp"

namespace troupe::protocols {

stop_text::stop_text(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase_if(stops_, [](const auto& each) { return each.empty(); });
  for (const auto& each : stops_)
    longest_ = std::max(longest_, each.size());
}

std::string stop_text::push(std::string_view piece) {
  const keeps_invariants checked{*this};
  if (stopped_)
    return {};
  if (stops_.empty())
    return std::string{piece};
  held_ += piece;
  auto end = std::string::npos;
  for (const auto& each : stops_)
    end = std::min(end, held_.find(each));
  if (end != std::string::npos) {
    stopped_ = true;
    held_.resize(end);
    return std::exchange(held_, {});
  }
  // Keep the longest suffix that is a prefix of a stop text.
  auto kept = std::min(held_.size(), longest_ - 1);
  const auto begins_one = [&] {
    const auto tail = std::string_view{held_}.substr(held_.size() - kept);
    return std::ranges::any_of(stops_, [&](const auto& each) { return std::string_view{each}.starts_with(tail); });
  };
  while (kept > 0 && !begins_one())
    --kept;
  auto out = held_.substr(0, held_.size() - kept);
  held_.erase(0, held_.size() - kept);
  return out;
}

std::string stop_text::finish() {
  const keeps_invariants checked{*this};
  return std::exchange(held_, {});
}

void stop_text::show_states(state_view& view) const {
  view.show(stop_text_table, {}, stopped_ ? 1 : 0);
}

void stop_text::check_invariants() const {
  TROUPE_ASSERT("K8", held_.size() < std::max<std::size_t>(longest_, 1));
  TROUPE_ASSERT("K8", !stopped_ || held_.empty());
}

} // namespace troupe::protocols
