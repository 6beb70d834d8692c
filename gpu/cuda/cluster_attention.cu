#include "gpu/cuda/clusters.hpp"
#include "gpu/cuda/new_token.hpp"

// A decode step's attention of so few rows that it takes what its chain of latencies does, not what its reading does:
// nothing in it goes by way of the global memory but the new token's heads and the answer. A context is split over the
// blocks of a cluster, which join what they found in their shared memory. Its keys are dealt out to warps 16 at a time,
// so a captured launch serves every length; the first two of a warp are asked for before the kernels before this one
// have ended, for which a block stands beside those of the product before it (weight_stream.cu leaves room for one).
// With more rows the blocks of a cluster wait for places beside each other, and decode_attention.cu is faster.

namespace troupe::gpu::cuda {

namespace {

constexpr int threads = 32 * split_warps;
constexpr int splits_least = 8;
constexpr int splits_most = 16; ///< blocks of a cluster

/// What `count` parts (of at most Most) found for two neighbours of a head, joined: x the largest score, y the sum of
/// the weights relative to it, then the two sums.
template <int Most, class Part>
__device__ __forceinline__ float4 join(int count, Part part_of) {
  float4 part[Most];
#pragma unroll
  for (int i = 0; i < Most; ++i)
    part[i] = part_of(min(i, count - 1));
  float4 whole{lowest, 0.0F, 0.0F, 0.0F};
#pragma unroll
  for (int i = 0; i < Most; ++i)
    whole.x = fmaxf(whole.x, part[i].x);
#pragma unroll
  for (int i = 0; i < Most; ++i) {
    const float share = i < count ? power_of_two(part[i].x - whole.x) : 0.0F;
    whole.y += share * part[i].y;
    whole.z += share * part[i].z;
    whole.w += share * part[i].w;
  }
  return whole;
}

/// D: elements of a head, rounded up to 32; what is beyond `width` is zero. Blocks are [row, kv head, split].
template <int D>
__global__ void __launch_bounds__(threads, 4) attend_split_context(const step_task of) {
  using tile = key_tile<D>;
  let_next_kernel_begin();
  const int row = blockIdx.x;
  const int kv_head = blockIdx.y;
  const int split = blockIdx.z;
  const int splits = gridDim.z;
  const int context = of.contexts[row];
  if (context < 0) { // the whole cluster
    await_kernels_before();
    return;
  }
  arrive_at_cluster();
  const int group = of.heads / of.kv_heads;
  const int first_head = kv_head * group;
  const int warp = threadIdx.x / 32;

  // A run is 16 keys of a page, and the new one stands in the last. A warp has one in registers and the next on its
  // way.
  const int last_run = context / keys_at_once;
  const int runs_at_once = splits * split_warps;
  const int runs_shift = of.pool.block_shift - 4;
  static_assert(keys_at_once == 1 << 4);
  const bool has_new = split == last_run % runs_at_once / split_warps;
  union room {
    uint4 next[tile::places * 32];
    typename running_sums<D>::of_heads found; // in the end
  };
  __shared__ room rooms[split_warps];
  const std::int32_t* const blocks = of.blocks[row];
  const auto block_of = [&](int run) { return run <= last_run ? blocks[run >> runs_shift] : 0; };
  const auto keys_of = [&](int run, int block) {
    return of.pool.keys(block, kv_head) + of.pool.place_of(run * keys_at_once) * of.width;
  };
  int run = split * split_warps + warp;
  int block = block_of(run + runs_at_once); // of the next
  tile keys;
  if (run <= last_run) {
    const bf16* const from = keys_of(run, block_of(run));
    keys.read(from, from + of.pool.values, context - run * keys_at_once, of.width,
              [](const bf16* at) { return __ldcs(reinterpret_cast<const uint4*>(at)); });
  }
  const auto send_for_next = [&] {
    const int next = run + runs_at_once;
    if (next > last_run)
      return;
    const bf16* const from = keys_of(next, block);
    keys.send_for(rooms[warp].next, from, from + of.pool.values, context - next * keys_at_once, of.width);
    block = block_of(next + runs_at_once);
  };
  send_for_next();
  const new_token<D> token{of, row};
  await_kernels_before();
  __shared__ settled_heads<D> settled;
  token.settle(kv_head, has_new, settled);

  const float scale = of.scale * log2_e;
  running_sums<D> sums;
  while (run <= last_run) {
    uint4 query[tile::key_parts]; // in every round again: registers are short
    settled.read(group, of.width, query);
    if (run == last_run)
      keys.put(settled.key, settled.value, context % keys_at_once, of.width);
    sums.add(keys, query, context - run * keys_at_once + 1, scale);
    run += runs_at_once;
    if (run <= last_run) {
      keys.receive(rooms[warp].next);
      send_for_next();
    }
  }

  // The block's warps, and then the blocks: of every pair of neighbours of the group's heads a block joins its share.
  __syncwarp();
  sums.write(rooms[warp].found, group, scale);
  await_cluster(); // all have begun
  __syncthreads();
  __shared__ float4 received[group_most * D / 2 + splits_most]; // [split][pair of the share]
  const int half = of.width / 2;
  const int pairs = group * half;
  const int share = (pairs + splits - 1) / splits;
  for (int pair = threadIdx.x; pair < pairs; pair += threads) {
    const float4 is = join<split_warps>(split_warps, [&](int i) {
      const auto* const from = reinterpret_cast<const float2*>(rooms[i].found[pair / half]);
      const float2 weight = from[0];
      const float2 sum = from[1 + pair % half];
      return float4{weight.x, weight.y, sum.x, sum.y};
    });
    store_in_block(received + split * share + pair % share, pair / share, is);
  }
  arrive_at_cluster();
  await_cluster();
  for (int at = threadIdx.x; at < share && split * share + at < pairs; at += threads) {
    const float4 is = join<splits_most>(splits, [&](int i) { return received[i * share + at]; });
    const int pair = split * share + at;
    store<2>(of.out[row * of.heads + first_head + pair / half] + pair % half * 2, {is.z / is.y, is.w / is.y});
  }
}

} // namespace

bool fits_clusters(const tensor_view& pool, const tensor_view& out, int multiprocessors) {
  return out.shape(0) * pool.shape(1) * splits_least <= multiprocessors;
}

cudaError_t attend_in_clusters(cudaStream_t on, const new_heads& heads, const tensor_view& pool,
                               const paged_tokens& where, float scale, int multiprocessors, const tensor_view& out) {
  const step_task of = step_task_of(heads, pool, where, scale, out);
  const std::int64_t contexts = out.shape(0) * pool.shape(1);
  const auto splits = static_cast<unsigned>(contexts * splits_most <= multiprocessors ? splits_most : splits_least);
  const dim3 blocks{static_cast<unsigned>(out.shape(0)), static_cast<unsigned>(pool.shape(1)), splits};
  return with_head_elements(of.width, [&](auto elements) {
    const auto kernel = attend_split_context<elements()>;
    // More than the 8 blocks that every card grants: long contexts want the warps.
    if (const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
        error != cudaSuccess)
      return error;
    return launch_beside(on, {1, 1, splits}, blocks, threads, 0, kernel, of);
  });
}

} // namespace troupe::gpu::cuda
