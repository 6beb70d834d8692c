#pragma once

#include "gpu/cuda/peer_exchange.hpp"
#include "gpu/cuda/weight_pieces.hpp"

/// What becomes of a tile of a product of few rows once the block's warps have their sums. `part(operand, row, place,
/// output)` is what they make together of one place in the block's tile, bias included. Included by .cu files alone.
namespace troupe::gpu::cuda::weights {

/// What a block has summed becomes the sum of all members' and goes on top of what is there: each sends its part to the
/// others, and all add up the same numbers in the same order. A warp's lanes are dealt out to the members, so that all
/// parts are looked for at once.
template <class Cut, class Part>
__device__ __forceinline__ void add_of_members(const task& what, const peer_turn& turn, const Part& part) {
  const peer_member& seat = what.peers.seat;
  peer_exchange with{seat, what.peers.patience, turn};
  const int pairs = Cut::operands * tile / 2 * what.rows;
  const int at_once = seat.members <= 2 ? 16 : seat.members <= 4 ? 8 : 4;
  const int in_turn = static_cast<int>(threadIdx.x) % 32 % at_once;
  const auto member = threadIdx.x % 32U / static_cast<unsigned>(at_once);
  const bool of_other = member < seat.members && member != seat.self;
  const auto over_pairs = [&](auto body) {
    for (int first = static_cast<int>(threadIdx.x) / 32 * at_once; first < pairs; first += warps * at_once) {
      const int i = min(first + in_turn, pairs - 1) * 2;
      const int row = i / tile % what.rows;
      const int operand = i / tile / what.rows;
      const int output = output_of<Cut>(static_cast<int>(blockIdx.x), operand) + i % tile;
      const peer_pair mine{part(operand, row, i % tile, output), part(operand, row, i % tile + 1, output + 1)};
      body(row, output, first + in_turn < pairs && output < what.outputs, mine);
    }
  };
  const auto place_of = [&](int row, int output) { return static_cast<unsigned>(row * what.outputs + output) / 2; };
  over_pairs([&](int row, int output, bool there, peer_pair mine) {
    if (there && of_other)
      with.send(member, place_of(row, output), mine);
  });
  if (threadIdx.x == threads - 1) // of the warp that has the least to wait for
    with.count_on();
  with.wipe_after_wrap();
  bool well = !with.broken();
  over_pairs([&](int row, int output, bool there, peer_pair mine) {
    if (!well)
      return;
    auto* const to = reinterpret_cast<float2*>(what.out_f32[row] + output);
    const bool adds = there && member == 0;
    const float2 before = adds ? __ldcg(to) : float2{};
    well = with.take_by_lanes(there && of_other, member, place_of(row, output), mine);
    float2 sum{};
    for (int each = 0; each < static_cast<int>(seat.members); ++each) {
      const float x = __shfl_sync(0xffff'ffffU, mine.x, each * at_once + in_turn);
      const float y = __shfl_sync(0xffff'ffffU, mine.y, each * at_once + in_turn);
      sum = each == 0 ? float2{x, y} : float2{sum.x + x, sum.y + y};
    }
    if (well && adds)
      *to = {before.x + sum.x, before.y + sum.y};
  });
}

/// What a block has summed for a tile, as the product's end says.
template <class Cut, class Part>
__device__ __forceinline__ void end_tile(const task& what, int number, const Part& part) {
  constexpr int at_once = Cut::paired ? Cut::operands / 2 : Cut::operands;
  for (int i = threadIdx.x; i < at_once * tile * what.rows; i += threads) {
    const int row = i / tile % what.rows;
    const int of_tile = i / tile / what.rows;
    const int output = output_of<Cut>(number, Cut::paired ? 2 * of_tile : of_tile) + i % tile;
    if (output >= what.outputs)
      continue;
    const auto whole = [&](int operand, int of_bias) { return part(operand, row, i % tile, of_bias); };
    if constexpr (Cut::paired) {
      // As it is when gate and up are stored in between.
      const auto gate = static_cast<float>(static_cast<bf16>(whole(2 * of_tile, output)));
      const auto up = static_cast<float>(static_cast<bf16>(whole(2 * of_tile + 1, output + what.outputs)));
      what.out_bf16[row][output] = static_cast<bf16>(gate / (1.0F + expf(-gate)) * up);
    } else {
      const float value = whole(of_tile, output);
      if (what.out_bf16.data)
        what.out_bf16[row][output] = static_cast<bf16>(value);
      else if (what.end == product_end::add)
        atomicAdd(what.out_f32[row] + output, value); // nobody else's: so that nobody waits for what is there
      else
        what.out_f32[row][output] = value;
    }
  }
}

} // namespace troupe::gpu::cuda::weights
