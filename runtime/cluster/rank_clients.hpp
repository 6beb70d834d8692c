#pragma once

#include <atomic>
#include <cstddef>
#include <string>

#include "actors/rank_program.hpp"
#include "fabric/lanes/wire.hpp"
#include "runtime/base/unique_fd.hpp"

namespace troupe::cluster {

/// The clients of a front: who may connect, how many, and what becomes of their frames.
/// Contract: C20, K7, K9. Threads: `accept` is the rank's main thread's; the rest runs on the wire's.
class rank_clients {
public:
  /// All three outlive it.
  rank_clients(protocols::rank_id self, actors::rank_program& program, fabric::wire& wire)
      : self_(self), program_(program), wire_(wire) {}

  /// Takes clients at this unix socket from here on. Once. Errors: config_invalid.
  protocols::result<void> accept(const std::string& socket);

private:
  std::size_t find_room() const;
  void on_client(base::unique_fd socket, bool crowded);

  protocols::rank_id self_;
  actors::rank_program& program_;
  fabric::wire& wire_;
  std::atomic<std::size_t> taken_ = 0; ///< whose links the wire holds
  std::size_t taken_max_ = 0;          ///< constant once clients are accepted
};

} // namespace troupe::cluster
