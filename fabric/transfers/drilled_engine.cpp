// Decides outside protocols: acts a fault of a drill, which the product must not know of

#include "fabric/transfers/drilled_engine.hpp"

#include <utility>

#include "runtime/base/clock.hpp"

namespace troupe::fabric {

using namespace protocols;

namespace {

/// What stands one number further on; the last number of the target stays as it was.
void shift(std::vector<write_piece>& pieces) {
  constexpr std::uint64_t number = sizeof(float);
  if (pieces.empty() || pieces.front().bytes <= number)
    return;
  pieces.front().source_offset += number;
  pieces.front().bytes -= number;
}

} // namespace

std::unique_ptr<transfer_engine> drilled(std::unique_ptr<transfer_engine> with) {
  auto* const drill = base::armed_injector();
  return drill == nullptr ? std::move(with) : std::make_unique<drilled_engine>(std::move(with), *drill);
}

drilled_engine::drilled_engine(std::unique_ptr<transfer_engine> with, base::fault_injector& drill)
    : wrapped_engine(std::move(with)), drill_(drill) {}

drilled_engine::~drilled_engine() {
  stop();
}

result<void> drilled_engine::start(transfer_events events) {
  events_ = std::move(events);
  auto wrapped = events_;
  wrapped.on_delivered = [this](std::uint64_t cookie, result<void> outcome) {
    on_delivered(cookie, std::move(outcome));
  };
  wrapped.on_arrived = [this](rank_id from, std::uint64_t data) { on_arrived(from, data); };
  teller_ = std::thread{[this] { tell_late(); }};
  return with_->start(std::move(wrapped));
}

result<void> drilled_engine::post(write_request request, ready_event source_ready) {
  std::optional<write_request> again;
  {
    const std::lock_guard lock{mutex_};
    const auto rule = earlier_ ? drill_.on_write(request.to, injection_machine::write_moment::posted) : std::nullopt;
    if (rule && rule->action == drill_action::shift_write)
      shift(request.pieces);
    else if (rule)
      again = std::exchange(earlier_, std::nullopt);
    in_flight_[request.cookie] = request.to;
    earlier_ = request;
    earlier_->pieces.clear();
    earlier_->cookie = untold;
  }
  if (again) {
    again->deadline = request.deadline;
    (void)with_->post(*std::move(again), source_ready); // a drill's repetition: that it is refused is a right end
  }
  const auto cookie = request.cookie;
  auto posted = with_->post(std::move(request), source_ready);
  if (!posted) { // refused: its end is never told
    const std::lock_guard lock{mutex_};
    in_flight_.erase(cookie);
  }
  return posted;
}

void drilled_engine::on_delivered(std::uint64_t cookie, result<void> outcome) {
  if (cookie == untold)
    return;
  {
    const std::lock_guard lock{mutex_};
    const auto found = in_flight_.find(cookie);
    const auto peer = found == in_flight_.end() ? any_rank : found->second;
    if (found != in_flight_.end())
      in_flight_.erase(found);
    if (const auto rule = drill_.on_write(peer, injection_machine::write_moment::delivered)) {
      if (rule->action == drill_action::delay_completion) {
        late_.emplace(base::now() + std::chrono::milliseconds{rule->ms}, late_news{cookie, std::move(outcome)});
        changed_.notify_one();
      }
      return;
    }
  }
  events_.on_delivered(cookie, std::move(outcome));
}

void drilled_engine::on_arrived(rank_id from, std::uint64_t data) {
  if (!drill_.on_write(from, injection_machine::write_moment::arrived))
    events_.on_arrived(from, data);
}

void drilled_engine::tell_late() {
  std::unique_lock lock{mutex_};
  while (!stopping_) {
    if (late_.empty()) {
      changed_.wait(lock, [&] { return stopping_ || !late_.empty(); });
    } else if (const auto due = late_.begin()->first; base::now() < due) {
      changed_.wait_until(lock, due);
    } else {
      auto news = std::move(late_.extract(late_.begin()).mapped());
      lock.unlock();
      events_.on_delivered(news.cookie, std::move(news.outcome));
      lock.lock();
    }
  }
}

void drilled_engine::stop() noexcept {
  with_->stop();
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
  }
  changed_.notify_one();
  if (teller_.joinable())
    teller_.join();
}

} // namespace troupe::fabric
