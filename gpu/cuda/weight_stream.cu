#include "gpu/cuda/weight_stream.hpp"

#include "gpu/cuda/dependent.hpp"
#include "gpu/cuda/pack.hpp"
#include "gpu/cuda/peer_exchange.hpp"
#include "gpu/cuda/tensor_cores.hpp"

// Products of up to 16 rows, whose time is the reading of the weight. A block makes a few outputs, and each of its
// warps has its own columns of the weight's rows for them. A warp sends for 64 columns of these rows at a time, and for
// the next before it uses what has come, in a ring of its own in shared memory: warps wait for each other only when
// their sums are joined. Several blocks fit on a multiprocessor, and blocks of the next product take the places of
// those that have ended: they fill their rings while others still compute, so that the memory never waits for a kernel
// to begin or to end. Few large blocks would do with less, but then one multiprocessor that is given two is waited for
// by all. Products are made on the tensor cores. Which element of a row stands where in an operand is free as long as
// both operands agree, so operands are read 16 bytes at a time and nothing is shuffled.

namespace troupe::gpu::cuda {

namespace {

constexpr int warps = 8;
constexpr int threads = 32 * warps;
constexpr int tile = 8;   ///< rows of the weight in one operand
constexpr int piece = 64; ///< columns that a warp sends for at a time
constexpr int halves = 2; ///< of a piece: 32 columns are two products of operands
constexpr int normal_depth = 4096;
constexpr int deepest_normed = 6144; ///< of what a block norms; a thread has its part in registers

struct task {
  const bf16* weight = nullptr;
  std::int64_t weight_stride = 0;
  int outputs = 0; ///< columns of out
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

/// Pieces that a ring holds, by the tiles of the weight and of x in a piece: so many that two or three blocks fit
/// on a multiprocessor (measured: more in fewer blocks and fewer in more are slower).
template <int Tiles, int Halves>
constexpr int ring_of = Halves == 0  ? 4
                        : Tiles == 2 ? 3
                                     : 2;

/// Where the parts of a block's shared memory begin, in bytes.
struct shared_plan {
  int x = 0, sums = 0, end = 0;
};
/// Tiles, Halves: of a piece; without any of x in it, its one row lies behind the rings.
template <int Tiles, int Halves>
__host__ __device__ constexpr shared_plan plan_shared(int depth, int rows) {
  shared_plan plan;
  plan.x = warps * ring_of<Tiles, Halves> * (Tiles + Halves) * tile * piece * 2;
  plan.sums = plan.x + (Halves == 0 ? (depth * 2 + 15) / 16 * 16 : 0);
  plan.end = plan.sums + warps * Tiles * tile * rows * 4;
  return plan;
}

/// The first output of one of this block's tiles. Of a pair of tiles the first has rows of the lower half of the weight
/// and the second those of the upper half, for the same outputs.
template <int Tiles, bool Paired>
__device__ __forceinline__ int output_of(int of_tile) {
  return Paired ? (static_cast<int>(blockIdx.x) * (Tiles / 2) + of_tile / 2) * tile
                : (static_cast<int>(blockIdx.x) * Tiles + of_tile) * tile;
}

/// A warp's pieces of the weight, one after another along its rows, and with them those of x (Halves: of 8 rows each,
/// where there are several rows of x).
template <int Tiles, int Halves, bool Paired>
class piece_ring {
  static constexpr int ring = ring_of<Tiles, Halves>;
  static constexpr int piece_elements = (Tiles + Halves) * tile * piece;
  static constexpr int rows_at_once = 4; ///< 8 lanes bring 128 bytes of a row
  static constexpr int of_weight = Tiles * tile / rows_at_once;
  static constexpr int fetches = (Tiles + Halves) * tile / rows_at_once;

