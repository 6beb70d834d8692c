#include "runtime/base/fault_point.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <new>
#include <stdexcept>

#include <fmt/format.h>

#include "runtime/base/assert.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/log.hpp"

namespace troupe::base {

using namespace protocols;

namespace {

bool strikes_device(drill_action action) noexcept {
  return action == drill_action::hang_device || action == drill_action::break_device ||
         action == drill_action::no_capture;
}

} // namespace

namespace detail {
std::atomic<fault_injector*> armed_injector = nullptr;
}

fault_injector::fault_injector(options what) : options_(std::move(what)) {
  if (!options_.strikes_file.empty())
    strikes_ =
        unique_fd{::open(options_.strikes_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, S_IRUSR | S_IWUSR)};
}

fault_injector::~fault_injector() {
  if (armed_injector() == this)
    detail::armed_injector.store(nullptr, std::memory_order_relaxed);
}

void fault_injector::arm() noexcept {
  detail::armed_injector.store(this, std::memory_order_relaxed);
}

result<void> fault_injector::add(injection_rule rule) {
  std::optional<injection_rule> now;
  {
    const std::lock_guard lock{mutex_};
    if (auto added = rules_.add(std::move(rule)); !added)
      return added;
    now = rules_.take_immediate();
  }
  if (now)
    strike(*now);
  return {};
}

void fault_injector::on_deliver(std::function<void(const injection_rule&)> handler) {
  const std::lock_guard lock{mutex_};
  deliver_ = std::move(handler);
}

void fault_injector::on_device(device_handler handler) {
  const std::lock_guard lock{mutex_};
  device_ = std::move(handler);
}

void fault_injector::hit(std::string_view point) {
  std::optional<injection_rule> due;
  {
    const std::lock_guard lock{mutex_};
    due = rules_.on_point(point);
  }
  if (due)
    strike(*due);
}

std::optional<injection_rule> fault_injector::on_frame(const injection_machine::frame_place& at) {
  std::optional<injection_rule> due;
  {
    const std::lock_guard lock{mutex_};
    due = rules_.on_frame(at);
  }
  if (due)
    record(*due);
  return due;
}

std::optional<injection_rule> fault_injector::on_write(rank_id peer, injection_machine::write_moment when) {
  std::optional<injection_rule> due;
  {
    const std::lock_guard lock{mutex_};
    due = rules_.on_write(peer, when);
  }
  if (due)
    record(*due);
  return due;
}

void fault_injector::write_line(const std::string& line) noexcept {
  if (strikes_) {
    // A drill that misses the line says that the fault did not strike.
    [[maybe_unused]] const auto written = ::write(strikes_.get(), line.data(), line.size());
  }
}

void fault_injector::record(const injection_rule& rule) noexcept {
  write_line(fmt::format("{{\"at_ns\": {}, \"pid\": {}, \"struck\": {}, \"what\": \"{}\"}}\n",
                         now().time_since_epoch().count(), ::getpid(), options_.self.value, in_words(rule)));
}

void fault_injector::notice(rank_id rank) noexcept {
  write_line(fmt::format("{{\"at_ns\": {}, \"noticed\": {}}}\n", now().time_since_epoch().count(), rank.value));
}

/// Recorded afterwards: what a device did not take has not struck.
void fault_injector::strike_device(const injection_rule& rule) {
  device_handler handler;
  {
    const std::lock_guard lock{mutex_};
    handler = device_;
  }
  const auto struck = handler ? handler(rule) : fail(fault::invalid_request, "nothing here takes it yet");
  if (struck)
    record(rule);
  else
    log_warning("drill: {} has not struck: {}", in_words(rule), to_string(struck.error()));
}

void fault_injector::strike(const injection_rule& rule) {
  if (strikes_device(rule.action))
    return strike_device(rule);
  record(rule); // first: what follows may not return
  log_warning("drill: {}", in_words(rule));
  switch (rule.action) {
  case drill_action::kill:
    ::kill(::getpid(), SIGKILL);
    break;
  case drill_action::stop:
    ::kill(::getpid(), SIGSTOP);
    break;
  case drill_action::segfault:
    ::raise(SIGSEGV);
    break;
  case drill_action::abort:
    broken_invariant("drill", in_words(rule).c_str(), __FILE__, __LINE__);
  case drill_action::throw_error:
    throw std::runtime_error{"drill: " + in_words(rule)};
  case drill_action::bad_alloc:
    throw std::bad_alloc{};
  case drill_action::wedge:
    while (true) // what it is to be: a thread that only the end of its process ends
      ::pause();
  case drill_action::slow:
    ::poll(nullptr, 0, static_cast<int>(rule.ms));
    break;
  case drill_action::hang_device:
  case drill_action::break_device:
  case drill_action::no_capture:
    break; // strike_device
  case drill_action::deliver: {
    std::function<void(const injection_rule&)> handler;
    {
      const std::lock_guard lock{mutex_};
      handler = deliver_;
    }
    if (handler)
      handler(rule);
    break;
  }
  case drill_action::drop:
  case drill_action::delay:
  case drill_action::duplicate:
  case drill_action::reorder:
  case drill_action::corrupt:
  case drill_action::cut:
  case drill_action::one_way:
  case drill_action::unread:
  case drill_action::lose_completion:
  case drill_action::delay_completion:
  case drill_action::lose_arrival:
  case drill_action::repeat_write:
  case drill_action::shift_write:
    break; // the lane or the engine does them
  }
}

} // namespace troupe::base
