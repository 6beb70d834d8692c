#pragma once

#include <map>
#include <memory>

#include "fabric/transfers/arrival_table.hpp"
#include "fabric/transfers/copy_line.hpp"
#include "fabric/transfers/device_memory.hpp"
#include "fabric/transfers/wrapped_engine.hpp"

namespace troupe::fabric {

/// Regions of a device over a lane that reaches no device's memory.
///
/// Each has a mirror: pinned memory of the host, as long as the region and registered in its place for the life of the
/// rank. What is written leaves by it (device to mirror behind the event of the source, then the write within) and
/// arrives in it (the peer's write, then mirror to device, then the news). An offset means the same in both, so a slot
/// of the mirror is granted, rests in quarantine and is used again with its slot of the device, and what holds for a
/// write to the host's memory holds here: late bytes go into a slot that rests, and never reach the device at all.
///
/// `on_arrived` is called when the bytes are in the device's memory, so no step waits for them (E17). Where they
/// belong there, `arrivals` says; a word that nobody expects is passed on and moves nothing. An arrival whose copy
/// fails is not told: the room ends by its deadline, if the device's failure has not ended the rank before. Rejected: a
/// bounded ring of slots between the two, which needs half the memory and a second set of grants. Contract: E10, E12,
/// E16, E17, I23, I24, I25, I26, I31. Threads: as of the engine within, and one for each direction; events are called
/// on any of them.
class staged_engine final : public wrapped_engine {
public:
  staged_engine(std::unique_ptr<transfer_engine> with, std::shared_ptr<device_memory> devices,
                std::shared_ptr<arrival_table> arrivals, std::size_t queue_max = 4096);
  ~staged_engine() override;

  /// Errors besides those of the engine within: no_memory, of the device or for pages that cannot be pinned.
  protocols::result<local_region> register_region(std::size_t bytes, memory_kind kind) override;
  void be_watched(const base::watching& by) override;
  protocols::result<void> start(transfer_events events) override;
  /// What the engine within refuses of a write from a device, `on_delivered` tells.
  protocols::result<void> post(write_request request, ready_event source_ready) override;
  void stop() noexcept override;

private:
  struct mirrored {
    std::unique_ptr<device_region> memory;
    std::span<std::byte> mirror; ///< of the engine within, which is destroyed last
    std::shared_ptr<const void> pinned;
  };

  void on_arrived(protocols::rank_id from, std::uint64_t completion_data);

  std::shared_ptr<device_memory> devices_;
  std::shared_ptr<arrival_table> arrivals_;
  transfer_events events_;
  std::map<std::uint32_t, mirrored> regions_; ///< of a device, by id; fixed once started
  copy_line out_;
  copy_line in_;
};

} // namespace troupe::fabric
