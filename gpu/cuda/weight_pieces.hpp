#pragma once

#include "gpu/cuda/pack.hpp"
#include "gpu/cuda/peer_sums.hpp"
#include "gpu/cuda/weight_stream.hpp"

/// How a product of few rows is cut into tiles and pieces, and how the pieces come into shared memory; what they are
/// for is told in weight_stream.cu. Included by .cu files alone.
namespace troupe::gpu::cuda::weights {

inline constexpr int warps = 8;
inline constexpr int threads = 32 * warps;
inline constexpr int tile = 8;   ///< rows of the weight in one operand
inline constexpr int piece = 64; ///< columns that a warp sends for at a time
inline constexpr int halves = 2; ///< of a piece: 32 columns are two products of operands
inline constexpr int shared_bytes_of_multiprocessor = 228 << 10;
inline constexpr int shared_bytes_of_nobody = 1 << 10; ///< that go with a block

struct task {
  const bf16* weight = nullptr;
  std::int64_t weight_stride = 0;
  int outputs = 0; ///< columns of out
  int tiles = 0;   ///< of them, dealt out to the blocks
  int depth = 0;
  int rows = 0; ///< of x
  rows_of<const bf16> x = {};
  const float* hidden = nullptr;
  const float* norm = nullptr;
  float epsilon = 0.0F;
  const void* bias = nullptr;
  rows_of<float> out_f32 = {};
  rows_of<bf16> out_bf16 = {}; ///< one of the two
  product_end end = product_end::store;
  peer_call peers = {}; ///< of no members: none
};

/// How a block comes by x: one row in shared memory, as it is or normed, or several rows with the pieces.
enum class x_from : std::uint8_t { row, normed_row, long_normed_row, pieces };

/// How a product is cut. Operands: of 8 rows of the weight, in a tile. Eights: of rows of x, in a piece; without any
/// the one row of x lies behind the rings. Exchanged: with peers, at the end of a tile.
template <int Operands, int Eights, x_from From, bool Paired, bool Exchanged>
struct cut {
  static constexpr int operands = Operands;
  static constexpr int eights = Eights;
  static constexpr x_from from = From;
  static constexpr bool paired = Paired;
  static constexpr bool exchanged = Exchanged;
  static constexpr bool normed = From == x_from::normed_row || From == x_from::long_normed_row;
  /// Whether the attention comes next, of which a block is to fit beside three of these.
  static constexpr bool before_attention = normed && !Paired;
  /// Pieces that a ring holds: so many that two or three blocks fit on a multiprocessor (measured: more in fewer blocks
  /// and fewer in more are slower).
  static constexpr int ring = Eights == 0 ? (before_attention ? 3 : 4) : Operands == 2 ? 3 : 2;
  /// Of them, those that are sent for behind x: what is in front of it in the queues is waited for.
  static constexpr int behind_x = normed ? 1 : 0;
  static constexpr int blocks = Operands == 2 && From != x_from::long_normed_row ? 3 : 2; ///< on a multiprocessor
  static constexpr int blocks_by_registers = blocks + (before_attention ? 1 : 0);
};

/// Where the parts of a block's shared memory begin, in bytes.
struct shared_plan {
  int x = 0, sums = 0, end = 0;
};
template <class Cut>
__host__ __device__ constexpr shared_plan plan_shared(int depth, int rows) {
  shared_plan plan;
  plan.x = warps * Cut::ring * (Cut::operands + Cut::eights) * tile * piece * 2;
  plan.sums = plan.x + (Cut::eights == 0 ? (depth * 2 + 15) / 16 * 16 : 0);
  plan.end = plan.sums + warps * Cut::operands * tile * rows * 4;
  return plan;
}

/// The first output of one of a tile's operands. Of a pair of operands the first has rows of the lower half of the
/// weight and the second those of the upper half, for the same outputs.
template <class Cut>
__device__ __forceinline__ int output_of(int number, int operand) {
  return Cut::paired ? (number * (Cut::operands / 2) + operand / 2) * tile : (number * Cut::operands + operand) * tile;
}

/// A warp's pieces of the weight, one after another along its rows and from tile to tile, and with them those of x
/// where there are several rows of it.
template <class Cut>
class piece_ring {
  static constexpr int ring = Cut::ring;
  static constexpr int piece_rows = (Cut::operands + Cut::eights) * tile;
  static constexpr int rows_at_once = 4; ///< 8 lanes bring 128 bytes of a row
  static constexpr int of_weight = Cut::operands * tile / rows_at_once;
  static constexpr int fetches = piece_rows / rows_at_once;

