#include "fabric/edge.hpp"

#include <string>

#include "protocols/cluster/epoch_fence.hpp"

namespace troupe::fabric {

using namespace protocols;

result<void> edge::admit(const frame_header& header) const {
  return !spans_epochs || header.epoch == cache_epoch{} ? result<void>{}
                                                        : validate_frame_epoch(epoch, spans_epochs, header.epoch);
}

frame_header edge::stamp(frame_header header, std::uint64_t sequence, std::size_t payload_bytes) const noexcept {
  header.payload_bytes = static_cast<std::uint32_t>(payload_bytes);
  header.source = self;
  header.source_generation = self_born;
  header.destination = peer;
  header.destination_generation = peer_born;
  if (!spans_epochs || header.epoch == cache_epoch{})
    header.epoch = epoch;
  header.sequence = sequence;
  return header;
}

result<void> edge::judge(const frame_header& header, std::uint64_t expected_sequence) const {
  if (header.source != peer || header.destination != self)
    return fail(fault::wrong_rank, "from rank " + std::to_string(header.source.value) + " to " +
                                       std::to_string(header.destination.value) + " on the edge from " +
                                       std::to_string(peer.value) + " to " + std::to_string(self.value));
  if (header.source_generation != peer_born || header.destination_generation != self_born)
    return fail(fault::stale_generation,
                "rank " + std::to_string(peer.value) + " generation " + std::to_string(header.source_generation.value) +
                    " to generation " + std::to_string(header.destination_generation.value) + ", the edge has " +
                    std::to_string(peer_born.value) + " and " + std::to_string(self_born.value));
  if (auto holds = validate_frame_epoch(epoch, spans_epochs, header.epoch); !holds)
    return fail(holds.error().code, "rank " + std::to_string(peer.value) + ": " + holds.error().what);
  if (header.sequence != expected_sequence)
    return fail(fault::wrong_sequence, "rank " + std::to_string(peer.value) + " sent frame " +
                                           std::to_string(header.sequence) + " where " +
                                           std::to_string(expected_sequence) + " is next");
  return {};
}

} // namespace troupe::fabric
