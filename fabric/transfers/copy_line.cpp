// Decides outside protocols: the wait itself, for a device

#include "fabric/transfers/copy_line.hpp"

#include <pthread.h>

#include <string>
#include <utility>

#include "runtime/base/clock.hpp"

namespace troupe::fabric {

using protocols::fail;
using protocols::fault;
using protocols::result;

namespace {

/// A copy is looked at without a pause for so long, then so often: a large one, or one behind what the device still
/// computes, is not worth a core.
constexpr std::chrono::microseconds spin{200};
constexpr std::chrono::microseconds no_nap{0};
constexpr std::chrono::microseconds nap{50};

} // namespace

void copy_line::be_watched(const base::watching& by) {
  turn_ = by.claim("a copy between device and host stands still");
  nap_ = by.nap;
}

void copy_line::start(const char* thread_name) {
  thread_ = std::thread{[this, thread_name] {
    ::pthread_setname_np(::pthread_self(), thread_name);
    run();
  }};
}

result<void> copy_line::put(job what) {
  {
    const std::lock_guard lock{mutex_};
    if (stopping_)
      return fail(fault::shutting_down, "the engine does not run");
    if (jobs_.full())
      return fail(fault::queue_full, std::to_string(jobs_.size()) + " copies are in line");
    jobs_.push(std::move(what));
  }
  changed_.notify_one();
  return {};
}

void copy_line::stop() noexcept {
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable())
    thread_.join();
}

void copy_line::run() noexcept {
  while (auto first = next())
    first->then(carry_out(*first));
  turn_.set(false);
}

bool copy_line::repeats_newest(const job& what) const {
  return what.after && what.after == newest_.after.lock() && what.source == newest_.source &&
         what.pieces == newest_.pieces;
}

result<void> copy_line::carry_out(const job& what) {
  if (repeats_newest(what))
    return {};
  newest_ = {};
  auto done = copy(what);
  if (done)
    newest_ = {what.pieces, what.source, what.after};
  return done;
}

std::optional<copy_line::job> copy_line::next() {
  std::unique_lock lock{mutex_};
  do
    turn_.set(true);
  while (!changed_.wait_for(lock, nap_, [&] { return stopping_ || !jobs_.empty(); }));
  return jobs_.empty() ? std::nullopt : std::optional{jobs_.pop()};
}

result<void> copy_line::copy(const job& what) {
  std::unique_lock lock{mutex_};
  const auto begun = base::now();
  if (stopping_)
    return fail(fault::transfer_failed, "the engine stopped");
  if (begun >= what.deadline)
    return fail(fault::timeout, "a copy that waited in line");
  lock.unlock();
  if (auto told = by_->begin(what.pieces, what.source, what.target, device_reach::pinned, what.after.get()); !told)
    return told;
  while (true) {
    turn_.set(true); // its deadline bounds it
    const auto there = by_->finished();
    if (!there)
      return tl::unexpected{there.error()};
    if (*there)
      return {};
    const auto now = base::now();
    if (now >= what.deadline)
      return fail(fault::timeout, "a copy between device and host");
    lock.lock();
    if (changed_.wait_for(lock, now < begun + spin ? no_nap : nap, [&] { return stopping_; }))
      return fail(fault::transfer_failed, "the engine stopped");
    lock.unlock();
  }
}

} // namespace troupe::fabric
