#include <algorithm>

#include "gpu/cuda/dependent.hpp"
#include "gpu/cuda/pack.hpp"
#include "gpu/cuda/peer_sums.hpp"

// Small sums between GPUs that write to each other's memory, for the middle of a decode step: what counts is the time
// of one way. A number travels in one 64-bit word with the generation of the call that it belongs to, so that whoever
// reads a word sees at once whether it has come: no fence, no flag behind the data, no answer (the idea of NCCL's
// low-latency protocol). Words go two at a time.
//
// A member's inbox has three slots, used in turn. Whoever ends call g has a part of every member's g, and a member
// begins g when its g - 1 has ended: so while one is in g others are in g - 1 to g + 1, and slot g + 2 is nobody's.
// A word from 2^32 calls ago would look like a new one: the calls after the wrap wipe the free slot, which is also why
// the count begins shortly before it.

namespace troupe::gpu::cuda {

namespace {

constexpr unsigned slots = 3;
constexpr unsigned item_bytes = 16;
constexpr std::uint32_t first_generation = 0xffff'ff00U;
constexpr unsigned sum_threads = 256;
constexpr unsigned sum_blocks_max = 64; ///< resident at once on any GPU that it is built for: they wait for each other

struct item {
  std::uint64_t first, second;
};
struct pair {
  float x, y;
};

__device__ __forceinline__ void put(item* to, pair numbers, std::uint32_t generation) {
  const auto word = [&](float number) {
    return static_cast<std::uint64_t>(generation) << 32 | __float_as_uint(number);
  };
  asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(word(numbers.x)), "l"(word(numbers.y))
               : "memory");
}
__device__ __forceinline__ item look(const item* at) {
  item found;
  asm volatile("ld.relaxed.sys.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(found.first), "=l"(found.second)
               : "l"(at)
               : "memory");
  return found;
}
__device__ __forceinline__ bool is_of(const item& one, std::uint32_t generation) {
  return one.first >> 32 == generation && one.second >> 32 == generation;
}
__device__ __forceinline__ pair numbers_of(const item& one) {
  return {__uint_as_float(static_cast<std::uint32_t>(one.first)),
          __uint_as_float(static_cast<std::uint32_t>(one.second))};
}
__device__ __forceinline__ std::uint64_t now_ns() {
  std::uint64_t now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}

__device__ __forceinline__ pair load_pair(const float* from, std::uint32_t at, std::uint32_t count) {
  return {from[2 * at], 2 * at + 1 < count ? from[2 * at + 1] : 0.0F};
}
__device__ __forceinline__ void store_pair(float* to, std::uint32_t at, std::uint32_t count, pair numbers) {
  to[2 * at] = numbers.x;
  if (2 * at + 1 < count)
    to[2 * at + 1] = numbers.y;
}

/// One call of one thread. `Most`: members, or a few more, so that all of them are looked at together.
template <int Most>
class exchange {
public:
  __device__ exchange(const peer_seat& seat, const peer_patience& patience)
      : seat_(seat), patience_(patience), generation_(__ldcg(seat.state)), broken_(__ldcg(seat.state + 1) != 0) {}

  __device__ bool broken() const { return broken_; }

  /// Where `member` finds what `from` has for it.
  __device__ item* place(std::uint32_t member, std::uint32_t from, std::uint32_t at) const {
    const std::size_t row = generation_ % slots * seat_.members + from;
    return reinterpret_cast<item*>(seat_.inbox[member]) + row * seat_.row_items + at;
  }
  __device__ void send(std::uint32_t member, std::uint32_t at, pair numbers) const {
    put(place(member, seat_.self, at), numbers, generation_);
  }
  __device__ void send_all(std::uint32_t at, pair numbers) const {
#pragma unroll
    for (int member = 0; member < Most; ++member)
      if (member < seat_.members && member != seat_.self)
        send(member, at, numbers);
  }

  /// Once all threads of the block have been made: the last block counts on, unseen by all that have read.
  __device__ void count_on() const {
    __syncthreads();
    if (threadIdx.x != 0 || atomicAdd(seat_.state + 2, 1) != gridDim.x - 1)
      return;
    seat_.state[2] = 0;
    seat_.state[0] = generation_ == 0xffff'ffffU ? 1 : generation_ + 1;
  }
  __device__ void wipe_after_wrap() const {
    if (generation_ > slots)
      return;
    const std::size_t slot_items = std::size_t{seat_.members} * seat_.row_items;
    auto* const free = reinterpret_cast<item*>(seat_.inbox[seat_.self]) + (generation_ + 2) % slots * slot_items;
    for (std::size_t at = blockIdx.x * blockDim.x + threadIdx.x; at < slot_items; at += gridDim.x * blockDim.x)
      free[at] = {};
  }

