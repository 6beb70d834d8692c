#pragma once

#include <memory>

#include "gpu/cuda/device.hpp"
#include "gpu/tensor.hpp"

namespace troupe::gpu::cuda {

/// Plain device memory. Freeing it waits for what the device still does.
class cuda_buffer final : public buffer {
public:
  /// Not initialised. Errors: no_memory with what is free; executor_failed.
  static protocols::result<std::unique_ptr<cuda_buffer>> make(const device& of, std::size_t bytes);
  ~cuda_buffer() override;

  std::byte* data() const noexcept override { return data_; }
  std::size_t bytes() const noexcept override { return bytes_; }

private:
  cuda_buffer(const device& of, void* data, std::size_t bytes)
      : device_(of), data_(static_cast<std::byte*>(data)), bytes_(bytes) {}

  device device_;
  std::byte* data_;
  std::size_t bytes_;
};

/// Pinned host memory at an address that is the device's too.
class shared_buffer final : public buffer {
public:
  /// Zeroed. Errors: no_memory; executor_failed.
  static protocols::result<std::unique_ptr<buffer>> make(const device& of, std::size_t bytes);
  ~shared_buffer() override;

  std::byte* data() const noexcept override { return data_; }
  std::size_t bytes() const noexcept override { return bytes_; }

private:
  shared_buffer(const device& of, void* data, std::size_t bytes)
      : device_(of), data_(static_cast<std::byte*>(data)), bytes_(bytes) {}

  device device_;
  std::byte* data_;
  std::size_t bytes_;
};

} // namespace troupe::gpu::cuda
