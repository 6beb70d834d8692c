#pragma once

#include <cuda_runtime.h>

#include "gpu/cuda/peer_sums.hpp"

/// How kernels of GPUs that write to each other's memory exchange numbers in the middle of a decode step, where what
/// counts is the time of one way. A number travels in one 64-bit word with the generation of the call that it belongs
/// to, so that whoever reads a word sees at once whether it has come: no fence, no flag behind the data, no answer (the
/// idea of NCCL's low-latency protocol). Words go two at a time. Included by .cu files alone.
///
/// A member's inbox has three slots, used in turn. Whoever ends call g has a part of every member's g, and a member
/// begins g when its g - 1 has ended: so while one is in g others are in g - 1 to g + 1, and slot g + 2 is nobody's.
/// A word from 2^32 calls ago would look like a new one: the calls after the wrap wipe the free slot, which is also why
/// the count begins shortly before it.
namespace troupe::gpu::cuda {

inline constexpr unsigned peer_slots = 3;

/// Two numbers on their way.
struct peer_item {
  std::uint64_t first, second;
};
struct peer_pair {
  float x, y;
};

__device__ __forceinline__ void put(peer_item* to, peer_pair numbers, std::uint32_t generation) {
  const auto word = [&](float number) {
    return static_cast<std::uint64_t>(generation) << 32 | __float_as_uint(number);
  };
  asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(word(numbers.x)), "l"(word(numbers.y))
               : "memory");
}
__device__ __forceinline__ peer_item look(const peer_item* at) {
  peer_item found;
  asm volatile("ld.relaxed.sys.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(found.first), "=l"(found.second)
               : "l"(at)
               : "memory");
  return found;
}
__device__ __forceinline__ bool is_of(const peer_item& one, std::uint32_t generation) {
  return one.first >> 32 == generation && one.second >> 32 == generation;
}
__device__ __forceinline__ peer_pair numbers_of(const peer_item& one) {
  return {__uint_as_float(static_cast<std::uint32_t>(one.first)),
          __uint_as_float(static_cast<std::uint32_t>(one.second))};
}
__device__ __forceinline__ std::uint64_t now_ns() {
  std::uint64_t now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}

/// Which call it is that a kernel makes; to be read when the kernels before it have ended.
struct peer_turn {
  std::uint32_t generation = 0;
  bool broken = false; ///< somebody has given up before: what comes is not waited for

  peer_turn() = default;
  __device__ explicit peer_turn(const peer_member& seat)
      : generation(__ldcg(seat.state)), broken(__ldcg(seat.state + 1) != 0) {}
};

/// One call of one thread.
class peer_exchange {
public:
  __device__ peer_exchange(const peer_member& seat, const peer_patience& patience, const peer_turn& turn)
      : seat_(seat), patience_(patience), generation_(turn.generation), broken_(turn.broken) {}
  __device__ peer_exchange(const peer_member& seat, const peer_patience& patience)
      : peer_exchange(seat, patience, peer_turn{seat}) {}

  __device__ bool broken() const { return broken_; }

  __device__ void send(std::uint32_t member, std::uint32_t at, peer_pair numbers) const {
    put(place(member, seat_.self, at), numbers, generation_);
  }
  /// `Most`: members, or a few more, so that all of them are sent to, and looked at, together.
  template <int Most>
  __device__ void send_all(std::uint32_t at, peer_pair numbers) const {
#pragma unroll
    for (int member = 0; member < Most; ++member)
      if (member < seat_.members && member != seat_.self)
        send(member, at, numbers);
  }

  /// By one thread of each block, once all threads of the block have their turn: the last block counts on, unseen by
  /// all that have read.
  __device__ void count_on() const {
    if (atomicAdd(seat_.state + 2, 1) != gridDim.x - 1)
      return;
    seat_.state[2] = 0;
    seat_.state[0] = generation_ == 0xffff'ffffU ? 1 : generation_ + 1;
  }
  /// By all threads.
  __device__ void wipe_after_wrap() const {
    if (generation_ > peer_slots)
      return;
    const std::size_t slot_items = std::size_t{seat_.members} * seat_.row_items;
    auto* const free =
        reinterpret_cast<peer_item*>(seat_.inbox[seat_.self]) + (generation_ + 2) % peer_slots * slot_items;
    for (std::size_t at = blockIdx.x * blockDim.x + threadIdx.x; at < slot_items; at += gridDim.x * blockDim.x)
      free[at] = {};
  }

  /// The numbers of `at` of every member, this one's as given. False: given up.
  template <int Most>
  __device__ bool take_all(std::uint32_t at, peer_pair mine, peer_pair (&of)[Most]) {
    peer_item seen[Most];
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
  /// By a whole warp, each of its lanes for a member and a place of its own, or for none. The same answer for all.
  __device__ bool take_by_lanes(bool wanted, std::uint32_t member, std::uint32_t at, peer_pair& numbers) {
    constexpr unsigned all_lanes = 0xffff'ffffU;
    peer_item seen{};
    std::uint32_t missing;
    do {
      if (wanted)
        seen = look(place(seat_.self, member, at));
      missing = __reduce_or_sync(all_lanes, wanted && !is_of(seen, generation_) ? 1U << member : 0U);
    } while (missing != 0 && __all_sync(all_lanes, waits_on(missing)));
    if (wanted)
      numbers = numbers_of(seen);
    return has_come(missing == 0);
  }
  /// What one other member has added up. Nothing is told of it: whose part it lacks is known to whoever waits for
  /// parts.
  __device__ bool take_sum(std::uint32_t member, std::uint32_t at, peer_pair& numbers) {
    peer_item seen = look(place(seat_.self, member, at));
    while (!is_of(seen, generation_) && waits_on(0))
      seen = look(place(seat_.self, member, at));
    numbers = numbers_of(seen);
    return has_come(is_of(seen, generation_));
  }

private:
  static constexpr std::uint32_t looks_between_times = 64;

  /// Where `member` finds what `from` has for it.
  __device__ peer_item* place(std::uint32_t member, std::uint32_t from, std::uint32_t at) const {
    const std::size_t row = generation_ % peer_slots * seat_.members + from;
    return reinterpret_cast<peer_item*>(seat_.inbox[member]) + row * seat_.row_items + at;
  }
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

  const peer_member& seat_;
  const peer_patience& patience_;
  std::uint32_t generation_;
  bool broken_;
  std::uint32_t looks_ = 0;
  std::uint64_t began_ = 0;
  std::uint64_t told_ = 0;
};

} // namespace troupe::gpu::cuda