  int depth_;
  bf16* memory_;
  const bf16* from_[fetches]; ///< this lane's part of the next piece; null for what is behind the last row
  int column_;                ///< of that part
  int sent_ = 0;              ///< place of the next piece to be sent for
  int used_ = 0;

public:
  /// Sends for the first pieces of the weight.
  __device__ piece_ring(const task& what, bf16* memory)
      : depth_(what.depth), memory_(memory), column_(first_column() + part() * 8) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < fetches; ++i) {
      const int row = i * rows_at_once + lane / 8;
      if (i < of_weight) {
        const int output = output_of<Tiles, Paired>(row / tile) + row % tile;
        const int upper = Paired && row / tile % 2 == 1 ? what.outputs : 0;
        from_[i] = output < what.outputs ? what.weight + (output + upper) * what.weight_stride + column_ : nullptr;
      } else {
        const int of_x = row - Tiles * tile;
        from_[i] = of_x < what.rows ? what.x[of_x] + column_ : nullptr;
      }
    }
#pragma unroll
    for (int i = 0; i < ring; ++i) {
      fetch_part<0, of_weight>(i, i * warps * piece);
      if constexpr (Halves == 0)
        commit();
    }
  }
  static __device__ int first_column() {
    return static_cast<int>(threadIdx.x) / 32 * piece;
  }

  /// Once x is there.
  __device__ __forceinline__ void send_for_x() {
    if constexpr (Halves > 0) {
#pragma unroll
      for (int i = 0; i < ring; ++i) {
        fetch_part<of_weight, fetches>(i, i * warps * piece);
        commit();
      }
    }
#pragma unroll
    for (int i = 0; i < fetches; ++i)
      from_[i] += from_[i] ? ring * warps * piece : 0;
    column_ += ring * warps * piece;
  }
  /// Sends for the next piece; nothing comes of one behind the last.
  __device__ __forceinline__ void send() {
    fetch_part<0, fetches>(sent_, 0);
    commit();
#pragma unroll
    for (int i = 0; i < fetches; ++i)
      from_[i] += from_[i] ? warps * piece : 0;
    column_ += warps * piece;
    sent_ = sent_ + 1 == ring ? 0 : sent_ + 1;
  }
  /// Until the next piece to be used has come; then it is this.
  __device__ __forceinline__ const bf16* receive() {
    asm volatile("cp.async.wait_group %0;" ::"n"(ring - 1) : "memory");
    __syncwarp();
    const bf16* const come = memory_ + used_ * piece_elements;
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

  template <int First, int Last>
  __device__ __forceinline__ void fetch_part(int place, int columns_on) {
    if (column_ + columns_on >= depth_)
      return;
    bf16* const to = memory_ + place * piece_elements;
#pragma unroll
    for (int i = First; i < Last; ++i) {
      const int row = i * rows_at_once + static_cast<int>(threadIdx.x) % 32 / 8;
      if (from_[i])
        asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(
                         static_cast<unsigned>(__cvta_generic_to_shared(to + row * piece + place_of(row, part()) * 8))),
                     "l"(from_[i] + columns_on)
                     : "memory");
    }
  }
};

__device__ __forceinline__ float sum_of_block(float value, float* const of_warp) {
  value = sum_lanes(value);
  if (threadIdx.x % 32 == 0)
    of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  value = 0.0F;
#pragma unroll
  for (int i = 0; i < warps; ++i)
    value += of_warp[i];
  return value;
}

/// The one row of x, normed by the whole block. Packs: most of 4 floats of a thread.
template <int Packs>
class normed_row {
  float4 scale_[Packs];

