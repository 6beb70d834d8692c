#include "gpu/cuda/peer_sums.hpp"

#include <algorithm>

#include "gpu/cuda/dependent.hpp"
#include "gpu/cuda/pack.hpp"
#include "gpu/cuda/peer_exchange.hpp"

namespace troupe::gpu::cuda {

namespace {

constexpr std::uint32_t first_generation = 0xffff'ff00U;
constexpr unsigned sum_threads = 256;
constexpr unsigned sum_blocks_max = 64; ///< resident at once on any GPU that it is built for: they wait for each other

__device__ __forceinline__ peer_pair load_pair(const float* from, std::uint32_t at, std::uint32_t count) {
  return {from[2 * at], 2 * at + 1 < count ? from[2 * at + 1] : 0.0F};
}

template <int Most>
__device__ __forceinline__ peer_pair sum_of(const peer_member& seat, const peer_pair (&of)[Most]) {
  peer_pair sum = of[0];
#pragma unroll
  for (int member = 1; member < Most; ++member)
    if (member < seat.members) {
      sum.x += of[member].x;
      sum.y += of[member].y;
    }
  return sum;
}

struct sum_call {
  float* values;
  float* add_to; ///< or none
  std::uint32_t count;

  __device__ __forceinline__ peer_pair load(std::uint32_t at) const { return load_pair(values, at, count); }
  __device__ __forceinline__ void store(std::uint32_t at, peer_pair sum) const {
    float* const to = add_to != nullptr ? add_to : values;
    if (add_to != nullptr) {
      const peer_pair before = load_pair(add_to, at, count);
      sum = {before.x + sum.x, before.y + sum.y};
    }
    to[2 * at] = sum.x;
    if (2 * at + 1 < count)
      to[2 * at + 1] = sum.y;
  }
};

struct gather_call {
  const float* mine;
  std::uint32_t columns;
  float* all;
  std::int64_t stride;
  std::uint32_t count; ///< of `mine`

