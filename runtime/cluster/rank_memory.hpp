#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "actors/rank_program.hpp"
#include "fabric/transfers/transfer.hpp"
#include "runtime/cluster/rank_device.hpp"
#include "runtime/cluster/rank_edges.hpp"

namespace troupe::cluster {

/// The transfer engine of one rank and its regions: what it registers, who writes into them, where it writes.
/// Which regions there are, and who writes which, are the rows of the program.
/// Contract: B3, I23, I25. Threads: the rank's main thread, but where it says otherwise.
class rank_memory {
public:
  struct options {
    std::string run_directory;
    std::array<std::byte, 32> job_token{};
    std::chrono::milliseconds nap; ///< the longest that a thread of the engine may wait before it shows progress
  };

  /// `rank`, `device` and `edges` outlive it.
  rank_memory(actors::rank_context& rank, const rank_device& device, rank_edges& edges, options how);

  /// Opens the engine and registers what `program` wants; `program` hears of all writes from here on. The device has
  /// been found. Returns the address at which a network reaches the engine. Errors: config_invalid, no_memory.
  protocols::result<std::vector<std::byte>> open(actors::rank_program& program);
  /// Announces this rank's regions to those of `with` that write them, and maps the regions of `with` that this rank
  /// writes, once for each generation of their owner (I23). Errors: timeout, peer_gone, cancelled (`urgent`).
  protocols::result<void> attach(const std::set<protocols::rank_id>& with, protocols::time_point deadline,
                                 const std::function<bool()>& urgent = {});
  void stop();

  /// Whether this rank writes that region of `owner`. Any thread, once opened.
  bool writes(protocols::rank_id owner, const std::string& purpose) const;

private:
  using peer_region = std::pair<protocols::rank_id, std::string>; ///< the other end, and the region's purpose

  std::string socket_of(protocols::rank_id rank) const;
  protocols::result<void> register_regions(const actors::rank_program& program);
  protocols::result<void> check_device_room(const actors::rank_program& program,
                                            const std::vector<actors::wanted_region>& wanted) const;
  protocols::result<void> check_host_room(const std::vector<actors::wanted_region>& wanted) const;
  protocols::result<void> attach_transfers(protocols::rank_id peer, protocols::time_point deadline);
  protocols::result<void> announce_regions(const std::set<protocols::rank_id>& to);
  protocols::result<void> attach_regions(const std::set<protocols::rank_id>& of, protocols::time_point deadline,
                                         const std::function<bool()>& urgent);
  std::vector<peer_region> writers_of_mine() const; ///< who writes which region here
  std::vector<peer_region> written_by_me() const;

  actors::rank_context& rank_;
  const rank_device& device_;
  rank_edges& edges_;
  options how_;
  std::unique_ptr<fabric::transfer_engine> transfers_; ///< null: a stub's
};

} // namespace troupe::cluster