  const task& what_;
  bf16* memory_;
  const bf16* from_[fetches]; ///< this lane's part of the next piece; null for what is behind the last row
  int number_;                ///< of the next piece: its tile
  int column_;                ///< and this lane's column
  int sent_ = 0;              ///< place of the next piece to be sent for
  int used_ = 0;

public:
  __device__ piece_ring(const task& what, bf16* memory) : what_(what), memory_(memory) {
    aim(static_cast<int>(blockIdx.x));
  }
  static __device__ int first_column() { return static_cast<int>(threadIdx.x) / 32 * piece; }

  /// Sends for the first pieces of the weight, `count` more of a ring.
  __device__ __forceinline__ void fill(int count) {
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      fetch_part<0, of_weight>();
      if constexpr (Cut::eights == 0)
        commit();
    }
  }
  /// Sends for x of the same, once it is there.
  __device__ __forceinline__ void fill_x() {
    if constexpr (Cut::eights > 0) {
      aim(static_cast<int>(blockIdx.x));
#pragma unroll 1
      for (int i = 0; i < ring; ++i) {
        fetch_part<of_weight, fetches>();
        commit();
      }
    }
  }
  /// Sends for the next piece; nothing comes of one behind the last.
  __device__ __forceinline__ void send() {
    fetch_part<0, fetches>();
    commit();
  }
  /// Until the next piece to be used has come; then it is this.
  __device__ __forceinline__ const bf16* receive() {
    asm volatile("cp.async.wait_group %0;" ::"n"(ring - 1) : "memory");
    __syncwarp();
    const bf16* const come = memory_ + used_ * (piece_rows * piece);
    used_ = used_ + 1 == ring ? 0 : used_ + 1;
    return come;
  }
  /// Where the 16 bytes of a row stand: those of neighbouring rows in different banks.
  static __device__ __forceinline__ int place_of(int row, int part) {
    return part ^ (row % 2 * 4);
  }

private:
  /// Of the 16 bytes of a piece's row, this lane's.
  static __device__ __forceinline__ int part() {
    return threadIdx.x % 8;
  }
  static __device__ __forceinline__ void commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

  /// At the first piece of a tile.
  __device__ __forceinline__ void aim(int number) {
    number_ = number;
    column_ = first_column() + part() * 8;
    if (number >= what_.tiles)
      return;
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < fetches; ++i) {
      const int row = i * rows_at_once + lane / 8;
      if (i < of_weight) {
        const int output = output_of<Cut>(number, row / tile) + row % tile;
        const int upper = Cut::paired && row / tile % 2 == 1 ? what_.outputs : 0;
        from_[i] = output < what_.outputs ? what_.weight + (output + upper) * what_.weight_stride + column_ : nullptr;
      } else {
        const int of_x = row - Cut::operands * tile;
        from_[i] = of_x < what_.rows ? what_.x[of_x] + column_ : nullptr;
      }
    }
  }

  template <int First, int Last>
  __device__ __forceinline__ void fetch_part() {
    if (column_ - part() * 8 >= what_.depth) // the same for the whole warp
      aim(number_ + static_cast<int>(gridDim.x));
    if (number_ < what_.tiles && column_ < what_.depth) {
      bf16* const to = memory_ + sent_ * (piece_rows * piece);
#pragma unroll
      for (int i = First; i < Last; ++i) {
        const int row = i * rows_at_once + static_cast<int>(threadIdx.x) % 32 / 8;
        if (from_[i])
          asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(static_cast<unsigned>(
                           __cvta_generic_to_shared(to + row * piece + place_of(row, part()) * 8))),
                       "l"(from_[i])
                       : "memory");
      }
    }
    column_ += warps * piece;
#pragma unroll
    for (int i = 0; i < fetches; ++i)
      from_[i] += from_[i] ? warps * piece : 0;
    sent_ = sent_ + 1 == ring ? 0 : sent_ + 1;
  }
};

} // namespace troupe::gpu::cuda::weights