  /// The numbers of `at` of every member, this one's as given. False: given up.
  __device__ bool take_all(std::uint32_t at, pair mine, pair (&of)[Most]) {
    item seen[Most];
    std::uint32_t missing;
    do {
#pragma unroll
      for (int member = 0; member < Most; ++member)
        seen[member] = look(place(seat_.self, member < seat_.members ? member : seat_.self, at));
      missing = 0;
#pragma unroll
      for (int member = 0; member < Most; ++member)
        if (member < seat_.members && member != seat_.self && !is_of(seen[member], generation_))
          missing |= 1U << member;
    } while (missing != 0 && waits_on(missing));
#pragma unroll
    for (int member = 0; member < Most; ++member)
      of[member] = member == seat_.self ? mine : numbers_of(seen[member]);
    return has_come(missing == 0);
  }
  /// What one other member has added up. Nothing is told of it: whose part it lacks is known to whoever waits for
  /// parts.
  __device__ bool take_sum(std::uint32_t member, std::uint32_t at, pair& numbers) {
    item seen = look(place(seat_.self, member, at));
    while (!is_of(seen, generation_) && waits_on(0))
      seen = look(place(seat_.self, member, at));
    numbers = numbers_of(seen);
    return has_come(is_of(seen, generation_));
  }

private:
  static constexpr std::uint32_t looks_between_times = 64;

  /// Between two looks; tells now and then for whom it waits, if for anybody. False: it has waited too long.
  __device__ __forceinline__ bool waits_on(std::uint32_t missing) {
    if (++looks_ % looks_between_times != 0)
      return true;
    const std::uint64_t now = now_ns();
    if (looks_ == looks_between_times)
      began_ = told_ = now;
    if (now - told_ < patience_.told_ns)
      return true;
    told_ = now;
    if (missing != 0)
      tell(missing);
    return now - began_ < patience_.longest_ns;
  }
  __device__ __forceinline__ bool has_come(bool all) {
    if (!all) {
      seat_.state[1] = 1;
      *const_cast<volatile std::uint32_t*>(&seat_.report->given_up) = 1;
    } else if (told_ != began_) {
      tell(0);
    }
    looks_ = 0;
    began_ = told_ = 0;
    return all;
  }
  __device__ void tell(std::uint32_t missing) const {
    *const_cast<volatile std::uint32_t*>(&seat_.report->missing) = missing;
  }

