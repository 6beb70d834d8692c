#include "gpu/cuda/bulk_copies.hpp"
#include "gpu/cuda/dependent.hpp"
#include "gpu/cuda/query_tiles.hpp"
#include "gpu/cuda/tensor_cores.hpp"

// Attention of many queries on the tensor cores: bf16 operands, f32 sums and softmax. One warp of a block has the copy
// engine bring keys and values two tiles ahead; two groups of four warps have 64 queries each and compute. Of a group,
// the scores of a tile are multiplied together with the weights and values of the tile before, so that the tensor cores
// have work while the softmax is taken, and the two groups take turns at them (FlashAttention 3's way).
// The limit is the tensor cores': 4 x queries x keys x elements operations, of which half are seen by causal attention.
// Bytes bound nothing: a block reads a key and its value once for 128 queries.

namespace troupe::gpu::cuda {

namespace {

constexpr int group_threads = 128;
constexpr int groups = 2; // that compute
constexpr int threads = group_threads * (groups + 1);
constexpr int group_rows = 64;
constexpr int query_rows = groups * group_rows;
constexpr int key_rows = 128;
constexpr int stages = 2;
// Of a multiprocessor's 65,536 registers: what bringing takes, and what is left to those that compute.
constexpr int bringing_registers = 24;
constexpr int computing_registers = 240;

/// Barriers of threads, by number; 0 is the whole block's.
enum named_barrier : int { turn_of_first = 1, turn_of_second = 2, cleared = 3 };
__device__ __forceinline__ void await_threads(int barrier) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "n"(groups * group_threads) : "memory");
}
__device__ __forceinline__ void release_threads(int barrier) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "n"(groups * group_threads) : "memory");
}

/// D: elements of a head, rounded up to what is compiled; the rest is zero.
template <int D>
struct shared_tiles {
  static constexpr int parts = (D + swizzled_elements - 1) / swizzled_elements; // of a head's elements
  using part = bf16[key_rows][swizzled_elements];
  static_assert(query_rows == key_rows);
  static constexpr int part_bytes = sizeof(part);

  part queries[parts];
  part keys[stages][parts];
  part values[stages][parts];
  bulk_barrier queries_come, keys_come[stages], keys_used[stages], values_come[stages], values_used[stages];
};

struct sources {
  CUtensorMap queries, keys, values;
  int piece_rows = key_rows; ///< keys that lie together, and come in one copy
};

template <int D, class Keys>
__device__ void bring_tiles(shared_tiles<D>& shared, const sources& from, const Keys& keys, const query_tile& of,
                            int query_head) {
  using tiles = shared_tiles<D>;
  const int lane = threadIdx.x % 32;
  const int head = keys.head_of(query_head);
  if (lane == 0) {
    shared.queries_come.arrive_announcing(tiles::parts * tiles::part_bytes);
    for (int part = 0; part < tiles::parts; ++part)
      copy_tile(shared.queries[part], from.queries, part * swizzled_elements, of.first, query_head, 0,
                shared.queries_come);
  }
  // A lane brings one piece of one part; pieces beyond the last key are the last one again.
  const int piece = lane / tiles::parts * from.piece_rows;
  const int part = lane % tiles::parts;
  const int last = (of.keys - 1) / from.piece_rows * from.piece_rows;
  int stage = 0;
  int parity = 1;
  for (int first = 0; first < of.keys; first += key_rows) {
    const key_place at = keys.place_of(min(first + piece, last));
    const auto bring = [&](const CUtensorMap& map, auto& to, bulk_barrier& come, bulk_barrier& used) {
      used.await(parity);
      if (lane == 0)
        come.arrive_announcing(tiles::parts * tiles::part_bytes);
      __syncwarp();
      if (piece < key_rows)
        copy_tile(to[part][piece], map, part * swizzled_elements, at.row, head, at.block, come);
    };
    bring(from.keys, shared.keys[stage], shared.keys_come[stage], shared.keys_used[stage]);
    bring(from.values, shared.values[stage], shared.values_come[stage], shared.values_used[stage]);
    stage = (stage + 1) % stages;
    parity ^= stage == 0;
  }
}

/// What a thread has of its group's 64 queries: rows lane / 4 and lane / 4 + 8 of its warp's, and two columns of every
/// eight.
template <int D>
class group_of_queries {
  using tiles = shared_tiles<D>;
  tiles& shared_;
  const query_tile& of_;
  const int group_ = static_cast<int>(threadIdx.x) / group_threads - 1;
  const int row_ = static_cast<int>(threadIdx.x) % group_threads / 32 * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
  const int column_ = static_cast<int>(threadIdx.x) % 4 * 2;
  float scale_;
  float score_[key_rows / 2];
  unsigned weight_[key_rows / 16][4];
  float sum_[D / 2] = {};
  float top_[2] = {lowest, lowest};
  float total_[2] = {};
  float shrink_[2] = {};

public:
  __device__ __forceinline__ group_of_queries(tiles& shared, const query_tile& of, float scale)
      : shared_(shared), of_(of), scale_(scale * log2_e) {}

