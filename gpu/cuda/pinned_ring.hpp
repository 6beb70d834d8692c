#pragma once

#include <memory>
#include <vector>

#include "gpu/cuda/cuda_buffer.hpp"
#include "gpu/cuda/cuda_event.hpp"

namespace troupe::gpu::cuda {

/// Pinned memory by whose slots bytes of the host go to a device: the host copies into one slot while the device
/// fetches from another, and whoever uploads is done when his bytes are in a slot.
/// The driver's own way for pageable memory holds the thread until the stream has come to the copy, without a deadline,
/// and is as fast as one thread that copies into a small buffer.
/// Threads: one.
class pinned_ring {
public:
  pinned_ring(const device& on, std::size_t slots, std::size_t slot_bytes) : device_(on), slot_bytes_(slot_bytes) {
    slots_.resize(slots);
  }

  /// `rows` of `row` bytes, `pitch` apart, one behind another to `to`, in the order of `queue`.
  /// Errors: no_memory; timeout, when no slot came free; executor_failed.
  protocols::result<void> upload(cudaStream_t queue, std::byte* to, const std::byte* from, std::size_t row,
                                 std::size_t rows, std::size_t pitch, protocols::time_point deadline);

private:
  struct slot {
    std::unique_ptr<buffer> memory;
    std::unique_ptr<cuda_event> fetched; ///< behind the last copy out of it
    bool busy = false;                   ///< until that has been seen
  };

  /// At least one free byte in the present slot. Errors: as `upload`.
  protocols::result<void> make_room(cudaStream_t queue, protocols::time_point deadline);
  protocols::result<void> send(cudaStream_t queue, std::byte* to, std::size_t bytes);

  device device_;
  std::size_t slot_bytes_;
  std::vector<slot> slots_;
  std::size_t now_ = 0;  ///< the present slot
  std::size_t used_ = 0; ///< bytes of it
};

} // namespace troupe::gpu::cuda
