#include "gpu/cuda/weight_stream.hpp"

#include "gpu/cuda/dependent.hpp"
#include "gpu/cuda/tensor_cores.hpp"
#include "gpu/cuda/tile_ends.hpp"
#include "gpu/cuda/weight_pieces.hpp"

// Products of up to 16 rows, whose time is the reading of the weight. A block makes one tile of a few outputs after
// another, and each of its warps has its own columns of the weight's rows for them. A warp sends for 64 columns of
// these rows at a time, and for the next before it uses what has come, in a ring of its own in shared memory that never
// runs dry between two tiles: warps wait for each other only when their sums are joined. Several blocks fit on a
// multiprocessor, and blocks of the next product take the places of those that have ended: they fill their rings while
// others still compute, so that the memory never waits for a kernel to begin or to end. Few large blocks would do with
// less, but then one multiprocessor that is given two is waited for by all. Products are made on the tensor cores.
// Which element of a row stands where in an operand is free as long as both operands agree, so operands are read 16
// bytes at a time and nothing is shuffled.

namespace troupe::gpu::cuda {

namespace {

using namespace weights;

constexpr int normal_depth = 4096;
constexpr int deepest_normed = 6144; ///< of what a block norms; a thread has its part in registers

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
  float4 x_[Packs];

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
  __device__ __forceinline__ void read(const task& what) {
#pragma unroll
    for (int i = 0; i < Packs; ++i)
      if (column_of(i) < what.depth)
        x_[i] = __ldcg(reinterpret_cast<const float4*>(what.hidden + column_of(i)));
  }
  __device__ __forceinline__ void write(const task& what, bf16* const to, float* const sums) const {
    float squares = 0.0F;
#pragma unroll
    for (int i = 0; i < Packs; ++i)
      if (column_of(i) < what.depth)
        squares += x_[i].x * x_[i].x + x_[i].y * x_[i].y + x_[i].z * x_[i].z + x_[i].w * x_[i].w;
    const float factor = 1.0F / sqrtf(sum_of_block(squares, sums) / static_cast<float>(what.depth) + what.epsilon);
#pragma unroll
    for (int i = 0; i < Packs; ++i)
      if (column_of(i) < what.depth)
        store<4>(to + column_of(i), {x_[i].x * (factor * scale_[i].x), x_[i].y * (factor * scale_[i].y),
                                     x_[i].z * (factor * scale_[i].z), x_[i].w * (factor * scale_[i].w)});
  }
};

/// The one row of x as it is, into shared memory. All that a thread has of it comes at once.
__device__ __forceinline__ void copy_row(const bf16* from, int depth, bf16* to) {
  constexpr int packs = 8;
  for (int first = threadIdx.x * 8; first < depth; first += packs * threads * 8) {
    uint4 part[packs];
#pragma unroll
    for (int i = 0; i < packs; ++i)
      if (first + i * threads * 8 < depth)
        part[i] = __ldcg(reinterpret_cast<const uint4*>(from + first + i * threads * 8));
#pragma unroll
    for (int i = 0; i < packs; ++i)
      if (first + i * threads * 8 < depth)
        *reinterpret_cast<uint4*>(to + first + i * threads * 8) = part[i];
  }
}

template <class Cut>
__global__ void __launch_bounds__(threads, Cut::blocks_by_registers)
    multiply_streamed(const __grid_constant__ task what) {
  constexpr int results = Cut::eights == 0 ? 1 : Cut::eights; ///< of 8 rows of x
  using pieces = piece_ring<Cut>;
  extern __shared__ __align__(128) unsigned char raw[];
  const shared_plan plan = plan_shared<Cut>(what.depth, what.rows);
  auto* const row_of_x = reinterpret_cast<bf16*>(raw + plan.x);
  auto* const sums = reinterpret_cast<float*>(raw + plan.sums);
  const int warp = threadIdx.x / 32;
  let_next_kernel_begin();
  pieces ring{what, reinterpret_cast<bf16*>(raw + warp * (plan.x / warps))};
  const auto await_x = [&] {
    ring.fill(Cut::ring - Cut::behind_x);
    await_kernels_before();
  };
  if constexpr (Cut::normed) {
    normed_row<(Cut::from == x_from::normed_row ? normal_depth : deepest_normed) / (4 * threads)> x{what};
    await_x();
    x.read(what);
    ring.fill(Cut::behind_x);
    x.write(what, row_of_x, sums);
  } else {
    await_x();
    if constexpr (Cut::from == x_from::row)
      copy_row(what.x[0], what.depth, row_of_x);
    else
      ring.fill_x();
  }
  peer_turn turn;
  if constexpr (Cut::exchanged)
    turn = peer_turn{what.peers.seat};
  __syncthreads();
  const int lane = threadIdx.x % 32;
  const int high = lane / 4; // of an operand: the row
  const int low = lane % 4;  // and the columns

  for (int number = blockIdx.x; number < what.tiles; number += gridDim.x) {
    float sum[Cut::operands][4] = {};
    for (int column = pieces::first_column(); column < what.depth; column += warps * piece) {
      const bf16* const rows = ring.receive();
#pragma unroll
      for (int s = 0; s < halves; ++s) {
        if (column + s * 32 >= what.depth) // the same for the whole warp
          continue;
        const int part = pieces::place_of(high, s * 4 + low);
        const auto read = [&](int of_tile) {
          return *reinterpret_cast<const uint4*>(rows + (of_tile * tile + high) * piece + part * 8);
        };
        uint4 a{};
        uint4 b{};
        if constexpr (Cut::eights == 0) {
          if (high == 0)
            a = *reinterpret_cast<const uint4*>(row_of_x + column + s * 32 + low * 8);
        } else {
          if (high < what.rows)
            a = read(Cut::operands);
          if (Cut::eights == 2 && high + 8 < what.rows)
            b = read(Cut::operands + Cut::eights - 1);
        }
#pragma unroll
        for (int i = 0; i < Cut::operands; ++i) {
          const uint4 weight = read(i);
          multiply(sum[i], {a.x, b.x, a.y, b.y}, weight.x, weight.y);
          multiply(sum[i], {a.z, b.z, a.w, b.w}, weight.z, weight.w);
        }
      }
      __syncwarp(); // the piece is used
      ring.send();
    }

    // Each warp has the sums of its columns: [warp][operand][row of x][row of weight].
    const int of_warp = Cut::operands * tile * what.rows;
    if (number != static_cast<int>(blockIdx.x))
      __syncthreads(); // those of the tile before are joined
#pragma unroll
    for (int i = 0; i < Cut::operands; ++i)
#pragma unroll
      for (int h = 0; h < results; ++h)
        if (high + h * 8 < what.rows)
          *reinterpret_cast<float2*>(sums + warp * of_warp + (i * what.rows + high + h * 8) * tile + low * 2) =
              float2{sum[i][2 * h], sum[i][2 * h + 1]};
    __syncthreads();
    const auto part = [&](int operand, int row, int place, int of_bias) {
      float total = 0.0F;
#pragma unroll
      for (int w = 0; w < warps; ++w)
        total += sums[w * of_warp + (operand * what.rows + row) * tile + place];
      if (what.bias)
        total += what.out_bf16.data ? static_cast<float>(static_cast<const bf16*>(what.bias)[of_bias])
                                    : static_cast<const float*>(what.bias)[of_bias];
      return total;
    };
    if constexpr (Cut::exchanged)
      add_of_members<Cut>(what, turn, part); // of the only tile
    else
      end_tile<Cut>(what, number, part);
  }
}

/// A compiled form of the kernel, and how it is launched for a task.
template <class Cut>
struct form {
  static constexpr auto kernel = multiply_streamed<Cut>;
  int shared_bytes;
  int tiles;
  int blocks_max; ///< on the GPU at once