  __device__ __forceinline__ void attend() {
    const int count = (of_.keys + key_rows - 1) / key_rows;
    if (group_ == 1)
      pass_turn();
    shared_.queries_come.await(0);
    begin_scores(0);
    pass_turn();
    await_products<0>();
    use_scores(0);
    weigh();
    for (int tile = 1; tile < count; ++tile) {
      begin_scores(tile);
      begin_sums(tile - 1);
      pass_turn();
      await_products<1>();
      use_scores(tile);
      await_products<0>();
      end_sums(tile - 1);
      weigh();
    }
    clear_unseen(count - 1);
    begin_sums(count - 1);
    await_products<0>();
    pin(sum_);
  }

  __device__ __forceinline__ void write(const rows_of<bf16>& out, int heads, int query_head, int width) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float share = 1.0F / sum_lanes<4>(total_[r]);
      const int row = group_ * group_rows + row_ + r * 8;
      if (row >= of_.rows)
        continue;
      bf16* const to = out[(of_.first + row) * heads + query_head] + column_;
#pragma unroll
      for (int j = 0; j < D / 8; ++j)
        if (j * 8 < width)
          *reinterpret_cast<unsigned*>(to + j * 8) =
              join_pair(sum_[j * 4 + 2 * r] * share, sum_[j * 4 + 2 * r + 1] * share);
    }
  }

private:
  /// The groups begin their products by turns, so that one takes its softmax while the other multiplies.
  __device__ __forceinline__ void await_turn() {
    await_threads(turn_of_first + group_);
  }
  __device__ __forceinline__ void pass_turn() {
    release_threads(turn_of_second - group_);
  }

  __device__ __forceinline__ void begin_scores(int tile) {
    const int stage = tile % stages;
    shared_.keys_come[stage].await(tile / stages % 2);
    await_turn();
    open_products();
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      const int part = step / 4;
      const int column = step % 4 * 16;
      multiply_rows(score_, matrix_at(&shared_.queries[part][group_ * group_rows][column], 16),
                    matrix_at(&shared_.keys[stage][part][0][column], 16), step > 0);
    }
    close_products();
  }
  __device__ __forceinline__ void begin_sums(int tile) {
    const int stage = tile % stages;
    shared_.values_come[stage].await(tile / stages % 2);
    open_products();
#pragma unroll
    for (int step = 0; step < key_rows / 16; ++step)
      multiply_columns<D>(sum_, weight_[step], matrix_at(&shared_.values[stage][0][step * 16][0], tiles::part_bytes));
    close_products();
  }
  /// Scores become weights relative to the largest so far, by which the sums are yet to be shrunk.
  __device__ __forceinline__ void use_scores(int tile) {
    pin(score_);
    release(shared_.keys_used[tile % stages]);
    const int first = tile * key_rows;
    const int seen_least = of_.context + group_ * group_rows + 1;
    const bool masked = first + key_rows > min(of_.keys, seen_least);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (masked) {
        const int seen = min(of_.keys, seen_least + row_ + r * 8) - first - column_;
#pragma unroll
        for (int j = 0; j < key_rows / 8; ++j)
#pragma unroll
          for (int c = 0; c < 2; ++c)
            if (j * 8 + c >= seen)
              score_[j * 4 + 2 * r + c] = -INFINITY;
      }
      float highest = top_[r];
#pragma unroll
      for (int j = 0; j < key_rows / 8; ++j)
        highest = fmaxf(highest, fmaxf(score_[j * 4 + 2 * r], score_[j * 4 + 2 * r + 1]));
      highest = fmaxf(highest, __shfl_xor_sync(0xffff'ffffU, highest, 1));
      highest = fmaxf(highest, __shfl_xor_sync(0xffff'ffffU, highest, 2));
      const float base = highest * scale_;
      shrink_[r] = power_of_two(top_[r] * scale_ - base);
      top_[r] = highest;
      total_[r] *= shrink_[r];
#pragma unroll
      for (int j = 0; j < key_rows / 8; ++j)
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float& each = score_[j * 4 + 2 * r + c];
          each = power_of_two(each * scale_ - base);
          total_[r] += each;
        }
    }
  }
  __device__ __forceinline__ void end_sums(int tile) {
    pin(sum_);
    release(shared_.values_used[tile % stages]);
#pragma unroll
    for (int j = 0; j < D / 8; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        sum_[j * 4 + i] *= shrink_[i / 2];
  }
  /// The weights as the operand of the sums' products.
  __device__ __forceinline__ void weigh() {
#pragma unroll
    for (int step = 0; step < key_rows / 16; ++step)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        weight_[step][i] = join_pair(score_[step * 8 + i * 2], score_[step * 8 + i * 2 + 1]);
  }
  /// A tile's values beyond the last key are whatever lies there, and a weight of 0 does not undo what is no number.
  __device__ __forceinline__ void clear_unseen(int tile) {
    const int stage = tile % stages;
    const int valid = of_.keys - tile * key_rows;
    if (valid >= key_rows)
      return;
    shared_.values_come[stage].await(tile / stages % 2);
    constexpr int packs = swizzled_elements / 8;
    for (int at = static_cast<int>(threadIdx.x) - group_threads; at < (key_rows - valid) * packs;
         at += groups * group_threads)
#pragma unroll
      for (int part = 0; part < tiles::parts; ++part)
        *reinterpret_cast<uint4*>(&shared_.values[stage][part][valid + at / packs][at % packs * 8]) = {};
    publish_to_products();
    await_threads(cleared);
  }
  __device__ __forceinline__ void release(bulk_barrier& used) {
    if (threadIdx.x % 32 == 0)
      used.arrive();
  }
};

template <int D, class Keys>
__global__ void __launch_bounds__(threads, 1)
    attend(const __grid_constant__ sources from, Keys keys, int width, float scale, rows_of<bf16> out) {
  await_kernels_before();
  extern __shared__ __align__(1024) unsigned char raw[];
  auto& shared = *reinterpret_cast<shared_tiles<D>*>(raw);
  // The last tiles see most keys: they begin first. Heads that share keys run side by side.
  const query_tile of = keys.queries(static_cast<int>(gridDim.y - 1 - blockIdx.y), query_rows);
  const int query_head = blockIdx.x;
  if (of.rows <= 0)
    return;
  if (threadIdx.x == 0) {
    shared.queries_come.begin(1);
    for (int stage = 0; stage < stages; ++stage) {
      shared.keys_come[stage].begin(1);
      shared.values_come[stage].begin(1);
      shared.keys_used[stage].begin(groups * group_threads / 32);
      shared.values_used[stage].begin(groups * group_threads / 32);
    }
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x < group_threads) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(bringing_registers));
    if (threadIdx.x < 32)
      bring_tiles<D>(shared, from, keys, of, query_head);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(computing_registers));
    group_of_queries<D> mine{shared, of, scale};
    mine.attend();
    mine.write(out, static_cast<int>(gridDim.x), query_head, width);
  }
}

