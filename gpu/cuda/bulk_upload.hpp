#pragma once

#include <vector>

#include "gpu/cuda/pinned_ring.hpp"

namespace troupe::gpu::cuda {

/// Weights on their way from mapped files to a device: several threads copy pages into pinned slots of their own while
/// the device fetches from others, since one thread copies at a fifth of what the bus carries.
/// Threads: one; those that it starts have ended when `upload` returns.
class bulk_upload {
public:
  explicit bulk_upload(const device& on);

  /// Less than this is not worth a thread.
  static constexpr std::size_t worth_bytes = std::size_t{8} << 20;

  /// As pinned_ring::upload.
  protocols::result<void> upload(cudaStream_t queue, std::byte* to, const std::byte* from, std::size_t row,
                                 std::size_t rows, std::size_t pitch, protocols::time_point deadline);

private:
  std::vector<pinned_ring> rings_; ///< one a thread
};

} // namespace troupe::gpu::cuda
