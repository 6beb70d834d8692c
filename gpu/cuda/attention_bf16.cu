#include "gpu/cuda/query_tiles.hpp"
#include "gpu/cuda/tensor_cores.hpp"

// Attention of many queries on the tensor cores: bf16 operands, f32 sums and softmax. A warp has 32 queries of the
// block's tile, so that each key and value it reads from shared memory serves two products; keys and values come over a
// tile at a time, the values while the scores are computed, the next keys while the values are used.

namespace troupe::gpu::cuda {

namespace {

constexpr int warps = 4;
constexpr int threads = 32 * warps;
constexpr int halves = 2; // of a warp's queries, 16 each
constexpr int query_rows = 16 * halves * warps;
constexpr int key_rows = 64;

/// D: elements of a head, rounded up to what is compiled; the rest is zero.
template <int D>
struct shared_tiles {
  static constexpr int row = D + 8; // rows begin in different banks, and stay aligned to 16 bytes
  bf16 queries[query_rows][row];
  bf16 keys[key_rows][row];
  bf16 values[key_rows][row];
};

__device__ __forceinline__ unsigned shared_address(const void* at) {
  return static_cast<unsigned>(__cvta_generic_to_shared(at));
}
/// 16 bytes on their way to shared memory, or zeros.
__device__ __forceinline__ void fetch(bf16* to, const bf16* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(from ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void close_group() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Until everything has come, of this thread's.
__device__ __forceinline__ void await_groups() {
  asm volatile("cp.async.wait_group 0;" ::: "memory");
}

/// Four 8 x 8 matrices, of which this lane names one row of one.
__device__ __forceinline__ void load_matrices(unsigned (&to)[4], const bf16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void load_transposed(unsigned (&to)[4], const bf16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}
/// Sends for the rows of a tile; `row(r)` is where row r lies, or null.
template <int D, int Rows, class Row>
__device__ __forceinline__ void fetch_rows(bf16 (&to)[Rows][shared_tiles<D>::row], int width, Row row) {
  constexpr int packs = D / 8;
#pragma unroll
  for (int at = threadIdx.x; at < Rows * packs; at += threads) {
    const int r = at / packs;
    const int column = at % packs * 8;
    const bf16* const from = row(r);
    fetch(&to[r][column], from && column < width ? from + column : nullptr);
  }
}

template <int D, class Keys>
__global__ void __launch_bounds__(threads, 2)
    attend(rows_of<const bf16> q, int heads, int width, Keys keys, float scale, rows_of<bf16> out) {
  extern __shared__ float4 raw[];
  auto& shared = *reinterpret_cast<shared_tiles<D>*>(raw);
  // The last tiles see most keys: they begin first.
  const query_tile of = keys.queries(static_cast<int>(gridDim.x - 1 - blockIdx.x), query_rows);
  if (of.rows <= 0)
    return;
  const int query_head = blockIdx.y;
  const int head = keys.head_of(query_head);
  const int lane = threadIdx.x % 32;
  const int warp_row = threadIdx.x / 32 * 16 * halves;
  const auto fetch_keys = [&](int first) {
    fetch_rows<D>(shared.keys, width, [&](int r) { return first + r < of.keys ? keys.key(head, first + r) : nullptr; });
    close_group();
  };

  fetch_rows<D>(shared.queries, width,
                [&](int r) { return r < of.rows ? q[(of.first + r) * heads + query_head] : nullptr; });
  fetch_keys(0);
  await_groups();
  __syncthreads();
  // Scores stay as they are; `scale` makes them powers of two where they are used.
  scale *= log2_e;
  // Of this lane: rows lane / 4 and lane / 4 + 8 of each half, two columns of every eight.
  float sum[halves][D / 8][4] = {};
  float top[halves][2];
  float total[halves][2] = {};
#pragma unroll
  for (int h = 0; h < halves; ++h)
    top[h][0] = top[h][1] = lowest;
  for (int first = 0; first < of.keys; first += key_rows) {
    fetch_rows<D>(shared.values, width,
                  [&](int r) { return first + r < of.keys ? keys.value(head, first + r) : nullptr; });
    close_group();

    float score[halves][key_rows / 8][4] = {};
#pragma unroll
    for (int i = 0; i < D / 16; ++i) {
      unsigned query[halves][4];
#pragma unroll
      for (int h = 0; h < halves; ++h)
        load_matrices(query[h], &shared.queries[warp_row + h * 16 + lane % 16][i * 16 + lane / 16 * 8]);
#pragma unroll
      for (int j = 0; j < key_rows / 16; ++j) {
        unsigned key[4];
        load_matrices(key, &shared.keys[j * 16 + lane / 16 * 8 + lane % 8][i * 16 + lane / 8 % 2 * 8]);
#pragma unroll
        for (int h = 0; h < halves; ++h) {
          multiply(score[h][2 * j], query[h], key[0], key[1]);
          multiply(score[h][2 * j + 1], query[h], key[2], key[3]);
        }
      }
    }

    await_groups();
    __syncthreads(); // the values are there, and the keys are used
    if (first + key_rows < of.keys)
      fetch_keys(first + key_rows);

    const bool masked = first + key_rows > min(of.keys, of.context + 1);
#pragma unroll
    for (int h = 0; h < halves; ++h)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        if (masked) {
          const int seen = min(of.keys, of.context + warp_row + h * 16 + lane / 4 + r * 8 + 1);
#pragma unroll
          for (int j = 0; j < key_rows / 8; ++j)
#pragma unroll
            for (int c = 0; c < 2; ++c)
              if (first + j * 8 + lane % 4 * 2 + c >= seen)
                score[h][j][2 * r + c] = -INFINITY;
        }
        float highest = top[h][r];
#pragma unroll
        for (int j = 0; j < key_rows / 8; ++j)
          highest = fmaxf(highest, fmaxf(score[h][j][2 * r], score[h][j][2 * r + 1]));
        highest = fmaxf(highest, __shfl_xor_sync(0xffff'ffffU, highest, 1));
        highest = fmaxf(highest, __shfl_xor_sync(0xffff'ffffU, highest, 2));
        const float base = highest * scale;
        const float shrink = power_of_two(top[h][r] * scale - base);
        top[h][r] = highest;
        total[h][r] *= shrink;
#pragma unroll
        for (int j = 0; j < key_rows / 8; ++j)
#pragma unroll
          for (int c = 0; c < 2; ++c) {
            score[h][j][2 * r + c] = power_of_two(score[h][j][2 * r + c] * scale - base);
            total[h][r] += score[h][j][2 * r + c];
          }
#pragma unroll
        for (int j = 0; j < D / 8; ++j) {
          sum[h][j][2 * r] *= shrink;
          sum[h][j][2 * r + 1] *= shrink;
        }
      }

#pragma unroll
    for (int i = 0; i < key_rows / 16; ++i) {
      unsigned weight[halves][4];
#pragma unroll
      for (int h = 0; h < halves; ++h)
#pragma unroll
        for (int at = 0; at < 4; ++at)
          weight[h][at] = join_pair(score[h][2 * i + at / 2][at % 2 * 2], score[h][2 * i + at / 2][at % 2 * 2 + 1]);
#pragma unroll
      for (int j = 0; j < D / 16; ++j) {
        unsigned value[4];
        load_transposed(value, &shared.values[i * 16 + lane % 16][j * 16 + lane / 16 * 8]);
#pragma unroll
        for (int h = 0; h < halves; ++h) {
          multiply(sum[h][2 * j], weight[h], value[0], value[1]);
          multiply(sum[h][2 * j + 1], weight[h], value[2], value[3]);
        }
      }
    }
    await_groups();
    __syncthreads(); // the next keys are there, and the values are used
  }

#pragma unroll
  for (int h = 0; h < halves; ++h)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      total[h][r] += __shfl_xor_sync(0xffff'ffffU, total[h][r], 1);
      total[h][r] += __shfl_xor_sync(0xffff'ffffU, total[h][r], 2);
      const int row = warp_row + h * 16 + lane / 4 + r * 8;
      if (row >= of.rows)
        continue;
      bf16* const to = out[(of.first + row) * heads + query_head] + lane % 4 * 2;
      const float share = 1.0F / total[h][r];
#pragma unroll
      for (int j = 0; j < D / 8; ++j)
        if (j * 8 < width)
          *reinterpret_cast<unsigned*>(to + j * 8) = join_pair(sum[h][j][2 * r] * share, sum[h][j][2 * r + 1] * share);
    }
}

template <int D, class Keys>
cudaError_t launch(cudaStream_t on, int tiles, const tensor_view& q, const Keys& keys, float scale,
                   const tensor_view& out) {
  const auto kernel = attend<D, Keys>;
  constexpr int bytes = sizeof(shared_tiles<D>);
  if (const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
      error != cudaSuccess)
    return error;
  const dim3 grid{static_cast<unsigned>(tiles), static_cast<unsigned>(q.shape(1))};
  kernel<<<grid, threads, bytes, on>>>(rows_in<const bf16>(q), static_cast<int>(q.shape(1)), width_of(q), keys, scale,
                                       rows_in<bf16>(out));
  return cudaSuccess;
}

template <class Keys>
cudaError_t launch_for_width(cudaStream_t on, int tiles, const tensor_view& q, const Keys& keys, float scale,
                             const tensor_view& out) {
  const int width = width_of(q);
  if (width <= 32)
    return launch<32>(on, tiles, q, keys, scale, out);
  if (width <= 64)
    return launch<64>(on, tiles, q, keys, scale, out);
  if (width <= 80)
    return launch<80>(on, tiles, q, keys, scale, out);
  if (width <= 96)
    return launch<96>(on, tiles, q, keys, scale, out);
  return launch<128>(on, tiles, q, keys, scale, out);
}

} // namespace

cudaError_t attend_bf16(cudaStream_t on, const tensor_view& q, const strided_keys<bf16>& keys, float scale,
                        const tensor_view& out) {
  return launch_for_width(on, ceil_div(q.shape(0), query_rows), q, keys, scale, out);
}
cudaError_t attend_bf16(cudaStream_t on, const tensor_view& q, const paged_keys<bf16>& keys, float scale,
                        const tensor_view& out) {
  return launch_for_width(on, ceil_div(q.shape(0), query_rows) + keys.where.sequences, q, keys, scale, out);
}

} // namespace troupe::gpu::cuda
