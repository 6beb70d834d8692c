#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "fabric/lanes/lane.hpp"
#include "fabric/listening_socket.hpp"
#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/drill/drill_messages.hpp"
#include "protocols/time.hpp"
#include "runtime/base/unique_fd.hpp"

namespace troupe::cluster {

/// Whether a fault may be injected into a running job. Errors: invalid_request in one line: the job's spec does not say
/// `"drills": true`, the rank is none of the plan, what `validate_rule` finds.
protocols::result<void> validate_injection(const protocols::cluster_spec& spec, const protocols::cluster_plan& plan,
                                           const protocols::inject& order);

/// Where a person's commands reach the supervisor of a running job: RUN_DIR/control.sock, for its owner alone.
/// It takes `inject` frames and answers each with `injected`; whoever sends anything else is let go, other users at
/// once, which the kernel names. Contract: K5.
/// Threads: the supervisor's. Never blocks.
class control_listener {
public:
  static constexpr std::size_t clients_max = 16;
  /// A client that has said nothing for so long is let go: its place is another's.
  static constexpr protocols::duration client_patience = std::chrono::seconds{10};

  /// Errors: config_invalid with path and errno in words.
  static protocols::result<control_listener> open(const std::string& path);

  using handler = std::function<protocols::result<void>(const protocols::inject&)>;
  /// Accepts, reads, answers what is there. To be called every second or so even when nothing is polled.
  void step(const handler& on_inject, protocols::time_point now);

  /// What to wait for (POLLIN) before the next `step`.
  std::vector<int> waitables() const;

private:
  struct client {
    std::unique_ptr<fabric::lane> lane;
    protocols::time_point heard;
  };

  explicit control_listener(fabric::listening_socket listening) noexcept : listening_(std::move(listening)) {}
  void accept_waiting(protocols::time_point now);
  static bool serve(client& from, const handler& on_inject, protocols::time_point now);

  fabric::listening_socket listening_;
  std::vector<client> clients_;
};

/// A client's side: sends one order and waits for the answer.
/// Errors: peer_gone (nobody listens), timeout, and what the supervisor answers.
protocols::result<void> order_injection(const std::string& path, const protocols::inject& order,
                                        protocols::time_point deadline);

} // namespace troupe::cluster