  __device__ __forceinline__ peer_pair load(std::uint32_t at) const { return load_pair(mine, at, count); }
  __device__ __forceinline__ void store(std::uint32_t member, std::uint32_t at, peer_pair numbers) const {
    const auto store_one = [&](std::uint32_t number, float value) {
      if (number < count)
        all[number / columns * stride + member * columns + number % columns] = value;
    };
    store_one(2 * at, numbers.x);
    store_one(2 * at + 1, numbers.y);
  }
};

/// Every member sends all that it has to all others: `keep(at, numbers of the members)`.
template <int Most, class Call, class Keep>
__device__ __forceinline__ void exchange_whole(const peer_member& seat, const peer_patience& patience, const Call& call,
                                               Keep keep) {
  let_next_kernel_begin();
  await_kernels_before();
  peer_exchange with{seat, patience};
  const std::uint32_t items = (call.count + 1) / 2;
  const std::uint32_t first = blockIdx.x * blockDim.x + threadIdx.x;
  const std::uint32_t step = gridDim.x * blockDim.x;
  for (std::uint32_t at = first; at < items; at += step)
    with.send_all<Most>(at, call.load(at));
  __syncthreads();
  if (threadIdx.x == 0)
    with.count_on();
  with.wipe_after_wrap();
  if (with.broken())
    return;
  for (std::uint32_t at = first; at < items; at += step) {
    peer_pair of[Most];
    if (!with.take_all(at, call.load(at), of))
      return;
    keep(at, of);
  }
}

template <int Most>
__global__ void __launch_bounds__(sum_threads)
    sum_whole(const __grid_constant__ peer_member seat, const __grid_constant__ peer_patience patience, sum_call call) {
  exchange_whole<Most>(seat, patience, call,
                       [&](std::uint32_t at, const peer_pair(&of)[Most]) { call.store(at, sum_of(seat, of)); });
}

template <int Most>
__global__ void __launch_bounds__(sum_threads)
    gather(const __grid_constant__ peer_member seat, const __grid_constant__ peer_patience patience, gather_call call) {
  exchange_whole<Most>(seat, patience, call, [&](std::uint32_t at, const peer_pair(&of)[Most]) {
#pragma unroll
    for (int member = 0; member < Most; ++member)
      if (member < seat.members)
        call.store(member, at, of[member]);
  });
}

/// A thread has the same place in every share, so that nothing in a block waits for another thread.
template <int Most>
__global__ void __launch_bounds__(sum_threads)
    sum_shares(const __grid_constant__ peer_member seat, const __grid_constant__ peer_patience patience,
               sum_call call) {
  let_next_kernel_begin();
  await_kernels_before();
  peer_exchange with{seat, patience};
  const std::uint32_t items = (call.count + 1) / 2;
  const std::uint32_t share = (items + seat.members - 1) / seat.members;
  const std::uint32_t first = blockIdx.x * blockDim.x + threadIdx.x;
  const std::uint32_t step = gridDim.x * blockDim.x;
  const auto for_others = [&](auto body) { // beginning with the next member: no two send to the same one at once
    for (std::uint32_t turn = 1; turn < seat.members; ++turn) {
      const std::uint32_t member = (seat.self + turn) % seat.members;
      for (std::uint32_t in_share = first; in_share < share; in_share += step)
        if (const std::uint32_t at = member * share + in_share; at < items)
          body(member, at);
    }
  };
  for_others([&](std::uint32_t member, std::uint32_t at) { with.send(member, at, call.load(at)); });
  __syncthreads();
  if (threadIdx.x == 0)
    with.count_on();
  with.wipe_after_wrap();
  if (with.broken())
    return;
  for (std::uint32_t in_share = first; in_share < share; in_share += step) {
    const std::uint32_t at = seat.self * share + in_share;
    if (at >= items)
      break;
    peer_pair of[Most];
    if (!with.take_all(at, call.load(at), of))
      return;
    const peer_pair sum = sum_of(seat, of);
    with.send_all<Most>(at, sum);
    call.store(at, sum);
  }
  bool well = true;
  for_others([&](std::uint32_t member, std::uint32_t at) {
    peer_pair sum;
    if (well && (well = with.take_sum(member, at, sum)))
      call.store(at, sum);
  });
}

template <class Call>
using kernel = void (*)(peer_member, peer_patience, Call);

template <class Call>
cudaError_t launch(cudaStream_t on, const peer_call& with, std::uint32_t threads, kernel<Call> for_two,
                   kernel<Call> for_four, kernel<Call> for_eight, const Call& call) {
  const unsigned blocks = std::clamp((threads + sum_threads - 1) / sum_threads, 1U, sum_blocks_max);
  const std::uint32_t members = with.seat.members;
  return launch_early(on, blocks, sum_threads, 0,
                      members <= 2   ? for_two
                      : members <= 4 ? for_four
                                     : for_eight,
                      with.seat, with.patience, call);
}

} // namespace

std::uint32_t peer_row_items(std::size_t part_bytes_max) {
  return static_cast<std::uint32_t>((part_bytes_max / sizeof(float) + 1) / 2);
}

std::size_t peer_inbox_bytes(std::uint32_t members, std::size_t part_bytes_max) {
  return std::size_t{peer_slots} * members * peer_row_items(part_bytes_max) * sizeof(peer_item);
}

std::array<std::uint32_t, peer_state_words> peer_state_at_first() {
  return {first_generation, 0, 0};
}

cudaError_t sum_with_peers(cudaStream_t on, const peer_call& with, peer_way way, float* values, float* add_to,
                           std::uint32_t count) {
  const sum_call call{values, add_to, count};
  const std::uint32_t items = (count + 1) / 2;
  if (way == peer_way::whole)
    return launch(on, with, items, sum_whole<2>, sum_whole<4>, sum_whole<8>, call);
  return launch(on, with, (items + with.seat.members - 1) / with.seat.members, sum_shares<2>, sum_shares<4>,
                sum_shares<8>, call);
}

cudaError_t gather_from_peers(cudaStream_t on, const peer_call& with, const tensor_view& mine, const tensor_view& all) {
  const gather_call call{.mine = mine.f32(),
                         .columns = static_cast<std::uint32_t>(mine.shape(1)),
                         .all = all.f32(),
                         .stride = all.stride(0),
                         .count = static_cast<std::uint32_t>(mine.elements())};
  return launch(on, with, (call.count + 1) / 2, gather<2>, gather<4>, gather<8>, call);
}

} // namespace troupe::gpu::cuda
