#pragma once

#include <memory>
#include <optional>

#include "gpu/cuda/cuda_buffer.hpp"
#include "gpu/cuda/product.hpp"
#include "gpu/stream.hpp"

namespace troupe::gpu::cuda {

/// A CUDA stream with what operations on it share: scratch memory and the plans of matrix products.
/// An operation has no outcome of its own: its call returns before the device has begun. The first error that a call
/// reports is kept with the call's name, nothing more is enqueued, and `synchronize` gives it.
class cuda_stream final : public stream {
public:
  explicit cuda_stream(const device& on);
  ~cuda_stream() override;

  /// Errors: executor_failed with call and words; final, as the device's errors are.
  protocols::result<void> synchronize() override;

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

  /// Device memory that holds until the next operation on this stream; null when the stream has failed or there is
  /// none.
  void* scratch(std::size_t bytes);

private:
  device device_;
  cudaStream_t handle_ = nullptr;
  std::optional<std::string> failed_;
  std::unique_ptr<cuda_buffer> scratch_;
  product_plans products_;
};

} // namespace troupe::gpu::cuda
