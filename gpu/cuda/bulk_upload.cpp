#include "gpu/cuda/bulk_upload.hpp"

#include <algorithm>
#include <atomic>
#include <thread>

#include "protocols/limits.hpp"

namespace troupe::gpu::cuda {

using protocols::result;
using protocols::time_point;

namespace {

constexpr std::size_t slot_bytes = std::size_t{4} << 20;
constexpr std::size_t slots_each = 2; ///< one is filled, one is fetched

} // namespace

bulk_upload::bulk_upload(const device& on) {
  const unsigned half = std::max(1U, std::thread::hardware_concurrency() / 2);
  for (unsigned i = 0; i < std::min(half, protocols::limits::load_threads_max); ++i)
    rings_.emplace_back(on, slots_each, slot_bytes);
}

result<void> bulk_upload::upload(cudaStream_t queue, std::byte* to, const std::byte* from, std::size_t row,
                                 std::size_t rows, std::size_t pitch, time_point deadline) {
  const std::size_t rows_each = std::max<std::size_t>(1, slot_bytes / row);
  std::atomic<std::size_t> next = 0; // rows that somebody has taken
  std::vector<result<void>> ends(rings_.size());
  const auto carry = [&](std::size_t which) {
    for (std::size_t first; ends[which] && (first = next.fetch_add(rows_each)) < rows;)
      ends[which] = rings_[which].upload(queue, to + first * row, from + first * pitch, row,
                                         std::min(rows_each, rows - first), pitch, deadline);
  };
  {
    std::vector<std::jthread> others;
    for (std::size_t i = 1; i < rings_.size(); ++i)
      others.emplace_back(carry, i);
    carry(0);
  }
  for (const auto& end : ends)
    if (!end)
      return end;
  return {};
}

} // namespace troupe::gpu::cuda
