#include "gpu/cuda/query_tiles.hpp"

// Many queries a sequence: a block holds a tile of queries of one head and goes over the keys a tile at a time, keeping
// a running softmax (FlashAttention's way). Here everything is computed in f32 on the plain units, so that f32 stays
// f32; bf16 goes to the tensor cores (attention_bf16.cu) unless its rows are not aligned for them.

namespace troupe::gpu::cuda {

namespace {

constexpr int tile = 64; // queries, and keys at a time
constexpr int side = 16; // threads along queries and along keys: each has 4 x 4 scores
constexpr int threads = side * side;
constexpr int per_thread = tile / side;

/// D: elements of a head, rounded up to what is compiled; the rest is zero.
template <int D>
struct shared_tiles {
  static constexpr int row = D + 4; // rows begin in different banks, and stay aligned to 16 bytes
  float queries[tile][row];
  float keys[tile][row]; ///< then the values
  float weights[tile][tile + 4];
};

/// Fills a tile; `row(r)` is where row r lies, or null.
template <int N, int D, class Row>
__device__ __forceinline__ void fill(float (&to)[tile][shared_tiles<D>::row], int width, Row row) {
  constexpr int packs = D / N;
  for (int at = threadIdx.x; at < tile * packs; at += threads) {
    const int r = at / packs;
    const int column = at % packs * N;
    const auto* const from = row(r);
    float x[N] = {};
    if (from && column < width)
      load<N>(from + column, x);
    store<N>(&to[r][column], x);
  }
}

template <int N, int D, class T, class Keys>
__global__ void __launch_bounds__(threads, 2)
    attend(rows_of<const T> q, int heads, int width, Keys keys, float scale, rows_of<T> out) {
  extern __shared__ float4 raw[];
  auto& shared = *reinterpret_cast<shared_tiles<D>*>(raw);
  const query_tile of = keys.queries(blockIdx.x, tile);
  if (of.rows <= 0)
    return;
  const int query_head = blockIdx.y;
  const int head = keys.head_of(query_head);
  const int across = threadIdx.x % side;
  const int down = threadIdx.x / side * per_thread;

  fill<N, D>(shared.queries, width,
             [&](int r) { return r < of.rows ? q[(of.first + r) * heads + query_head] : nullptr; });
  float top[per_thread];
  float total[per_thread];
  float sum[per_thread][D / side];
#pragma unroll
  for (int r = 0; r < per_thread; ++r) {
    top[r] = lowest;
    total[r] = 0.0F;
#pragma unroll
    for (int c = 0; c < D / side; ++c)
      sum[r][c] = 0.0F;
  }

  for (int first = 0; first < of.keys; first += tile) {
    __syncthreads();
    fill<N, D>(shared.keys, width, [&](int r) { return first + r < of.keys ? keys.key(head, first + r) : nullptr; });
    __syncthreads();

    float score[per_thread][per_thread] = {};
#pragma unroll 4
    for (int i = 0; i < D; i += 4) {
      float4 a[per_thread];
      float4 b[per_thread];
#pragma unroll
      for (int r = 0; r < per_thread; ++r) {
        a[r] = *reinterpret_cast<const float4*>(&shared.queries[down + r][i]);
        b[r] = *reinterpret_cast<const float4*>(&shared.keys[across + r * side][i]);
      }
#pragma unroll
      for (int r = 0; r < per_thread; ++r)
#pragma unroll
        for (int c = 0; c < per_thread; ++c)
          score[r][c] += a[r].x * b[c].x + a[r].y * b[c].y + a[r].z * b[c].z + a[r].w * b[c].w;
    }
    __syncthreads(); // the keys make room for the values
    fill<N, D>(shared.keys, width, [&](int r) { return first + r < of.keys ? keys.value(head, first + r) : nullptr; });

#pragma unroll
    for (int r = 0; r < per_thread; ++r) {
      const int seen = min(of.keys, of.context + down + r + 1);
      float highest = top[r];
#pragma unroll
      for (int c = 0; c < per_thread; ++c) {
        score[r][c] = first + across + c * side < seen ? score[r][c] * (scale * log2_e) : -INFINITY;
        highest = fmaxf(highest, score[r][c]);
      }
#pragma unroll
      for (int step = side / 2; step > 0; step /= 2)
        highest = fmaxf(highest, __shfl_xor_sync(0xffff'ffffU, highest, step));
      const float shrink = power_of_two(top[r] - highest);
      top[r] = highest;
      float weights = 0.0F;
#pragma unroll
      for (int c = 0; c < per_thread; ++c) {
        const float weight = power_of_two(score[r][c] - highest);
        weights += weight;
        shared.weights[down + r][across + c * side] = weight;
      }
      total[r] = total[r] * shrink + sum_lanes<side>(weights);
#pragma unroll
      for (int c = 0; c < D / side; ++c)
        sum[r][c] *= shrink;
    }
    __syncthreads();

#pragma unroll 2
    for (int j = 0; j < tile; j += 4) {
      float4 weight[per_thread];
#pragma unroll
      for (int r = 0; r < per_thread; ++r)
        weight[r] = *reinterpret_cast<const float4*>(&shared.weights[down + r][j]);
#pragma unroll
      for (int c = 0; c < D / side; ++c) {
        const int column = across + c * side;
        const float x = shared.keys[j][column];
        const float y = shared.keys[j + 1][column];
        const float z = shared.keys[j + 2][column];
        const float w = shared.keys[j + 3][column];
#pragma unroll
        for (int r = 0; r < per_thread; ++r)
          sum[r][c] += weight[r].x * x + weight[r].y * y + weight[r].z * z + weight[r].w * w;
      }
    }
  }

#pragma unroll
  for (int r = 0; r < per_thread; ++r) {
    if (down + r >= of.rows)
      continue;
    T* const to = out[(of.first + down + r) * heads + query_head];
#pragma unroll
    for (int c = 0; c < D / side; ++c)
      if (across + c * side < width)
        to[across + c * side] = static_cast<T>(sum[r][c] / total[r]);
  }
}

template <int N, int D, class T, class Keys>
cudaError_t launch(cudaStream_t on, int tiles, const tensor_view& q, const Keys& keys, float scale,
                   const tensor_view& out) {
  const auto kernel = attend<N, D, T, Keys>;
  constexpr int bytes = sizeof(shared_tiles<D>);
  if (const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
      error != cudaSuccess)
    return error;
  const dim3 grid{static_cast<unsigned>(tiles), static_cast<unsigned>(q.shape(1))};
  kernel<<<grid, threads, bytes, on>>>(rows_in<const T>(q), static_cast<int>(q.shape(1)), width_of(q), keys, scale,
                                       rows_in<T>(out));
  return cudaSuccess;
}

/// Chooses the head size that is compiled; `others`: what is read N elements at a time beside q.
template <class T, class Keys, class... Others>
cudaError_t attend_with(cudaStream_t on, int tiles, const tensor_view& q, const Keys& keys, float scale,
                        const tensor_view& out, const Others&... others) {
  return with_packs<T>(
      [&](auto packed) {
        const int width = width_of(q);
        if (width <= 32)
          return launch<packed(), 32, T>(on, tiles, q, keys, scale, out);
        if (width <= 64)
          return launch<packed(), 64, T>(on, tiles, q, keys, scale, out);
        return launch<packed(), 128, T>(on, tiles, q, keys, scale, out);
      },
      q, others...);
}

} // namespace

cudaError_t attend_tiles(cudaStream_t on, const tensor_view& q, const tensor_view& k, const tensor_view& v, float scale,
                         const tensor_view& out) {
  if (count_rows(q) == 0)
    return cudaSuccess;
  return with_type(q.element(), [&](auto kind) {
    using type = typename decltype(kind)::type;
    if constexpr (std::is_same_v<type, bf16>)
      if (packs_fit(8, q, k, v, out))
        return attend_bf16(on, q, k, v, scale, out);
    const strided_keys<type> keys{rows_in<const type>(k), rows_in<const type>(v), static_cast<int>(k.shape(0))};
    return attend_with<type>(on, ceil_div(q.shape(0), tile), q, keys, scale, out, k, v);
  });
}

cudaError_t attend_paged_tiles(cudaStream_t on, const tensor_view& q, const tensor_view& pool, const page_tables& where,
                               float scale, const tensor_view& out) {
  // As many tiles as there can be; which sequences they are of is known to the device alone.
  const int tiles = ceil_div(q.shape(0), tile) + where.sequences;
  return with_type(q.element(), [&](auto kind) {
    using type = typename decltype(kind)::type;
    const paged_keys<type> keys{pool_in<const type>(pool), where, static_cast<int>(q.shape(1) / pool.shape(1)),
                                width_of(q)};
    if constexpr (std::is_same_v<type, bf16>)
      if (packs_fit(8, q, pool, out))
        return attend_bf16(on, q, pool, keys, scale, out);
    return attend_with<type>(on, tiles, q, keys, scale, out, pool);
  });
}

} // namespace troupe::gpu::cuda
