#include "gpu/cuda/cuda_stream.hpp"

#include <sched.h>

#include <algorithm>

#include "gpu/cuda/peer_sums.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::gpu::cuda {

using protocols::fault;
using protocols::result;

namespace {

class cuda_event final : public stream_event {
public:
  ~cuda_event() override {
    if (handle)
      cudaEventDestroy(handle);
  }
  cudaEvent_t handle = nullptr;
};

class cuda_graph final : public captured_work {
public:
  ~cuda_graph() override {
    if (launched)
      cudaGraphExecDestroy(launched);
  }
  cudaGraphExec_t launched = nullptr;
};

} // namespace

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

void cuda_stream::heed(const std::shared_ptr<const peer_report>& report) {
  if (std::ranges::find(reports_, report) == reports_.end())
    reports_.push_back(report);
}

result<void> cuda_stream::outcome() const {
  for (const auto& report : reports_)
    if (*const_cast<const volatile std::uint32_t*>(&report->given_up) != 0)
      return protocols::fail(fault::timeout, "cuda:" + std::to_string(device_.number) +
                                                 " has waited too long for the other GPUs in a sum");
  if (failed_)
    return protocols::fail(fault::executor_failed, "cuda:" + std::to_string(device_.number) + " " + *failed_);
  return {};
}

result<void> cuda_stream::synchronize() {
  enqueue("cudaStreamSynchronize", [](cudaStream_t on) { return cudaStreamSynchronize(on); });
  return outcome();
}

// ---- events -------------------------------------------------------------------------------------------------------

std::unique_ptr<stream_event> cuda_stream::make_event() {
  auto made = std::make_unique<cuda_event>();
  enqueue("cudaEventCreateWithFlags",
          [&](cudaStream_t) { return cudaEventCreateWithFlags(&made->handle, cudaEventDisableTiming); });
  return made;
}

void cuda_stream::record(stream_event& at) {
  enqueue("cudaEventRecord", [&](cudaStream_t on) { return cudaEventRecord(static_cast<cuda_event&>(at).handle, on); });
}

result<void> cuda_stream::await(const stream_event& until, protocols::time_point deadline) {
  const cudaEvent_t event = static_cast<const cuda_event&>(until).handle;
  cudaError_t state = cudaErrorNotReady;
  // A step takes about a millisecond, and what comes of it is on its way to somebody: no sleep is short enough.
  while (!failed_ && state == cudaErrorNotReady) {
    device_.use();
    state = cudaEventQuery(event);
    if (state == cudaErrorNotReady) {
      cudaGetLastError(); // it is no error
      if (base::now() >= deadline)
        return protocols::fail(fault::timeout, "cuda:" + std::to_string(device_.number) + " is still at it");
      sched_yield();
    } else if (state != cudaSuccess) {
      fail(words_of(state, "cudaEventQuery"));
    }
  }
  return outcome();
}

// ---- captured work ------------------------------------------------------------------------------------------------

result<std::unique_ptr<captured_work>> cuda_stream::capture(work what) {
  auto made = std::make_unique<cuda_graph>();
  enqueue("cudaStreamBeginCapture",
          [](cudaStream_t on) { return cudaStreamBeginCapture(on, cudaStreamCaptureModeThreadLocal); });
  if (auto begun = outcome(); !begun)
    return tl::unexpected(begun.error());
  captured_ = true;
  const auto done = what();
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(handle_, &graph); // also when the work failed: a capture must end
  if (ended != cudaSuccess) {
    cudaGetLastError();
    fail(words_of(ended, "cudaStreamEndCapture"));
  }
  if (done)
    enqueue("cudaGraphInstantiate", [&](cudaStream_t) { return cudaGraphInstantiate(&made->launched, graph, 0); });
  if (graph)
    cudaGraphDestroy(graph);
  if (!done)
    return tl::unexpected(done.error());
  enqueue("cudaGraphUpload", [&](cudaStream_t on) { return cudaGraphUpload(made->launched, on); });
  if (auto all = outcome(); !all)
    return tl::unexpected(all.error());
  return made;
}

result<void> cuda_stream::launch(captured_work& what) {
  enqueue("cudaGraphLaunch",
          [&](cudaStream_t on) { return cudaGraphLaunch(static_cast<cuda_graph&>(what).launched, on); });
  return outcome();
}

// ---- memory -------------------------------------------------------------------------------------------------------

void* cuda_stream::memory_of(std::unique_ptr<cuda_buffer>& held, std::size_t bytes) {
  if (failed_)
    return nullptr;
  if (!held || held->bytes() < bytes) {
    auto larger = cuda_buffer::make(device_, bytes);
    if (!larger) {
      fail(protocols::to_string(larger.error()));
      return nullptr;
    }
    if (held && captured_)
      outgrown_.push_back(std::move(held));
    held = std::move(*larger);
  }
  return held->data();
}

void* cuda_stream::scratch(std::size_t bytes) {
  return memory_of(scratch_, bytes);
}

std::uint32_t* cuda_stream::counters(std::size_t count) {
  const std::size_t before = counters_ ? counters_->bytes() : 0;
  const std::size_t bytes = count * sizeof(std::uint32_t);
  void* const memory = memory_of(counters_, bytes);
  if (memory && bytes > before)
    enqueue("cudaMemsetAsync", [&](cudaStream_t on) { return cudaMemsetAsync(memory, 0, bytes, on); });
  return static_cast<std::uint32_t*>(memory);
}

} // namespace troupe::gpu::cuda
