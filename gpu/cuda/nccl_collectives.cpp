#include "gpu/cuda/nccl_collectives.hpp"

#include <nccl.h>

#include <future>
#include <thread>

#include "gpu/cuda/cuda_stream.hpp"
#include "gpu/cuda/kernels.hpp"
#include "runtime/base/assert.hpp"

namespace troupe::gpu::cuda {

using protocols::fail;
using protocols::fault;
using protocols::result;
using protocols::time_point;

namespace {

std::string in_words(ncclResult_t code, const char* call, ncclComm_t of = nullptr) {
  const char* const last = of != nullptr ? ncclGetLastError(of) : "";
  return std::string{call} + ": " + ncclGetErrorString(code) + (last != nullptr && *last != '\0' ? ", " : "") +
         (last != nullptr ? last : "");
}

struct joined {
  ncclComm_t all = nullptr;
  ncclResult_t code = ncclSuccess;
};

class nccl_collectives final : public device_collectives {
public:
  explicit nccl_collectives(std::future<joined> joining) : joining_(std::move(joining)) {}

  result<void> settle(time_point deadline) override {
    if (!joining_.valid())
      return {};
    if (joining_.wait_until(deadline) != std::future_status::ready)
      return fail(fault::timeout, "ncclCommInitRank: not all members came");
    const auto [all, code] = joining_.get();
    if (code != ncclSuccess)
      return fail(fault::executor_failed, in_words(code, "ncclCommInitRank"));
    all_ = all;
    return {};
  }

  bool capturable() const noexcept override { return true; }

  std::string form() const override { return "NCCL"; }

  result<void> all_reduce_sum(stream& on, const tensor_view& values, time_point) override {
    return enqueue(on, "ncclAllReduce", [&](cudaStream_t queue) {
      return ncclAllReduce(values.data(), values.data(), static_cast<std::size_t>(values.elements()), ncclFloat32,
                           ncclSum, all_, queue);
    });
  }

  result<void> all_reduce_add(stream& on, const tensor_view& values, const tensor_view& to,
                              time_point deadline) override {
    return all_reduce_sum(on, values, deadline).map([&] {
      static_cast<cuda_stream&>(on).enqueue("add", [&](cudaStream_t queue) { return add_rows(queue, to, values); });
    });
  }

  result<void> all_gather(stream& on, const tensor_view& mine, const tensor_view& all, time_point) override {
    auto& queue = static_cast<cuda_stream&>(on);
    const std::int64_t rows = mine.shape(0);
    const std::int64_t columns = mine.shape(1);
    const bool beside = rows == 1; // then one behind another is beside each other
    void* const pieces = beside ? all.data() : queue.scratch(all.bytes());
    if (pieces == nullptr)
      return {}; // the stream has failed, and says so
    auto gathered = enqueue(on, "ncclAllGather", [&](cudaStream_t handle) {
      return ncclAllGather(mine.data(), pieces, static_cast<std::size_t>(mine.elements()), ncclFloat32, all_, handle);
    });
    if (!gathered || beside)
      return gathered;
    const tensor_view to = all.split_last(all.shape(1) / columns);
    const tensor_view from{pieces, element_kind::f32, device_kind::cuda, {rows, to.shape(1), columns}};
    queue.enqueue("copy", [&](cudaStream_t handle) {
      return copy_rows(handle, from.with_stride(0, columns).with_stride(1, rows * columns), to);
    });
    return {};
  }

  result<void> send(stream& on, const tensor_view& values, std::uint32_t to, time_point) override {
    return enqueue(on, "ncclSend", [&](cudaStream_t queue) {
      return ncclSend(values.data(), static_cast<std::size_t>(values.elements()), ncclFloat32, static_cast<int>(to),
                      all_, queue);
    });
  }

  result<void> receive(stream& on, const tensor_view& values, std::uint32_t from, time_point) override {
    return enqueue(on, "ncclRecv", [&](cudaStream_t queue) {
      return ncclRecv(values.data(), static_cast<std::size_t>(values.elements()), ncclFloat32, static_cast<int>(from),
                      all_, queue);
    });
  }

private:
  template <class Call>
  result<void> enqueue(stream& on, const char* call, const Call& run) {
    auto& queue = static_cast<cuda_stream&>(on);
    TROUPE_ASSERT("B20", all_ != nullptr);
    queue.on().use();
    if (const auto code = run(queue.handle()); code != ncclSuccess)
      return fail(fault::executor_failed, in_words(code, call, all_));
    return {};
  }

  std::future<joined> joining_; ///< until it is settled
  ncclComm_t all_ = nullptr;
};

} // namespace

result<std::unique_ptr<device_collectives>> join_nccl(const device& on, const group_member& seat) {
  on.use();
  ncclUniqueId mine{};
  if (seat.self == 0)
    if (const auto code = ncclGetUniqueId(&mine); code != ncclSuccess)
      return fail(fault::executor_failed, in_words(code, "ncclGetUniqueId"));
  const auto keys = exchange(seat, mine);
  if (!keys)
    return tl::unexpected(keys.error());
  // It blocks, by a thread that can be left behind: one that does not block could be given up as well, but puts every
  // collective on its stream by a thread made for it, which costs the host 50 us each time.
  std::packaged_task<joined()> join{[on, size = seat.size, self = seat.self, key = keys->front()] {
    on.use();
    joined got;
    got.code = ncclCommInitRank(&got.all, static_cast<int>(size), key, static_cast<int>(self));
    return got;
  }};
  auto joining = join.get_future();
  std::thread{std::move(join)}.detach();
  return std::make_unique<nccl_collectives>(std::move(joining));
}

} // namespace troupe::gpu::cuda
