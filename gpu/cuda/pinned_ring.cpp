#include "gpu/cuda/pinned_ring.hpp"

#include <algorithm>
#include <cstring>

#include "gpu/wait_policy.hpp"

namespace troupe::gpu::cuda {

using protocols::fail;
using protocols::fault;
using protocols::result;
using protocols::time_point;

namespace {

/// A copy engine reads from here on as fast as from anywhere.
constexpr std::size_t alignment = 256;

result<void> outcome_of(cudaError_t error, const char* call) {
  return error == cudaSuccess ? result<void>{} : fail(fault::executor_failed, words_of(error, call));
}

} // namespace

result<void> pinned_ring::make_room(cudaStream_t queue, time_point deadline) {
  if (used_ >= slot_bytes_) {
    slot& full = slots_[now_];
    if (auto noted = outcome_of(cudaEventRecord(full.fetched->handle(), queue), "cudaEventRecord"); !noted)
      return noted;
    full.busy = true;
    now_ = (now_ + 1) % slots_.size();
    used_ = 0;
  }
  slot& next = slots_[now_];
  if (!next.memory) {
    auto made = shared_buffer::make(device_, slot_bytes_);
    if (!made)
      return tl::unexpected(made.error());
    next.memory = *std::move(made);
    next.fetched = std::make_unique<cuda_event>();
    return outcome_of(next.fetched->error(), "cudaEventCreateWithFlags");
  }
  patient_wait waiting{deadline, wait_policy::backoff};
  while (next.busy) {
    const cudaError_t state = next.fetched->state();
    next.busy = state == cudaErrorNotReady;
    if (!next.busy)
      return outcome_of(state, "cudaEventQuery");
    if (!waiting.go_on())
      return fail(fault::timeout, "it has not fetched what was uploaded before");
  }
  return {};
}

result<void> pinned_ring::send(cudaStream_t queue, std::byte* to, std::size_t bytes) {
  std::byte* const from = slots_[now_].memory->data() + used_;
  used_ += (bytes + alignment - 1) / alignment * alignment;
  return outcome_of(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, queue), "cudaMemcpyAsync");
}

result<void> pinned_ring::upload(cudaStream_t queue, std::byte* to, const std::byte* from, std::size_t row,
                                 std::size_t rows, std::size_t pitch, time_point deadline) {
  device_.use();
  const std::size_t whole = row * rows;
  for (std::size_t sent = 0; sent < whole;) {
    if (auto room = make_room(queue, deadline); !room)
      return room;
    const std::size_t now = std::min(whole - sent, slot_bytes_ - used_);
    std::byte* const into = slots_[now_].memory->data() + used_;
    if (pitch == row)
      std::memcpy(into, from + sent, now);
    else
      for (std::size_t done = 0; done < now;) {
        const std::size_t at = sent + done;
        const std::size_t some = std::min(now - done, row - at % row);
        std::memcpy(into + done, from + at / row * pitch + at % row, some);
        done += some;
      }
    if (auto given = send(queue, to + sent, now); !given)
      return given;
    sent += now;
  }
  return {};
}

} // namespace troupe::gpu::cuda
