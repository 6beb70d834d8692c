#include "gpu/cuda/cuda_stream.hpp"

namespace troupe::gpu::cuda {

cuda_stream::cuda_stream(const device& on) : device_(on) {
  enqueue("cudaStreamCreateWithFlags",
          [&](cudaStream_t) { return cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking); });
}

cuda_stream::~cuda_stream() {
  device_.use();
  if (handle_)
    cudaStreamDestroy(handle_);
}

void cuda_stream::fail(std::string words) {
  if (!failed_)
    failed_ = std::move(words);
}

protocols::result<void> cuda_stream::synchronize() {
  enqueue("cudaStreamSynchronize", [](cudaStream_t on) { return cudaStreamSynchronize(on); });
  if (failed_)
    return protocols::fail(protocols::fault::executor_failed,
                           "cuda:" + std::to_string(device_.number) + " " + *failed_);
  return {};
}

void* cuda_stream::scratch(std::size_t bytes) {
  if (failed_)
    return nullptr;
  if (!scratch_ || scratch_->bytes() < bytes) {
    auto larger = cuda_buffer::make(device_, bytes);
    if (!larger) {
      fail(protocols::to_string(larger.error()));
      return nullptr;
    }
    scratch_ = std::move(*larger);
  }
  return scratch_->data();
}

} // namespace troupe::gpu::cuda
