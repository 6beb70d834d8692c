#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "gpu/cuda/cuda_buffer.hpp"
#include "gpu/cuda/product.hpp"
#include "gpu/stream.hpp"

namespace troupe::gpu::cuda {

struct peer_report;

/// A CUDA stream with what operations on it share: scratch memory and the plans of matrix products.
/// An operation has no outcome of its own: its call returns before the device has begun. The first error that a call
/// reports is kept with the call's name, nothing more is enqueued, and `synchronize`, `await` and `launch` give it.
/// Captured work is a CUDA graph. It names scratch memory, which therefore stays when it is outgrown after a capture.
class cuda_stream final : public stream {
public:
  explicit cuda_stream(const device& on);
  ~cuda_stream() override;

  /// Errors: executor_failed with call and words; final, as the device's errors are.
  protocols::result<void> synchronize() override;

  std::unique_ptr<stream_event> make_event() override;
  void record(stream_event& at) override;
  protocols::result<void> await(const stream_event& until, protocols::time_point deadline) override;

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
  void heed(const std::shared_ptr<const peer_report>& report);

  /// Device memory that holds until the next operation on this stream; null when the stream has failed or there is
  /// none.
  void* scratch(std::size_t bytes);
  /// Numbers that kernels count with and leave at zero; null like `scratch`.
  std::uint32_t* counters(std::size_t count);

private:
  void* memory_of(std::unique_ptr<cuda_buffer>& held, std::size_t bytes);
  protocols::result<void> outcome() const;

  device device_;
  cudaStream_t handle_ = nullptr;
  std::optional<std::string> failed_;
  std::vector<std::shared_ptr<const peer_report>> reports_;
  bool captured_ = false;
  std::unique_ptr<cuda_buffer> scratch_;
  std::unique_ptr<cuda_buffer> counters_;
  std::vector<std::unique_ptr<cuda_buffer>> outgrown_;
  product_plans products_;
};

} // namespace troupe::gpu::cuda
