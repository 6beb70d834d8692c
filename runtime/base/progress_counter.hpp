#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "protocols/time.hpp"

namespace troupe::base {

/// Whether work waits for somebody, as a watchdog may ask: from any thread, without a lock.
class queued_work {
public:
  virtual bool is_waiting() const noexcept = 0;

protected:
  ~queued_work() = default;
};

/// What one thread or actor shows of itself.
struct shown_work {
  std::atomic<std::uint64_t> turn = 0; ///< odd: at work
  std::atomic<const queued_work*> queue = nullptr;
  std::atomic<const char*> stuck = ""; ///< what is said of it when it stands still
};

/// Where an actor or a thread says that it is at work, for a watchdog that must neither lock nor wait: a number that is
/// odd meanwhile and grows with whatever gets done. A thread that waits for work in a loop of short naps says so at
/// each and is never at rest: one that does not wake is found like one that does not come back. An actor's mailbox
/// tells what waits for it, so that work which was queued and is not begun counts too. Steps of an executor are not
/// said here but in the flight recorder, whose progress counts every layer. Contract: K13, C4. Threads: one at a time
/// says, any looks. One that was made without a place says nothing to nobody.
class progress_counter {
public:
  progress_counter() = default;
  explicit progress_counter(shown_work* place) noexcept : place_(place) {}

  /// At work from here on, or waiting; whether it was at work before. Working on counts as getting on.
  bool set(bool working) noexcept {
    if (place_ == nullptr)
      return false;
    const auto before = place_->turn.load(std::memory_order_relaxed);
    const bool was = before % 2 == 1;
    if (was || working)
      place_->turn.store(before + (was == working ? 2 : 1), std::memory_order_relaxed);
    return was;
  }
  /// Whoever has work in `queue` is not at rest. It outlives the sign's owner, or null is set before it ends.
  void watch(const queued_work* queue) noexcept {
    if (place_ != nullptr)
      place_->queue.store(queue, std::memory_order_release);
  }

private:
  shown_work* place_ = nullptr;
};

/// The signs of one rank, with what its watchdog says of one that stands still.
/// Threads: any; nothing is locked or allocated once it is made.
class progress_table {
public:
  struct view {
    bool works = false; ///< in the middle of something, or something waits for it
    std::uint64_t turn = 0;
  };

  explicit progress_table(std::size_t signs_max) : places_(signs_max) {}

  /// `stuck`: a literal. A sign without a place, which is not watched, when all are taken.
  progress_counter claim(const char* stuck = "an actor does not come back from a message") noexcept {
    const auto taken = taken_.fetch_add(1);
    if (taken >= places_.size())
      return {};
    places_[taken].stuck.store(stuck, std::memory_order_relaxed);
    return progress_counter{&places_[taken]};
  }
  std::size_t size() const noexcept { return places_.size(); }
  view at(std::size_t place) const noexcept {
    const auto& one = places_[place];
    const auto turn = one.turn.load(std::memory_order_relaxed);
    const auto* const queue = one.queue.load(std::memory_order_acquire);
    return {turn % 2 == 1 || (queue != nullptr && queue->is_waiting()), turn};
  }
  const char* stuck(std::size_t place) const noexcept { return places_[place].stuck.load(std::memory_order_relaxed); }

private:
  std::vector<shown_work> places_;
  std::atomic<std::size_t> taken_ = 0;
};

/// How the threads of a component are to be watched: each claims a sign, and turns at least every `nap`.
struct watching {
  progress_table* signs = nullptr; ///< none: nobody watches
  protocols::duration nap = std::chrono::seconds{1};

  progress_counter claim(const char* stuck) const noexcept {
    return signs == nullptr ? progress_counter{} : signs->claim(stuck);
  }
};

} // namespace troupe::base
