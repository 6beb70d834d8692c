#include <algorithm>
#include <cstdint>
#include <vector>

#include "gpu/cuda/cuda_buffer.hpp"
#include "gpu/cuda/cuda_event.hpp"
#include "gpu/cuda/stream_copies.hpp"

namespace troupe::gpu::cuda {

using fabric::device_reach;
using fabric::write_piece;
using protocols::fail;
using protocols::fault;
using protocols::result;

namespace {

// Pieces of this size or more, on average, are the copy engines': they take some microseconds for each.
constexpr std::uint64_t engine_piece_bytes = 8u << 20;
constexpr std::uint64_t engine_piece_bytes_pinned = 128u << 10; ///< over a bus that is slower by as much

// A link takes 400 GB/s or so: with 1 us from load to store, 400 KB under way fill it. Few blocks, for others compute.
constexpr int threads = 512;
constexpr int words_each = 8;                                                              ///< in flight in a thread
constexpr std::uint64_t slice_bytes = std::uint64_t{threads} * words_each * sizeof(uint4); ///< of a block at a time
constexpr int blocks_max = 32;

struct slice {
  const uint4* from = nullptr;
  uint4* to = nullptr;
  std::uint32_t words = 0;
};

__global__ void __launch_bounds__(threads) copy_slices(const slice* slices, int count) {
  for (int at = blockIdx.x; at < count; at += gridDim.x) {
    const slice one = slices[at];
    uint4 held[words_each];
#pragma unroll
    for (int i = 0; i < words_each; ++i)
      if (const unsigned word = threadIdx.x + i * threads; word < one.words)
        held[i] = __ldcs(one.from + word);
#pragma unroll
    for (int i = 0; i < words_each; ++i)
      if (const unsigned word = threadIdx.x + i * threads; word < one.words)
        __stcs(one.to + word, held[i]);
  }
}

class stream_copies final : public fabric::device_copies {
public:
  explicit stream_copies(const device& on) : device_((on.use(), on)), failed_(done_.error()) {
    if (failed_ == cudaSuccess)
      failed_ = cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
  }
  ~stream_copies() override {
    device_.use();
    if (stream_)
      cudaStreamDestroy(stream_);
  }

  result<void> begin(std::span<const write_piece> pieces, const std::byte* source, std::byte* target,
                     device_reach reach, const fabric::device_event* after) override {
    if (failed_ != cudaSuccess)
      return fail(fault::executor_failed, words_of(failed_, "a stream for copies"));
    // One that was given up may still stand behind its event, and the list of slices is its.
    if (const auto before = finished(); !before || !*before)
      return before ? fail(fault::executor_failed, "the copy before has not ended") : tl::unexpected(before.error());
    if (after != nullptr)
      if (auto told = outcome(cudaStreamWaitEvent(stream_, static_cast<const cuda_event*>(after)->handle(), 0),
                              "cudaStreamWaitEvent");
          !told)
        return told;
    std::uint64_t bytes = 0;
    std::uint64_t places = reinterpret_cast<std::uintptr_t>(source) | reinterpret_cast<std::uintptr_t>(target);
    for (const auto& piece : pieces) {
      bytes += piece.bytes;
      places |= piece.source_offset | piece.target_offset | piece.bytes;
    }
    const auto least_of_engine = reach == device_reach::pinned ? engine_piece_bytes_pinned : engine_piece_bytes;
    const bool in_words = places % sizeof(uint4) == 0;
    auto told = reach == device_reach::by_way_of_host                 ? stage(pieces, source, target)
                : in_words && bytes < least_of_engine * pieces.size() ? in_slices(pieces, source, target, bytes)
                                                                      : by_engine(pieces, source, target);
    if (!told)
      return told;
    return outcome(cudaEventRecord(done_.handle(), stream_), "cudaEventRecord");
  }

  result<bool> finished() override {
    device_.use();
    const auto state = done_.state();
    if (state == cudaErrorNotReady)
      return false;
    return outcome(state, "a copy between regions").map([] { return true; });
  }

private:
  static result<void> outcome(cudaError_t error, const char* call) {
    return error == cudaSuccess ? result<void>{} : fail(fault::executor_failed, words_of(error, call));
  }

