#include "fabric/lanes/drilled_lane.hpp"

#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <utility>

#include "runtime/base/assert.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/doorbell.hpp"

namespace troupe::fabric {

using namespace protocols;

namespace {

constexpr std::size_t call_at = 40; ///< of the header: the call id, which no check but the checksum covers

} // namespace

std::unique_ptr<lane> drilled(std::unique_ptr<lane> with, rank_id peer, channel_kind channel) {
  auto* const drill = base::armed_injector();
  return drill == nullptr ? std::move(with) : std::make_unique<drilled_lane>(std::move(with), *drill, peer, channel);
}

drilled_lane::drilled_lane(std::unique_ptr<lane> with, base::fault_injector& drill, rank_id peer, channel_kind channel)
    : with_(std::move(with)), drill_(drill), peer_(peer), channel_(static_cast<std::uint8_t>(channel)),
      timer_(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)) {
  TROUPE_ASSERT("timerfd", timer_);
}

// ---- producer side ----

result<void> drilled_lane::try_send(frame_header header, std::span<const std::byte> payload) {
  const auto now = base::now();
  if (delay_.holds(now) || !push_held())
    return fail(fault::lane_full);
  if (silent_.holds(now)) {
    with_->stamp(header, payload); // a link that loses a frame does not know it: the sequence goes on
    return {};
  }
  if (!std::exchange(judged_, true))
    if (const auto rule = drill_.on_frame({peer_, channel_, static_cast<std::uint16_t>(header.type), true}))
      return suffer(*rule, header, payload);
  auto sent = with_->try_send(header, payload);
  judged_ = !sent && sent.error().code == fault::lane_full;
  if (sent && late_) {
    held_.push_back(*std::exchange(late_, std::nullopt));
    push_held();
  }
  return sent;
}

result<void> drilled_lane::suffer(const injection_rule& rule, const frame_header& header,
                                  std::span<const std::byte> payload) {
  if (rule.action == drill_action::delay) { // the frame is judged, and taken when its sender comes back with it
    begin(delay_, rule.ms);
    return fail(fault::lane_full);
  }
  judged_ = false;
  if (rule.action == drill_action::cut || rule.action == drill_action::one_way) {
    begin(silent_, rule.ms);
    if (rule.action == drill_action::cut)
      begin(deaf_, rule.ms);
  }
  if (rule.action == drill_action::reorder) {
    late_ = stamped{with_->stamp(header, payload), {payload.begin(), payload.end()}};
  } else if (rule.action == drill_action::duplicate) {
    hold(header, payload);
    held_.push_back(held_.back());
  } else if (rule.action == drill_action::corrupt) {
    hold(header, payload);
    auto& frame = held_.back();
    (frame.payload.empty() ? frame.header[call_at] : frame.payload[frame.payload.size() / 2]) ^= std::byte{1};
  } else {
    with_->stamp(header, payload);
  }
  push_held();
  return {};
}

void drilled_lane::hold(const frame_header& header, std::span<const std::byte> payload) {
  held_.push_back({with_->stamp(header, payload), {payload.begin(), payload.end()}});
}

/// True when nothing is held any more. What a lane that has failed refuses is lost with it.
bool drilled_lane::push_held() {
  while (!held_.empty()) {
    const auto sent = with_->try_send_stamped(held_.front().header, held_.front().payload);
    if (!sent && sent.error().code == fault::lane_full)
      return false;
    held_.pop_front();
  }
  return true;
}

header_bytes drilled_lane::stamp(frame_header header, std::span<const std::byte> payload) {
  return with_->stamp(header, payload);
}

result<void> drilled_lane::try_send_stamped(const header_bytes& header, std::span<const std::byte> payload) {
  return with_->try_send_stamped(header, payload);
}

bool drilled_lane::flush() {
  const bool pushed = push_held();
  return with_->flush() && pushed;
}

// ---- consumer side ----

result<std::optional<frame_view>> drilled_lane::peek() {
  const auto now = base::now();
  if (unread_.holds(now) && !ended_)
    return std::nullopt;
  while (true) { // ends with what has arrived, which the lane bounds
    auto next = with_->peek();
    if (!next || !*next)
      return next;
    if (deaf_.holds(now)) {
      with_->pop();
      continue;
    }
    if (!std::exchange(front_judged_, true))
      if (const auto rule =
              drill_.on_frame({peer_, channel_, static_cast<std::uint16_t>((*next)->header.type), false})) {
        begin(unread_, rule->ms);
        return std::nullopt;
      }
    return next;
  }
}

void drilled_lane::pop() {
  front_judged_ = false;
  with_->pop();
}

// ---- waiting ----

void drilled_lane::begin(spell& what, std::uint32_t ms) {
  const auto now = base::now();
  what = {.on = true, .until = ms == 0 ? time_point{} : now + std::chrono::milliseconds{ms}};
  if (ms != 0)
    set_timer(what.until);
}

void drilled_lane::set_timer(time_point at) {
  const auto since = at.time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since);
  const itimerspec when{.it_interval = {},
                        .it_value = {.tv_sec = static_cast<time_t>(seconds.count()),
                                     .tv_nsec = static_cast<long>((since - seconds).count())}};
  ::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

/// What the lane within is to wait for: not for room while a delay is what keeps us, not for frames that nobody reads.
lane::interest drilled_lane::within(interest wanted) const {
  const auto now = base::now();
  return {.readable = wanted.readable && (ended_ || !unread_.holds(now)),
          .writable = (wanted.writable && !delay_.holds(now)) || !held_.empty()};
}

bool drilled_lane::arm(interest wanted) {
  const bool timed_out = delay_.on && !delay_.holds(base::now());
  if (wanted.writable && timed_out) {
    delay_.on = false;
    return false;
  }
  if (with_->arm(within(wanted)))
    return true;
  check_end();
  return false;
}

void drilled_lane::disarm() {
  base::hush(timer_);
  with_->disarm();
  check_end();
}

/// While nobody reads, nobody but this look sees the peer's end, which would wake its waiter again and again.
void drilled_lane::check_end() {
  if (!unread_.holds(base::now()))
    return;
  auto set = with_->waitables({.readable = false, .writable = false});
  if (::poll(set.fds.data(), set.count, 0) > 0)
    for (std::size_t i = 0; i < set.count; ++i)
      ended_ = ended_ || (set.fds[i].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

lane::wait_set drilled_lane::waitables(interest wanted) const {
  auto set = with_->waitables(within(wanted));
  set.fds[set.count++] = {timer_.get(), POLLIN, 0};
  return set;
}

} // namespace troupe::fabric
