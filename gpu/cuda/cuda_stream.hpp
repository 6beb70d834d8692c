#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gpu/cuda/bulk_upload.hpp"
#include "gpu/cuda/cuda_buffer.hpp"
#include "gpu/cuda/cuda_event.hpp"
#include "gpu/cuda/pinned_ring.hpp"
#include "gpu/cuda/product.hpp"
#include "gpu/stream.hpp"

namespace troupe::gpu::cuda {

struct peer_report;

/// A CUDA stream with what operations on it share: scratch memory and the plans of matrix products.
/// An operation has no outcome of its own: its call returns before the device has begun. The first error that a call
/// reports is kept with the call's name, nothing more is enqueued, and `synchronize`, `await` and `launch` give it.
/// No call waits for the device but those two: what the host hands over and fetches goes by pinned memory.
/// Captured work is a CUDA graph. It names scratch memory, which therefore stays when it is outgrown after a capture.
class cuda_stream final : public stream {
public:
  explicit cuda_stream(const device& on);
  ~cuda_stream() override;

  void mark(const char* what, std::uint32_t number) override;

  std::unique_ptr<stream_event> make_event() override;
  void record(stream_event& at) override;

  bool gains_by_capture() const noexcept override { return true; }
  protocols::result<std::unique_ptr<captured_work>> capture(work what) override;
  protocols::result<void> launch(captured_work& what) override;

  const device& on() const noexcept { return device_; }
  cudaStream_t handle() const noexcept { return handle_; }
  product_plans& products() noexcept { return products_; }

  /// Runs `body(handle)` unless the stream has failed, and keeps what it and its launches report. `call`: a literal.
  template <class Body>
  void enqueue(const char* call, const Body& body) {
    if (failed_)
      return;
    device_.use();
    cudaError_t error = body(handle_);
    if (error == cudaSuccess)
      error = cudaGetLastError();
    if (error != cudaSuccess)
      fail(words_of(error, call));
  }
  void fail(std::string words);

  /// A kernel of this stream may say there that it has given up, in host memory: the stream has failed then.
  void watch(const std::shared_ptr<const peer_report>& report);
  /// Rows of the host, `pitch` apart, one behind another to `to`; `from` is free when it returns.
  void upload(std::byte* to, const std::byte* from, std::size_t row, std::size_t rows, std::size_t pitch);
  /// `to` is filled by the `synchronize` that comes behind it.
  void download(std::span<std::byte> to, const std::byte* from);

  /// Device memory that holds until the next operation on this stream; null when the stream has failed or there is
  /// none.
  void* scratch(std::size_t bytes);
  /// Numbers that kernels count with and leave at zero; null like `scratch`.
  std::uint32_t* counters(std::size_t count);

private:
  /// Bytes on their way to the host's own pages.
  struct arrival {
    std::span<std::byte> to;
    std::unique_ptr<buffer> pinned;
  };
  struct passed_mark {
    std::unique_ptr<cuda_event> at;
    const char* what = "";
    std::uint32_t number = 0;
  };

  void* memory_of(std::unique_ptr<cuda_buffer>& held, std::size_t bytes);
  protocols::result<void> outcome() const;
  void fail_with(protocols::failure what);
  protocols::result<std::unique_ptr<buffer>> pinned_for(std::size_t bytes);
  std::string last_passed() const;

  protocols::result<bool> passed(const stream_event& until) override;
  std::uint64_t marks_passed() const noexcept override { return marks_seen_; }
  protocols::failure late() const override;
  const stream_event& record_end() override;
  protocols::result<void> finish_downloads(protocols::result<void> ended) override;

  device device_;
  cudaStream_t handle_ = nullptr;
  std::optional<protocols::failure> failed_;
  std::vector<std::shared_ptr<const peer_report>> reports_;
  bool captured_ = false;
  bool capturing_ = false;
  pinned_ring uploads_;
  std::unique_ptr<bulk_upload> bulk_;
  std::vector<arrival> arrivals_;
  std::vector<std::unique_ptr<buffer>> arrived_; ///< pinned memory to be used again
  cuda_event end_;                               ///< of what `synchronize` waits for
  std::array<passed_mark, 32> marks_;            ///< round and round
  std::size_t marks_set_ = 0;                    ///< of the device's order
  std::size_t marks_seen_ = 0;                   ///< passed, of them
  std::unique_ptr<cuda_buffer> scratch_;
  std::unique_ptr<cuda_buffer> counters_;
  std::vector<std::unique_ptr<cuda_buffer>> outgrown_;
  product_plans products_;
};

} // namespace troupe::gpu::cuda