  result<void> stage(std::span<const write_piece> pieces, const std::byte* source, std::byte* target) {
    for (const auto& piece : pieces)
      if (auto told = outcome(cudaMemcpyAsync(target + piece.target_offset, source + piece.source_offset, piece.bytes,
                                              cudaMemcpyDefault, stream_),
                              "cudaMemcpyAsync");
          !told)
        return told;
    return {};
  }

  result<void> by_engine(std::span<const write_piece> pieces, const std::byte* source, std::byte* target) {
    sources_.clear();
    targets_.clear();
    sizes_.clear();
    for (const auto& piece : pieces)
      if (piece.bytes > 0) {
        sources_.push_back(source + piece.source_offset);
        targets_.push_back(target + piece.target_offset);
        sizes_.push_back(piece.bytes);
      }
    if (sizes_.empty())
      return {};
    cudaMemcpyAttributes how{};
    how.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
    std::size_t of_first = 0;
    return outcome(cudaMemcpyBatchAsync(targets_.data(), sources_.data(), sizes_.data(), sizes_.size(), &how, &of_first,
                                        1, stream_),
                   "cudaMemcpyBatchAsync");
  }

  /// The list of slices is the device's to read until `finished`; one write is under way at a time.
  result<void> in_slices(std::span<const write_piece> pieces, const std::byte* source, std::byte* target,
                         std::uint64_t bytes) {
    const std::uint64_t most = bytes / slice_bytes + pieces.size(); // each piece may end in a part of one
    if (auto room = make_room(most); !room)
      return room;
    auto* const slices = reinterpret_cast<slice*>(slices_->data());
    auto* const there = reinterpret_cast<slice*>(slices_there_->data());
    std::size_t count = 0;
    for (const auto& piece : pieces)
      for (std::uint64_t at = 0; at < piece.bytes; at += slice_bytes)
        slices[count++] = {
            reinterpret_cast<const uint4*>(source + piece.source_offset + at),
            reinterpret_cast<uint4*>(target + piece.target_offset + at),
            static_cast<std::uint32_t>(std::min<std::uint64_t>(slice_bytes, piece.bytes - at) / sizeof(uint4))};
    if (count == 0)
      return {};
    if (auto told = outcome(cudaMemcpyAsync(there, slices, count * sizeof(slice), cudaMemcpyHostToDevice, stream_),
                            "cudaMemcpyAsync");
        !told)
      return told;
    const auto blocks = static_cast<unsigned>(std::min<std::size_t>(count, blocks_max));
    copy_slices<<<blocks, threads, 0, stream_>>>(there, static_cast<int>(count));
    return outcome(cudaGetLastError(), "copy_slices");
  }

  result<void> make_room(std::uint64_t slices) {
    if (slices <= slices_max_)
      return {};
    const std::uint64_t most = std::max<std::uint64_t>(slices, 2 * slices_max_);
    auto here = shared_buffer::make(device_, most * sizeof(slice));
    auto there = cuda_buffer::make(device_, most * sizeof(slice));
    if (!here || !there)
      return tl::unexpected(here ? there.error() : here.error());
    slices_ = *std::move(here);
    slices_there_ = *std::move(there);
    slices_max_ = most;
    return {};
  }

  device device_;
  cudaStream_t stream_ = nullptr;
  cuda_event done_;
  cudaError_t failed_;
  std::vector<const void*> sources_;
  std::vector<void*> targets_;
  std::vector<std::size_t> sizes_;
  std::unique_ptr<buffer> slices_; ///< pinned
  std::unique_ptr<cuda_buffer> slices_there_;
  std::uint64_t slices_max_ = 0;
};

} // namespace

std::unique_ptr<fabric::device_copies> make_copies(const device& on) {
  return std::make_unique<stream_copies>(on);
}

} // namespace troupe::gpu::cuda