  form(const task& what, int multiprocessors)
      : shared_bytes(plan_shared<Cut>(what.depth, what.rows).end),
        tiles(ceil_div(what.outputs, (Cut::paired ? Cut::operands / 2 : Cut::operands) * tile)),
        blocks_max(
            multiprocessors *
            std::clamp(shared_bytes_of_multiprocessor / (shared_bytes + shared_bytes_of_nobody), 1, Cut::blocks)) {}

  cudaError_t prepare() const {
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
  }
};

/// Calls `body` with the cut that suits a task.
template <class Body>
auto with_cut(const task& what, const Body& body) {
  const auto among = [&](auto paired, auto exchanged) {
    constexpr bool pairs = decltype(paired)::value;
    constexpr bool peers = decltype(exchanged)::value;
    if constexpr (!peers) {
      if (what.norm && what.depth <= normal_depth)
        return body(cut<2, 0, x_from::normed_row, pairs, peers>{});
      if (what.norm)
        return body(cut<2, 0, x_from::long_normed_row, pairs, peers>{});
    }
    if (what.rows == 1)
      return body(cut<2, 0, x_from::row, pairs, peers>{});
    if (what.rows <= 8) // taller ones read x half as often
      return body(cut<(pairs ? 4 : 2), 1, x_from::pieces, pairs, peers>{});
    return body(cut<4, 2, x_from::pieces, pairs, peers>{});
  };
  if (what.end == product_end::silu_mul)
    return among(std::true_type{}, std::false_type{});
  return what.peers.seat.members > 0 ? among(std::false_type{}, std::true_type{})
                                     : among(std::false_type{}, std::false_type{});
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
  const task what = task_of(product);
  return with_cut(what, [&]<class Cut>(Cut) {
    const form<Cut> as{what, multiprocessors};
    int on_each = 0;
    const bool known = as.prepare() == cudaSuccess &&
                       cudaOccupancyMaxActiveBlocksPerMultiprocessor(
                           &on_each, as.kernel, threads, static_cast<std::size_t>(as.shared_bytes)) == cudaSuccess;
    return known && as.tiles <= std::min(as.blocks_max, on_each * multiprocessors);
  });
}

cudaError_t stream_weights(cudaStream_t on, const few_rows_product& product, int multiprocessors) {
  TROUPE_ASSERT("matmul", product.end != product_end::add || product.out.element() == element_kind::f32);
  TROUPE_ASSERT("matmul", product.end != product_end::silu_mul || product.out.element() == element_kind::bf16);
  TROUPE_ASSERT("matmul", !product.peers || product.end == product_end::add);
  task what = task_of(product);
  return with_cut(what, [&]<class Cut>(Cut) {
    const form<Cut> as{what, multiprocessors};
    if (const cudaError_t error = as.prepare(); error != cudaSuccess)
      return error;
    what.tiles = as.tiles;
    const auto blocks = static_cast<unsigned>(std::min(as.tiles, as.blocks_max));
    const auto bytes = static_cast<std::size_t>(as.shared_bytes);
    if constexpr (Cut::eights == 0)
      return launch_beside(on, {1, 1, 1}, blocks, threads, bytes, as.kernel, what);
    else
      return launch_early(on, blocks, threads, bytes, as.kernel, what);
  });
}

} // namespace troupe::gpu::cuda
