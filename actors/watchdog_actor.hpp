#pragma once

#include <vector>

#include "actors/rank_actor.hpp"
#include "fabric/lanes/wire.hpp"
#include "protocols/cluster/watchdog_machine.hpp"

namespace troupe::actors {

/// Watches the rank from a thread of its own: beats the pulse that the supervisor reads, and asks `watchdog_machine`
/// about the rank's threads and its peers. What it reads are atomics (the recorder's live state, the
/// wire's signs), so nothing that a wedged thread may hold can hold it: no lock, no device, no allocator, no mailbox.
/// For the same reason it tells the supervisor of a silent peer through the recorder's file, and leaves by _exit.
///
/// Contract: C4, C6, C8, C12, C43, J7.
/// Threads: a detached actor; its loop ends with the process.
class watchdog_actor : public rank_actor {
public:
  /// `signs` by rank. They and the context outlive the actor.
  watchdog_actor(caf::actor_config& config, const rank_context& rank,
                 const std::vector<fabric::wire::peer_signs>& signs);

  const char* name() const override { return "watchdog"; }

private:
  handlers make_handlers() override;
  [[noreturn]] void watch();
  void check();
  void react(const protocols::watchdog_machine::finding& found);

  const std::vector<fabric::wire::peer_signs>& signs_;
  protocols::watchdog_machine machine_;
  std::vector<protocols::watchdog_machine::thread_view> threads_;
  std::vector<protocols::watchdog_machine::peer_view> peers_;
};

} // namespace troupe::actors
