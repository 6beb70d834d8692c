#include "gpu/cuda/nccl_collectives.hpp"

#include <nccl.h>

#include <cstring>
#include <thread>

#include "gpu/cuda/cuda_stream.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::gpu::cuda {

using protocols::fail;
using protocols::fault;
using protocols::result;
using protocols::time_point;

namespace {

static_assert(sizeof(ncclUniqueId) == sizeof(collectives_key));

std::string in_words(ncclResult_t code, const char* call, ncclComm_t of = nullptr) {
  const char* const last = of != nullptr ? ncclGetLastError(of) : "";
  return std::string{call} + ": " + ncclGetErrorString(code) + (last != nullptr && *last != '\0' ? ", " : "") +
         (last != nullptr ? last : "");
}

class nccl_collectives final : public device_collectives {
public:
  explicit nccl_collectives(ncclComm_t all) : all_(all) {}

  bool capturable() const noexcept override { return true; }

  result<void> all_reduce_sum(stream& on, const tensor_view& values, time_point deadline) override {
    return enqueue(on, "ncclAllReduce", deadline, [&](cudaStream_t queue) {
      return ncclAllReduce(values.data(), values.data(), static_cast<std::size_t>(values.elements()), ncclFloat32,
                           ncclSum, all_, queue);
    });
  }

  result<void> all_gather(stream& on, const tensor_view& mine, const tensor_view& all, time_point deadline) override {
    return enqueue(on, "ncclAllGather", deadline, [&](cudaStream_t queue) {
      return ncclAllGather(mine.data(), all.data(), static_cast<std::size_t>(mine.elements()), ncclFloat32, all_,
                           queue);
    });
  }

  result<void> send(stream& on, const tensor_view& values, std::uint32_t to, time_point deadline) override {
    return enqueue(on, "ncclSend", deadline, [&](cudaStream_t queue) {
      return ncclSend(values.data(), static_cast<std::size_t>(values.elements()), ncclFloat32, static_cast<int>(to),
                      all_, queue);
    });
  }

  result<void> receive(stream& on, const tensor_view& values, std::uint32_t from, time_point deadline) override {
    return enqueue(on, "ncclRecv", deadline, [&](cudaStream_t queue) {
      return ncclRecv(values.data(), static_cast<std::size_t>(values.elements()), ncclFloat32, static_cast<int>(from),
                      all_, queue);
    });
  }

  /// Until what was begun is on its stream.
  result<void> settle(const char* call, ncclResult_t state, time_point deadline) {
    while (state == ncclInProgress) {
      if (base::now() >= deadline)
        return fail(fault::timeout, std::string{call} + " did not get under way");
      std::this_thread::yield();
      if (const auto asked = ncclCommGetAsyncError(all_, &state); asked != ncclSuccess)
        state = asked;
    }
    return state == ncclSuccess ? result<void>{} : fail(fault::executor_failed, in_words(state, call, all_));
  }

private:
  template <class Call>
  result<void> enqueue(stream& on, const char* call, time_point deadline, const Call& run) {
    auto& queue = static_cast<cuda_stream&>(on);
    queue.on().use();
    return settle(call, run(queue.handle()), deadline);
  }

  ncclComm_t all_;
};

} // namespace

result<collectives_key> make_nccl_key() {
  ncclUniqueId made{};
  if (const auto code = ncclGetUniqueId(&made); code != ncclSuccess)
    return fail(fault::executor_failed, in_words(code, "ncclGetUniqueId"));
  collectives_key key{};
  std::memcpy(key.data(), &made, key.size());
  return key;
}

result<std::unique_ptr<device_collectives>> join_nccl(const device& on, const collectives_seat& seat,
                                                      time_point deadline) {
  on.use();
  ncclUniqueId key{};
  std::memcpy(&key, seat.key.data(), seat.key.size());
  ncclConfig_t how = NCCL_CONFIG_INITIALIZER;
  how.blocking = 0;
  ncclComm_t all = nullptr;
  const auto begun = ncclCommInitRankConfig(&all, static_cast<int>(seat.size), key, static_cast<int>(seat.self), &how);
  if (all == nullptr)
    return fail(fault::executor_failed, in_words(begun, "ncclCommInitRankConfig"));
  auto made = std::make_unique<nccl_collectives>(all);
  if (auto joined = made->settle("ncclCommInitRankConfig", begun, deadline); !joined)
    return tl::unexpected(joined.error());
  return made;
}

} // namespace troupe::gpu::cuda