  const peer_seat& seat_;
  const peer_patience& patience_;
  std::uint32_t generation_;
  bool broken_;
  std::uint32_t looks_ = 0;
  std::uint64_t began_ = 0;
  std::uint64_t told_ = 0;
};

template <int Most>
__device__ __forceinline__ pair sum_of(const peer_seat& seat, const pair (&of)[Most]) {
  pair sum = of[0];
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

  __device__ __forceinline__ pair load(std::uint32_t at) const { return load_pair(values, at, count); }
  __device__ __forceinline__ void store(std::uint32_t at, pair sum) const {
    if (add_to != nullptr) {
      const pair before = load_pair(add_to, at, count);
      sum = {before.x + sum.x, before.y + sum.y};
    }
    store_pair(add_to != nullptr ? add_to : values, at, count, sum);
  }
};

template <int Most>
__global__ void __launch_bounds__(sum_threads)
    sum_whole(const __grid_constant__ peer_seat seat, const __grid_constant__ peer_patience patience, sum_call call) {
  let_next_kernel_begin();
  await_kernels_before();
  exchange<Most> with{seat, patience};
  const std::uint32_t items = (call.count + 1) / 2;
  const std::uint32_t first = blockIdx.x * blockDim.x + threadIdx.x;
  const std::uint32_t step = gridDim.x * blockDim.x;
  for (std::uint32_t at = first; at < items; at += step)
    with.send_all(at, call.load(at));
  with.count_on();
  with.wipe_after_wrap();
  if (with.broken())
    return;
  for (std::uint32_t at = first; at < items; at += step) {
    pair of[Most];
    if (!with.take_all(at, call.load(at), of))
      return;
    call.store(at, sum_of(seat, of));
  }
}

/// A thread has the same place in every share, so that nothing in a block waits for another thread.
template <int Most>
__global__ void __launch_bounds__(sum_threads)
    sum_shares(const __grid_constant__ peer_seat seat, const __grid_constant__ peer_patience patience, sum_call call) {
  let_next_kernel_begin();
  await_kernels_before();
  exchange<Most> with{seat, patience};
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
  with.count_on();
  with.wipe_after_wrap();
  if (with.broken())
    return;
  for (std::uint32_t in_share = first; in_share < share; in_share += step) {
    const std::uint32_t at = seat.self * share + in_share;
    if (at >= items)
      break;
    pair of[Most];
    if (!with.take_all(at, call.load(at), of))
      return;
    const pair sum = sum_of(seat, of);
    with.send_all(at, sum);
    call.store(at, sum);
  }
  bool well = true;
  for_others([&](std::uint32_t member, std::uint32_t at) {
    pair sum;
    if (well && (well = with.take_sum(member, at, sum)))
      call.store(at, sum);
  });
}

template <int Most>
__global__ void __launch_bounds__(sum_threads)
    gather(const __grid_constant__ peer_seat seat, const __grid_constant__ peer_patience patience, const float* mine,
           float* all, std::uint32_t count) {
  let_next_kernel_begin();
  await_kernels_before();
  exchange<Most> with{seat, patience};
  const std::uint32_t items = (count + 1) / 2;
  const std::uint32_t first = blockIdx.x * blockDim.x + threadIdx.x;
  const std::uint32_t step = gridDim.x * blockDim.x;
  for (std::uint32_t at = first; at < items; at += step)
    with.send_all(at, load_pair(mine, at, count));
  with.count_on();
  with.wipe_after_wrap();
  if (with.broken())
    return;
  for (std::uint32_t at = first; at < items; at += step) {
    pair of[Most];
    if (!with.take_all(at, load_pair(mine, at, count), of))
      return;
#pragma unroll
    for (int member = 0; member < Most; ++member)
      if (member < seat.members)
        store_pair(all + std::size_t{count} * member, at, count, of[member]);
  }
}

template <class... Arguments>
cudaError_t launch(cudaStream_t on, const peer_seat& seat, std::uint32_t threads, void (*for_two)(Arguments...),
                   void (*for_four)(Arguments...), void (*for_eight)(Arguments...), Arguments... arguments) {
  const unsigned blocks = std::clamp((threads + sum_threads - 1) / sum_threads, 1U, sum_blocks_max);
  const auto kernel = seat.members <= 2 ? for_two : seat.members <= 4 ? for_four : for_eight;
  return launch_early(on, blocks, sum_threads, 0, kernel, arguments...);
}

} // namespace

std::uint32_t peer_row_items(std::size_t part_bytes_max) {
  return static_cast<std::uint32_t>((part_bytes_max / sizeof(float) + 1) / 2);
}

std::size_t peer_inbox_bytes(std::uint32_t members, std::size_t part_bytes_max) {
  return std::size_t{slots} * members * peer_row_items(part_bytes_max) * item_bytes;
}

std::array<std::uint32_t, peer_state_words> peer_state_at_first() {
  return {first_generation, 0, 0};
}

cudaError_t sum_with_peers(cudaStream_t on, const peer_seat& seat, const peer_patience& patience, peer_way way,
                           float* values, float* add_to, std::uint32_t count) {
  const sum_call call{values, add_to, count};
  const std::uint32_t items = (count + 1) / 2;
  if (way == peer_way::whole)
    return launch(on, seat, items, sum_whole<2>, sum_whole<4>, sum_whole<8>, seat, patience, call);
  return launch(on, seat, (items + seat.members - 1) / seat.members, sum_shares<2>, sum_shares<4>, sum_shares<8>, seat,
                patience, call);
}

cudaError_t gather_from_peers(cudaStream_t on, const peer_seat& seat, const peer_patience& patience, const float* mine,
                              float* all, std::uint32_t count) {
  return launch(on, seat, (count + 1) / 2, gather<2>, gather<4>, gather<8>, seat, patience, mine, all, count);
}

} // namespace troupe::gpu::cuda
