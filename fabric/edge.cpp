#include "fabric/edge.hpp"

#include <string>

namespace troupe::fabric {

using namespace protocols;

frame_header edge::stamp(frame_header header, std::uint64_t sequence, std::size_t payload_bytes) const noexcept {
  header.payload_bytes = static_cast<std::uint32_t>(payload_bytes);
  header.source = self;
  header.source_generation = self_born;
  header.destination = peer;
  header.destination_generation = peer_born;
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
  if (header.epoch != epoch)
    return fail(fault::stale_epoch, "rank " + std::to_string(peer.value) + " sent a frame of epoch " +
                                        std::to_string(header.epoch.value) + ", now " + std::to_string(epoch.value));
  if (header.sequence != expected_sequence)
    return fail(fault::wrong_sequence, "rank " + std::to_string(peer.value) + " sent frame " +
                                           std::to_string(header.sequence) + " where " +
                                           std::to_string(expected_sequence) + " is next");
  return {};
}

} // namespace troupe::fabric
