#include "gpu/cuda/cuda_stream.hpp"

#include <algorithm>
#include <cstring>

#include "gpu/cuda/peer_sums.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::gpu::cuda {

using protocols::fault;
using protocols::result;

namespace {

/// What goes up in passing, tables of a step, lies in these; weights have slots of their own.
constexpr std::size_t upload_slots = 4;
constexpr std::size_t upload_slot_bytes = std::size_t{2} << 20;

class cuda_graph final : public captured_work {
public:
  ~cuda_graph() override {
    if (launched)
      cudaGraphExecDestroy(launched);
  }
  cudaGraphExec_t launched = nullptr;
};

} // namespace

cuda_stream::cuda_stream(const device& on) : device_((on.use(), on)), uploads_(on, upload_slots, upload_slot_bytes) {
  enqueue("cudaStreamCreateWithFlags",
          [&](cudaStream_t) { return cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking); });
  enqueue("cudaEventCreateWithFlags", [&](cudaStream_t) { return end_.error(); });
}

cuda_stream::~cuda_stream() {
  device_.use();
  if (handle_)
    cudaStreamDestroy(handle_);
}

void cuda_stream::fail_with(protocols::failure what) {
  if (failed_)
    return;
  what.what = "cuda:" + std::to_string(device_.number) + " " + what.what + last_passed();
  failed_ = std::move(what);
}

void cuda_stream::fail(std::string words) {
  fail_with({fault::executor_failed, std::move(words)});
}

void cuda_stream::watch(const std::shared_ptr<const peer_report>& report) {
  if (std::ranges::find(reports_, report) == reports_.end())
    reports_.push_back(report);
}

result<void> cuda_stream::outcome() const {
  for (const auto& report : reports_)
    if (*const_cast<const volatile std::uint32_t*>(&report->given_up) != 0)
      return protocols::fail(fault::timeout, "cuda:" + std::to_string(device_.number) +
                                                 " has waited too long for the other GPUs in a sum");
  return failed_ ? result<void>{tl::unexpected(*failed_)} : result<void>{};
}

// ---- events and marks ---------------------------------------------------------------------------------------------

std::unique_ptr<stream_event> cuda_stream::make_event() {
  device_.use();
  auto made = std::make_unique<cuda_event>();
  enqueue("cudaEventCreateWithFlags", [&](cudaStream_t) { return made->error(); });
  return made;
}

void cuda_stream::record(stream_event& at) {
  enqueue("cudaEventRecord",
          [&](cudaStream_t on) { return cudaEventRecord(static_cast<cuda_event&>(at).handle(), on); });
}

void cuda_stream::mark(const char* what, std::uint32_t number) {
  if (capturing_ || marks_set_ - marks_seen_ == marks_.size())
    return;
  passed_mark& next = marks_[marks_set_ % marks_.size()];
  if (!next.at) {
    device_.use();
    next.at = std::make_unique<cuda_event>();
  }
  next.what = what;
  next.number = number;
  record(*next.at);
  ++marks_set_;
}

/// Where the device has certainly been: what goes wrong is reported by whichever call comes next.
std::string cuda_stream::last_passed() const {
  if (marks_seen_ == 0)
    return marks_set_ == 0 ? "" : ", before its first mark";
  const passed_mark& last = marks_[(marks_seen_ - 1) % marks_.size()];
  return std::string{", past "} + last.what + ' ' + std::to_string(last.number);
}

result<bool> cuda_stream::passed(const stream_event& until) {
  if (const auto fine = outcome(); !fine)
    return tl::unexpected(fine.error());
  device_.use();
  const cudaError_t state = cudaEventQuery(static_cast<const cuda_event&>(until).handle());
  while (marks_seen_ < marks_set_ && cudaEventQuery(marks_[marks_seen_ % marks_.size()].at->handle()) == cudaSuccess)
    ++marks_seen_;
  cudaGetLastError(); // not to have come yet is no error
  if (state != cudaSuccess && state != cudaErrorNotReady)
    fail(words_of(state, "cudaEventQuery"));
  return outcome().map([&] { return state == cudaSuccess; }); // kernels too may have given up
}

protocols::failure cuda_stream::late() const {
  return {fault::timeout,
          "cuda:" + std::to_string(device_.number) + " has not ended what it was given" + last_passed()};
}

const stream_event& cuda_stream::record_end() {
  record(end_);
  return end_;
}

result<void> cuda_stream::finish_downloads(result<void> ended) {
  for (arrival& each : arrivals_) {
    if (ended)
      std::memcpy(each.to.data(), each.pinned->data(), each.to.size());
    arrived_.push_back(std::move(each.pinned));
  }
  arrivals_.clear();
  if (!ended && !failed_)
    failed_ = ended.error(); // whoever wanted the bytes is told once, and does not wait for them any more
  return ended;
}

// ---- between host and device --------------------------------------------------------------------------------------

void cuda_stream::upload(std::byte* to, const std::byte* from, std::size_t row, std::size_t rows, std::size_t pitch) {
  if (failed_ || row == 0 || rows == 0)
    return;
  const auto deadline = base::now() + protocols::limits::device_deadline;
  const bool large = row * rows >= bulk_upload::worth_bytes;
  if (large && !bulk_)
    bulk_ = std::make_unique<bulk_upload>(device_);
  if (auto done = large ? bulk_->upload(handle_, to, from, row, rows, pitch, deadline)
                        : uploads_.upload(handle_, to, from, row, rows, pitch, deadline);
      !done)
    fail_with({done.error().code, "upload: " + done.error().what});
}

/// The smallest that is large enough, so that each size finds its own again.
result<std::unique_ptr<buffer>> cuda_stream::pinned_for(std::size_t bytes) {
  auto best = arrived_.end();
  for (auto each = arrived_.begin(); each != arrived_.end(); ++each)
    if ((*each)->bytes() >= bytes && (best == arrived_.end() || (*each)->bytes() < (*best)->bytes()))
      best = each;
  if (best == arrived_.end()) {
    arrived_.clear(); // they are too small for what comes now
    return shared_buffer::make(device_, bytes);
  }
  auto found = std::move(*best);
  arrived_.erase(best);
  return found;
}

void cuda_stream::download(std::span<std::byte> to, const std::byte* from) {
  if (failed_ || to.empty())
    return;
  auto pinned = pinned_for(to.size());
  if (!pinned)
    return fail_with({pinned.error().code, "download: " + pinned.error().what});
  enqueue("download", [&](cudaStream_t on) {
    return cudaMemcpyAsync((*pinned)->data(), from, to.size(), cudaMemcpyDeviceToHost, on);
  });
  arrivals_.push_back({to, *std::move(pinned)});
}

// ---- captured work ------------------------------------------------------------------------------------------------

result<std::unique_ptr<captured_work>> cuda_stream::capture(work what) {
  auto made = std::make_unique<cuda_graph>();
  enqueue("cudaStreamBeginCapture",
          [](cudaStream_t on) { return cudaStreamBeginCapture(on, cudaStreamCaptureModeThreadLocal); });
  if (auto begun = outcome(); !begun)
    return tl::unexpected(begun.error());
  captured_ = true;
  capturing_ = true;
  const auto done = what();
  capturing_ = false;
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
      fail_with(larger.error());
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
