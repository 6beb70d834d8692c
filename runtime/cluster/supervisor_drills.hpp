#pragma once

#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "protocols/cluster/life_messages.hpp"
#include "runtime/base/fault_point.hpp"
#include "runtime/base/unique_fd.hpp"
#include "runtime/cluster/control_listener.hpp"
#include "runtime/cluster/job_directory.hpp"

namespace troupe::cluster {

/// The supervisor's side of drills: the door through which faults come in, those that wait to be sent on, and those
/// that strike this process itself. Threads: the supervisor's; `inject` any.
class supervisor_drills {
public:
  /// `spec` and `plan` must outlive this.
  supervisor_drills(const protocols::cluster_spec& spec, const protocols::cluster_plan& plan);

  /// Arms this process where the spec's drills are on, and opens the door. Errors: config_invalid, invalid_request.
  protocols::result<void> open(const job_paths& paths, const std::vector<protocols::inject>& rules);

  /// Judges the order and keeps it for `step`. Errors: those of `validate_injection`.
  protocols::result<void> inject(const protocols::inject& order);

  /// What to wait for (POLLIN) before the next `step`.
  std::vector<int> waitables() const;
  /// Hands on what has come for ranks; strikes what is this process's own.
  void step(const std::function<void(const protocols::inject&)>& send);

  /// Where drills are on: notes when it was first known that something is wrong with a rank.
  void notice(protocols::rank_id rank);

private:
  const protocols::cluster_spec& spec_;
  const protocols::cluster_plan& plan_;
  std::optional<base::fault_injector> injector_;
  std::optional<control_listener> door_;
  base::unique_fd doorbell_; ///< eventfd
  std::mutex mutex_;         ///< guards `orders_`
  std::deque<protocols::inject> orders_;
};

/// The supervisor's fault points, by what it is about to order.
void pass_fault_points(const protocols::roster& order);
void pass_fault_points(const protocols::proceed& order);
void pass_fault_points(const protocols::shutdown& order);
template <class Message>
void pass_fault_points(const Message&) {} // the others have none

} // namespace troupe::cluster