/// [tokens, heads, elements]
tiled_rows tiled_in(const tensor_view& view) {
  return {.data = view.data(),
          .width = view.shape(2),
          .rows = view.shape(0),
          .row_stride = view.stride(0),
          .heads = view.shape(1),
          .head_stride = view.stride(1)};
}

template <int D, class Keys>
cudaError_t launch(cudaStream_t on, int tiles, const sources& from, int heads, const Keys& keys, int width, float scale,
                   const tensor_view& out) {
  const auto kernel = attend<D, Keys>;
  constexpr int bytes = sizeof(shared_tiles<D>);
  if (const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
      error != cudaSuccess)
    return error;
  const dim3 grid{static_cast<unsigned>(heads), static_cast<unsigned>(tiles)};
  return launch_early(on, grid, threads, bytes, kernel, from, keys, width, scale, rows_in<bf16>(out));
}

/// Describes what `keys` finds, and chooses the head size that is compiled.
template <class Keys>
cudaError_t attend_from(cudaStream_t on, int tiles, const tensor_view& q, const tiled_rows& k, const tiled_rows& v,
                        int piece_rows, const Keys& keys, float scale, const tensor_view& out) {
  sources from;
  from.piece_rows = piece_rows;
  const int heads = static_cast<int>(q.shape(1));
  const int width = width_of(q);
  for (const auto& [rows, tile_rows, to] :
       {std::tuple{tiled_in(q), query_rows, &from.queries}, std::tuple{k, piece_rows, &from.keys},
        std::tuple{v, piece_rows, &from.values}})
    if (const cudaError_t error = describe_tiles(rows, tile_rows, *to); error != cudaSuccess)
      return error;
  if (width <= 64)
    return launch<64>(on, tiles, from, heads, keys, width, scale, out);
  if (width <= 80)
    return launch<80>(on, tiles, from, heads, keys, width, scale, out);
  return launch<128>(on, tiles, from, heads, keys, width, scale, out);
}

} // namespace

cudaError_t attend_bf16(cudaStream_t on, const tensor_view& q, const tensor_view& k, const tensor_view& v, float scale,
                        const tensor_view& out) {
  const strided_keys<bf16> keys{{}, {}, static_cast<int>(k.shape(0))};
  return attend_from(on, ceil_div(q.shape(0), query_rows), q, tiled_in(k), tiled_in(v), key_rows, keys, scale, out);
}

cudaError_t attend_bf16(cudaStream_t on, const tensor_view& q, const tensor_view& pool, const paged_keys<bf16>& keys,
                        float scale, const tensor_view& out) {
  tiled_rows k{.data = pool.data(),
               .width = pool.shape(4),
               .rows = pool.shape(3),
               .row_stride = pool.shape(4),
               .heads = pool.shape(1),
               .head_stride = pool.stride(1),
               .blocks = pool.shape(0),
               .block_stride = pool.stride(0)};
  tiled_rows v = k;
  v.data = keys.pool.data + keys.pool.values;
  return attend_from(on, ceil_div(q.shape(0), query_rows) + keys.where.sequences, q, k, v,
                     std::min(static_cast<int>(pool.shape(3)), key_rows), keys, scale, out);
}

} // namespace troupe::gpu::cuda
