#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace troupe::actors {

/// Where an actor or a thread says that it is at work, for a watchdog that must neither lock nor wait: a number that is
/// odd meanwhile and grows with whatever gets done. Steps of an executor are not said here but in the flight recorder,
/// whose progress counts every layer.
/// Threads: one at a time says, any looks. One that was made without a place says nothing to nobody.
class busy_sign {
public:
  busy_sign() = default;
  explicit busy_sign(std::atomic<std::uint64_t>* place) noexcept : place_(place) {}

  /// At work from here on, or waiting; whether it was at work before. Working on counts as getting on.
  bool set(bool working) noexcept {
    if (place_ == nullptr)
      return false;
    const auto before = place_->load(std::memory_order_relaxed);
    const bool was = before % 2 == 1;
    if (was || working)
      place_->store(before + (was == working ? 2 : 1), std::memory_order_relaxed);
    return was;
  }

private:
  std::atomic<std::uint64_t>* place_ = nullptr;
};

/// The signs of one rank, with what its watchdog says of one that stands still.
/// Threads: any; nothing is locked or allocated once it is made.
class actor_turns {
public:
  explicit actor_turns(std::size_t signs_max) : places_(signs_max) {}

  /// `stuck`: a literal. A sign without a place, which is not watched, when all are taken.
  busy_sign claim(const char* stuck = "an actor does not come back from a message") noexcept {
    const auto taken = taken_.fetch_add(1);
    if (taken >= places_.size())
      return {};
    places_[taken].stuck.store(stuck, std::memory_order_relaxed);
    return busy_sign{&places_[taken].turn};
  }
  std::size_t size() const noexcept { return places_.size(); }
  std::uint64_t at(std::size_t place) const noexcept { return places_[place].turn.load(std::memory_order_relaxed); }
  const char* stuck(std::size_t place) const noexcept { return places_[place].stuck.load(std::memory_order_relaxed); }

private:
  struct slot {
    std::atomic<std::uint64_t> turn = 0;
    std::atomic<const char*> stuck = "";
  };
  std::vector<slot> places_;
  std::atomic<std::size_t> taken_ = 0;
};

} // namespace troupe::actors
