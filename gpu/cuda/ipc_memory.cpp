#include "gpu/cuda/ipc_memory.hpp"

#include <cstring>
#include <vector>

#include "gpu/cuda/cuda_buffer.hpp"

namespace troupe::gpu::cuda {

using fabric::device_handle;
using fabric::device_region;
using fabric::write_piece;
using protocols::fail;
using protocols::fault;
using protocols::result;

namespace {

static_assert(sizeof(cudaIpcMemHandle_t) == sizeof(device_handle));

class made_region final : public device_region {
public:
  made_region(std::unique_ptr<cuda_buffer> memory, const device_handle& handle)
      : memory_(std::move(memory)), handle_(handle) {}

  std::span<std::byte> bytes() const noexcept override { return {memory_->data(), memory_->bytes()}; }
  const device_handle& handle() const noexcept override { return handle_; }

private:
  std::unique_ptr<cuda_buffer> memory_;
  device_handle handle_;
};

class opened_region final : public device_region {
public:
  opened_region(const device& on, void* data, std::size_t bytes, const device_handle& handle)
      : device_(on), data_(static_cast<std::byte*>(data)), bytes_(bytes), handle_(handle) {}
  ~opened_region() override {
    device_.use();
    cudaIpcCloseMemHandle(data_);
  }

  std::span<std::byte> bytes() const noexcept override { return {data_, bytes_}; }
  const device_handle& handle() const noexcept override { return handle_; }

private:
  device device_;
  std::byte* data_;
  std::size_t bytes_;
  device_handle handle_;
};

/// On a stream of their own, so that they neither wait for what is computed nor hold it up.
class stream_copies final : public fabric::device_copies {
public:
  explicit stream_copies(const device& on) : device_(on) {
    device_.use();
    failed_ = cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
    if (failed_ == cudaSuccess)
      failed_ = cudaEventCreateWithFlags(&done_, cudaEventDisableTiming);
  }
  ~stream_copies() override {
    device_.use();
    if (done_)
      cudaEventDestroy(done_);
    if (stream_)
      cudaStreamDestroy(stream_);
  }

  result<void> begin(std::span<const write_piece> pieces, const std::byte* source, std::byte* target) override {
    if (failed_ != cudaSuccess)
      return fail(fault::executor_failed, words_of(failed_, "a stream for copies"));
    device_.use();
    sources_.clear();
    targets_.clear();
    sizes_.clear();
    for (const auto& piece : pieces)
      if (piece.bytes > 0) {
        sources_.push_back(source + piece.source_offset);
        targets_.push_back(target + piece.target_offset);
        sizes_.push_back(piece.bytes);
      }
    if (!sizes_.empty()) {
      cudaMemcpyAttributes how{};
      how.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
      std::size_t of_first = 0;
      if (const auto error = cudaMemcpyBatchAsync(targets_.data(), sources_.data(), sizes_.data(), sizes_.size(), &how,
                                                  &of_first, 1, stream_);
          error != cudaSuccess)
        return fail(fault::executor_failed, words_of(error, "cudaMemcpyBatchAsync"));
    }
    if (const auto error = cudaEventRecord(done_, stream_); error != cudaSuccess)
      return fail(fault::executor_failed, words_of(error, "cudaEventRecord"));
    return {};
  }

  result<bool> finished() override {
    device_.use();
    const auto state = cudaEventQuery(done_);
    if (state == cudaSuccess || state == cudaErrorNotReady)
      return state == cudaSuccess;
    return fail(fault::executor_failed, words_of(state, "a copy between regions"));
  }

private:
  device device_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t done_ = nullptr;
  cudaError_t failed_ = cudaSuccess;
  std::vector<const void*> sources_;
  std::vector<void*> targets_;
  std::vector<std::size_t> sizes_;
};

class ipc_memory final : public fabric::device_memory {
public:
  explicit ipc_memory(const device& on) : device_(on) {}

  result<std::unique_ptr<device_region>> make(std::size_t bytes) override {
    auto memory = cuda_buffer::make(device_, bytes);
    if (!memory)
      return tl::unexpected(memory.error());
    cudaIpcMemHandle_t given{};
    const char* call = "cudaMemset";
    auto error = cudaMemset((*memory)->data(), 0, bytes);
    if (error == cudaSuccess) {
      call = "cudaIpcGetMemHandle";
      error = cudaIpcGetMemHandle(&given, (*memory)->data());
    }
    if (error != cudaSuccess)
      return fail(fault::executor_failed, words_of(error, call));
    device_handle handle{};
    std::memcpy(handle.data(), &given, handle.size());
    return std::make_unique<made_region>(*std::move(memory), handle);
  }

  result<std::unique_ptr<device_region>> open(const device_handle& of, std::size_t bytes) override {
    device_.use();
    cudaIpcMemHandle_t given{};
    std::memcpy(&given, of.data(), of.size());
    void* data = nullptr;
    if (const auto error = cudaIpcOpenMemHandle(&data, given, cudaIpcMemLazyEnablePeerAccess); error != cudaSuccess)
      return fail(fault::transfer_failed, words_of(error, "cudaIpcOpenMemHandle"));
    return std::make_unique<opened_region>(device_, data, bytes, of);
  }

  result<room> left() override {
    device_.use();
    std::size_t unused = 0;
    std::size_t whole = 0;
    if (const auto error = cudaMemGetInfo(&unused, &whole); error != cudaSuccess)
      return fail(fault::executor_failed, words_of(error, "cudaMemGetInfo"));
    return room{unused, whole};
  }

  std::unique_ptr<fabric::device_copies> make_copies() override { return std::make_unique<stream_copies>(device_); }

private:
  device device_;
};

} // namespace

result<std::shared_ptr<fabric::device_memory>> make_ipc_memory(unsigned device_number) {
  const auto opened = open_device(device_number);
  if (!opened)
    return tl::unexpected(opened.error());
  return std::make_shared<ipc_memory>(*opened);
}

} // namespace troupe::gpu::cuda
