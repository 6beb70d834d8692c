#include "gpu/cuda/new_token.hpp"

// A decode step's attention in one kernel: heads are normed and turned, keys and values stored, contexts attended to,
// split over blocks, and joined. The older keys are asked for before the kernels before this one have ended. How many
// of the splits a sequence uses is decided by its context on the device: a captured launch serves every length.

namespace troupe::gpu::cuda {

namespace {

constexpr int threads = 32 * split_warps;
constexpr int pages_least = split_warps; ///< of a split: one for each warp
constexpr int splits_most = 32;

struct task : step_task {
  partial_view partial;
  std::uint32_t* joins = nullptr; ///< [rows, kv_heads]: splits that are done
};

/// The splits of a context that are used, and the pages of each.
struct split_shape {
  int pages = 0; ///< that hold older keys
  int each = 1;
  int used = 1;

  __device__ split_shape(int context, int block_shift, int splits) {
    pages = (context + (1 << block_shift) - 1) >> block_shift;
    each = max(pages_least, (pages + splits - 1) / splits);
    used = max(1, (pages + each - 1) / each);
  }
};

/// The splits of one sequence and group of heads into the answer. `shares` is of the block.
__device__ __forceinline__ void join_splits(const task& of, int row, int first_head, int heads, int used,
                                            float (&shares)[group_most][splits_most]) {
  const int lane = threadIdx.x % 32;
  for (int head = threadIdx.x / 32; head < heads; head += split_warps) {
    const float* const from = of.partial.at(row, first_head + head, min(lane, used - 1));
    const float own = __ldcg(from);
    float total = __ldcg(from + 1);
    float top = own;
#pragma unroll
    for (int step = 16; step > 0; step /= 2)
      top = fmaxf(top, __shfl_xor_sync(0xffff'ffffU, top, step));
    const float share = lane < used ? power_of_two(own - top) : 0.0F;
    total = sum_lanes(share * total);
    shares[head][lane] = share / total;
  }
  __syncthreads();
  const int pairs = of.width / 2;
  for (int at = threadIdx.x; at < heads * pairs; at += threads) {
    const int head = at / pairs;
    const int column = at % pairs * 2;
    const float* const from = of.partial.at(row, first_head + head, 0) + 2 + column;
    float sum[2] = {};
    for (int first = 0; first < used; first += 8) {
      float2 part[8];
#pragma unroll
      for (int i = 0; i < 8; ++i)
        part[i] =
            first + i < used ? __ldcg(reinterpret_cast<const float2*>(from + (first + i) * (of.width + 2))) : float2{};
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float share = first + i < used ? shares[head][first + i] : 0.0F;
        sum[0] += share * part[i].x;
        sum[1] += share * part[i].y;
      }
    }
    store<2>(of.out[row * of.heads + first_head + head] + column, sum);
  }
}

/// D: elements of a head, rounded up to 32; what is beyond `width` is zero. Blocks are [row, kv head, split].
template <int D>
__global__ void __launch_bounds__(threads, 4) attend_step(const task of) {
  using tile = key_tile<D>;
  let_next_kernel_begin();
  const int row = blockIdx.x;
  const int kv_head = blockIdx.y;
  const int split = blockIdx.z;
  const int context = of.contexts[row];
  const split_shape shape{max(context, 0), of.pool.block_shift, of.partial.splits};
  if (context < 0 || split >= shape.used) {
    if (split == 0)
      await_kernels_before();
    return;
  }
  const int group = of.heads / of.kv_heads;
  const int first_head = kv_head * group;
  const int warp = threadIdx.x / 32;
  const bool has_new = split == shape.used - 1;

  // A piece is 16 keys of a page.
  const int page_end = min((split + 1) * shape.each, shape.pages);
  const std::int32_t* const blocks = of.blocks[row];
  int page = split * shape.each + warp;
  int first = 0;
  tile keys;
  const auto read = [&] {
    const bf16* const run = of.pool.keys(blocks[page], kv_head) + first * of.width;
    keys.read(run, run + of.pool.values, context - (page << of.pool.block_shift) - first, of.width,
              [](const bf16* at) { return __ldcs(reinterpret_cast<const uint4*>(at)); });
  };
  if (page < page_end)
    read();
  const new_token<D> token{of, row};
  await_kernels_before();
  __shared__ settled_heads<D> settled;
  token.settle(kv_head, has_new, settled);
  uint4 query[tile::key_parts];
  settled.read(group, of.width, query);

  const float scale = of.scale * log2_e;
  running_sums<D> sums;
  while (page < page_end) {
    const int valid = context - (page << of.pool.block_shift) - first;
    sums.add(keys, query, valid, scale);
    if (first + keys_at_once < min(of.pool.block_tokens(), valid + first)) {
      first += keys_at_once;
    } else {
      first = 0;
      page += split_warps;
    }
    if (page < page_end)
      read();
  }
  if (has_new && warp == split_warps - 1) {
    keys.read(settled.key, settled.value, 1, of.width,
              [](const bf16* at) { return *reinterpret_cast<const uint4*>(at); });
    sums.add(keys, query, 1, scale);
  }

  __shared__ __align__(8) typename running_sums<D>::of_heads found[split_warps];
  sums.write(found[warp], group, scale);
  __syncthreads();
  partial_view partial = of.partial;
  if (shape.used == 1)
    partial.splits = 1; // then it is the answer
  conclude(found, group, of.width, partial, row, first_head, of.out, row * of.heads + first_head);
  if (shape.used == 1)
    return;

  // The last of the splits to come joins them.
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    std::uint32_t* const done = of.joins + row * of.kv_heads + kv_head;
    last = atomicAdd(done, 1) == static_cast<unsigned>(shape.used - 1);
    if (last)
      *done = 0;
  }
  __syncthreads();
  if (!last)
    return;
  __threadfence();
  __shared__ float shares[group_most][splits_most];
  join_splits(of, row, first_head, group, shape.used, shares);
}

} // namespace

bool fits_step_attention(const new_heads& heads, const tensor_view& pool, const tensor_view& out) {
  return heads.joined.element() == element_kind::bf16 && out.shape(1) / pool.shape(1) <= group_most &&
         out.shape(2) % 8 == 0 && out.shape(2) <= 128 && packs_fit(8, pool) && packs_fit(8, heads.joined);
}

step_splits plan_step_splits(const tensor_view& pool, const tensor_view& out, int multiprocessors) {
  constexpr int blocks_per_multiprocessor = 4;
  const auto blocks = static_cast<int>(out.shape(0) * pool.shape(1));
  const int splits = std::clamp(multiprocessors * blocks_per_multiprocessor / blocks, 1, splits_most);
  return {splits, static_cast<std::size_t>(out.shape(0) * out.shape(1) * splits * (out.shape(2) + 2)) * sizeof(float),
          static_cast<std::size_t>(blocks)};
}

cudaError_t attend_new_tokens(cudaStream_t on, const new_heads& heads, const tensor_view& pool,
                              const paged_tokens& where, float scale, const step_splits& plan, void* scratch,
                              std::uint32_t* joins, const tensor_view& out) {
  const task of{step_task_of(heads, pool, where, scale, out),
                {static_cast<float*>(scratch), plan.splits, static_cast<int>(out.shape(1)), width_of(out)},
                joins};
  const dim3 blocks{static_cast<unsigned>(out.shape(0)), static_cast<unsigned>(pool.shape(1)),
                    static_cast<unsigned>(plan.splits)};
  return with_head_elements(
      of.width, [&](auto elements) { return launch_early(on, blocks, threads, 0, attend_step<elements()>, of); });
}

} // namespace troupe::gpu::cuda