  static __device__ __forceinline__ int column_of(int pack) {
    return (pack * threads + static_cast<int>(threadIdx.x)) * 4;
  }

public:
  /// What is there before the row is.
  __device__ __forceinline__ explicit normed_row(const task& what) {
#pragma unroll
    for (int i = 0; i < Packs; ++i)
      if (column_of(i) < what.depth)
        scale_[i] = __ldg(reinterpret_cast<const float4*>(what.norm + column_of(i)));
  }
  __device__ __forceinline__ void write(const task& what, bf16* const to, float* const sums) const {
    float4 x[Packs];
#pragma unroll
    for (int i = 0; i < Packs; ++i)
      if (column_of(i) < what.depth)
        x[i] = __ldcg(reinterpret_cast<const float4*>(what.hidden + column_of(i)));
    float squares = 0.0F;
#pragma unroll
    for (int i = 0; i < Packs; ++i)
      if (column_of(i) < what.depth)
        squares += x[i].x * x[i].x + x[i].y * x[i].y + x[i].z * x[i].z + x[i].w * x[i].w;
    const float factor = 1.0F / sqrtf(sum_of_block(squares, sums) / static_cast<float>(what.depth) + what.epsilon);
#pragma unroll
    for (int i = 0; i < Packs; ++i)
      if (column_of(i) < what.depth)
        store<4>(to + column_of(i), {x[i].x * (factor * scale_[i].x), x[i].y * (factor * scale_[i].y),
                                     x[i].z * (factor * scale_[i].z), x[i].w * (factor * scale_[i].w)});
  }
};

/// How a block comes by x: one row in shared memory, as it is or normed, or several rows with the pieces.
enum class x_from : std::uint8_t { row, normed_row, long_normed_row, pieces };

/// What a block has summed becomes the sum of all members' and goes on top of what is there: each sends its part to the
/// others, and all add up the same numbers in the same order. `part(output, row, place)`: of a place in a tile. A
/// warp's lanes are dealt out to the members, so that all parts are looked for at once.
template <int Tiles, class Part>
__device__ __forceinline__ void add_of_members(const task& what, const peer_turn& turn, const Part& part) {
  const peer_seat& seat = what.peers.seat;
  peer_exchange with{seat, what.peers.patience, turn};
  const int pairs = Tiles * tile / 2 * what.rows;
  const int at_once = seat.members <= 2 ? 16 : seat.members <= 4 ? 8 : 4;
  const int in_turn = static_cast<int>(threadIdx.x) % 32 % at_once;
  const auto member = threadIdx.x % 32U / static_cast<unsigned>(at_once);
  const bool of_other = member < seat.members && member != seat.self;
  const auto over_pairs = [&](auto body) {
    for (int first = static_cast<int>(threadIdx.x) / 32 * at_once; first < pairs; first += warps * at_once) {
      const int i = min(first + in_turn, pairs - 1) * 2;
      const int row = i / tile % what.rows;
      const int number = i / tile / what.rows;
      const int output = output_of<Tiles, false>(number) + i % tile;
      const peer_pair mine{part(number, row, i % tile, output), part(number, row, i % tile + 1, output + 1)};
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

template <int Tiles, int Halves, x_from From, bool Paired>
__global__ void __launch_bounds__(threads, 2) multiply_streamed(const __grid_constant__ task what) {
  constexpr int at_once = Paired ? Tiles / 2 : Tiles;
  constexpr int results = Halves == 0 ? 1 : Halves; ///< of 8 rows of x
  using pieces = piece_ring<Tiles, Halves, Paired>;
  extern __shared__ __align__(128) unsigned char raw[];
  const shared_plan plan = plan_shared<Tiles, Halves>(what.depth, what.rows);
  auto* const row_of_x = reinterpret_cast<bf16*>(raw + plan.x);
  auto* const sums = reinterpret_cast<float*>(raw + plan.sums);
  const int warp = threadIdx.x / 32;
  let_next_kernel_begin();
  pieces ring{what, reinterpret_cast<bf16*>(raw + warp * (plan.x / warps))};
  if constexpr (From == x_from::row) {
    await_kernels_before();
#pragma unroll 4
    for (int column = threadIdx.x * 8; column < what.depth; column += threads * 8)
      *reinterpret_cast<uint4*>(row_of_x + column) = __ldcg(reinterpret_cast<const uint4*>(what.x[0] + column));
  } else if constexpr (From == x_from::pieces) {
    await_kernels_before();
  } else {
    const normed_row<(From == x_from::normed_row ? normal_depth : deepest_normed) / (4 * threads)> x{what};
    await_kernels_before();
    x.write(what, row_of_x, sums);
  }
  constexpr bool may_exchange = !Paired && (From == x_from::row || From == x_from::pieces);
  peer_turn turn;
  if (may_exchange && what.peers.seat.members > 0)
    turn = peer_turn{what.peers.seat};
  ring.send_for_x();
  if constexpr (Halves == 0)
    __syncthreads();
  const int lane = threadIdx.x % 32;
  const int high = lane / 4; // of an operand: the row
  const int low = lane % 4;  // and the columns

  float sum[Tiles][4] = {};
  for (int column = pieces::first_column(); column < what.depth; column += warps * piece) {
    const bf16* const rows = ring.receive();
#pragma unroll
    for (int s = 0; s < halves; ++s) {
      if (column + s * 32 >= what.depth) // the same for the whole warp
        continue;
      const int place = pieces::place_of(high, s * 4 + low);
      const auto read = [&](int of_tile) {
        return *reinterpret_cast<const uint4*>(rows + (of_tile * tile + high) * piece + place * 8);
      };
      uint4 a{};
      uint4 b{};
      if constexpr (Halves == 0) {
        if (high == 0)
          a = *reinterpret_cast<const uint4*>(row_of_x + column + s * 32 + low * 8);
      } else {
        if (high < what.rows)
          a = read(Tiles);
        if (Halves == 2 && high + 8 < what.rows)
          b = read(Tiles + Halves - 1);
      }
#pragma unroll
      for (int i = 0; i < Tiles; ++i) {
        const uint4 weight = read(i);
        multiply(sum[i], {a.x, b.x, a.y, b.y}, weight.x, weight.y);
        multiply(sum[i], {a.z, b.z, a.w, b.w}, weight.z, weight.w);
      }
    }
    __syncwarp(); // the piece is used
    ring.send();
  }

  // Each warp has the sums of its columns: [warp][tile][row of x][row of weight].
  const int of_warp = Tiles * tile * what.rows;
#pragma unroll
  for (int i = 0; i < Tiles; ++i)
#pragma unroll
    for (int h = 0; h < results; ++h)
      if (high + h * 8 < what.rows)
        *reinterpret_cast<float2*>(sums + warp * of_warp + (i * what.rows + high + h * 8) * tile + low * 2) =
            float2{sum[i][2 * h], sum[i][2 * h + 1]};
  __syncthreads();
  const auto part = [&](int of_tile, int row, int place, int of_bias) {
    float total = 0.0F;
#pragma unroll
    for (int w = 0; w < warps; ++w)
      total += sums[w * of_warp + (of_tile * what.rows + row) * tile + place];
    if (what.bias)
      total += what.out_bf16.data ? static_cast<float>(static_cast<const bf16*>(what.bias)[of_bias])
                                  : static_cast<const float*>(what.bias)[of_bias];
    return total;
  };
  if constexpr (may_exchange)
    if (what.peers.seat.members > 0)
      return add_of_members<Tiles>(what, turn, part);
  for (int i = threadIdx.x; i < at_once * tile * what.rows; i += threads) {
    const int row = i / tile % what.rows;
    const int number = i / tile / what.rows;
    const int output = output_of<Tiles, Paired>(Paired ? 2 * number : number) + i % tile;
    if (output >= what.outputs)
      continue;
    const auto whole = [&](int of_tile, int of_bias) { return part(of_tile, row, i % tile, of_bias); };
    if constexpr (Paired) {
      // As it is when gate and up are stored in between.
      const auto gate = static_cast<float>(static_cast<bf16>(whole(2 * number, output)));
      const auto up = static_cast<float>(static_cast<bf16>(whole(2 * number + 1, output + what.outputs)));
      what.out_bf16[row][output] = static_cast<bf16>(gate / (1.0F + expf(-gate)) * up);
    } else {
      const float value = whole(number, output);
      if (what.out_bf16.data)
        what.out_bf16[row][output] = static_cast<bf16>(value);
      else if (what.end == product_end::add)
        what.out_f32[row][output] = __ldcg(what.out_f32[row] + output) + value;
      else
        what.out_f32[row][output] = value;
    }
  }
}

/// A compiled form of the kernel, and how it is launched for a task.
struct form {
  void (*kernel)(task) = nullptr;
  unsigned blocks = 0;
  int shared_bytes = 0;

  cudaError_t prepare() const {
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
  }
};

template <int Tiles, int Halves, x_from From, bool Paired>
form form_of(const task& what) {
  return {.kernel = multiply_streamed<Tiles, Halves, From, Paired>,
          .blocks = static_cast<unsigned>(ceil_div(what.outputs, (Paired ? Tiles / 2 : Tiles) * tile)),
          .shared_bytes = plan_shared<Tiles, Halves>(what.depth, what.rows).end};
}

template <bool Paired>
form form_for(const task& what) {
  if (what.norm && what.depth <= normal_depth)
    return form_of<2, 0, x_from::normed_row, Paired>(what);
  if (what.norm)
    return form_of<2, 0, x_from::long_normed_row, Paired>(what);
  if (what.rows == 1)
    return form_of<2, 0, x_from::row, Paired>(what);
  if (what.rows <= 8)
    return form_of<2, 1, x_from::pieces, Paired>(what);
  return form_of<4, 2, x_from::pieces, Paired>(what);
}

task task_of(const few_rows_product& product) {
  const tensor_view& x = product.normed ? product.normed->x : product.x;
  task what{.weight = static_cast<const bf16*>(product.weight.data()),
            .weight_stride = product.weight.stride(0),
            .outputs = width_of(product.out),
            .depth = width_of(product.weight),
            .rows = static_cast<int>(x.shape(0)),
            .bias = product.bias.data(),
            .end = product.end};
  if (product.out.element() == element_kind::bf16)
    what.out_bf16 = rows_in<bf16>(product.out);
  else
    what.out_f32 = rows_in<float>(product.out);
  if (product.normed) {
    what.hidden = x.f32();
    what.norm = product.normed->weight.f32();
    what.epsilon = product.normed->epsilon;
  } else {
    what.x = rows_in<const bf16>(x);
  }
  if (product.peers)
    what.peers = *product.peers;
  return what;
}

} // namespace

bool fits_weight_stream(const tensor_view& x, const tensor_view& weight, const tensor_view& out) {
  return weight.element() == element_kind::bf16 && x.shape(0) <= 16 && width_of(weight) % 32 == 0 &&
         packs_fit(8, weight) && (x.element() != element_kind::bf16 || packs_fit(8, x)) && out.rank() == 2;
}

bool fits_normed(const tensor_view& x) {
  return x.shape(0) == 1 && x.element() == element_kind::f32 && width_of(x) <= deepest_normed && packs_fit(4, x);
}

bool fits_peers(const few_rows_product& product, int multiprocessors) {
  if (product.normed || !packs_fit(2, product.out))
    return false;
  const form as = form_for<false>(task_of(product));
  int on_each = 0;
  const bool known = as.prepare() == cudaSuccess &&
                     cudaOccupancyMaxActiveBlocksPerMultiprocessor(
                         &on_each, as.kernel, threads, static_cast<std::size_t>(as.shared_bytes)) == cudaSuccess;
  return known && as.blocks <= static_cast<unsigned>(on_each * multiprocessors);
}

cudaError_t stream_weights(cudaStream_t on, const few_rows_product& product) {
  TROUPE_ASSERT("matmul", product.end != product_end::add || product.out.element() == element_kind::f32);
  TROUPE_ASSERT("matmul", product.end != product_end::silu_mul || product.out.element() == element_kind::bf16);
  TROUPE_ASSERT("matmul", !product.peers || product.end == product_end::add);
  const task what = task_of(product);
  const form as = product.end == product_end::silu_mul ? form_for<true>(what) : form_for<false>(what);
  if (const cudaError_t error = as.prepare(); error != cudaSuccess)
    return error;
  const auto bytes = static_cast<std::size_t>(as.shared_bytes);
  if (product.early)
    return launch_early(on, as.blocks, threads, bytes, as.kernel, what);
  as.kernel<<<as.blocks, threads, bytes, on>>>(what);
  return cudaSuccess;
}

} // namespace troupe::gpu::cuda
