#pragma once

#include <memory>
#include <set>
#include <span>
#include <string>

#include "actors/rank_context.hpp"
#include "fabric/transfers/device_memory.hpp"

namespace troupe::cluster {

/// What one rank computes on. Constant once `find` has returned.
class rank_device {
public:
  /// `rank` outlives it.
  explicit rank_device(actors::rank_context& rank) : rank_(rank) {}

  /// Finds which GPU is this rank's, and its memory as peers can be given it. Errors: config_invalid.
  protocols::result<void> find();

  const std::string& name() const noexcept { return name_; } ///< "cpu", "cuda:1"
  /// Null on the cpu.
  const std::shared_ptr<fabric::device_memory>& memory() const noexcept { return memory_; }
  /// What the rank computes on by the plan.
  std::string of(const protocols::rank_plan& rank) const { return rank.device.name_on(count_); }
  /// Different devices that these ranks compute on.
  std::set<std::string> among(std::span<const protocols::rank_id> ranks) const;

private:
  actors::rank_context& rank_;
  std::string name_;
  unsigned count_ = 0; ///< of the GPUs of this machine
  std::shared_ptr<fabric::device_memory> memory_;
};

} // namespace troupe::cluster
