#pragma once

#include "gpu/cuda/pool_view.hpp"

/// How attention kernels find the queries of a block and the keys that they see. Included by .cu files alone.
namespace troupe::gpu::cuda {

/// A tile of queries of one sequence.
struct query_tile {
  int first = 0;   ///< row of its first query
  int rows = 0;    ///< none: the block has nothing to do
  int keys = 0;    ///< that its last query sees
  int context = 0; ///< keys that all of its queries see: query r sees context + r + 1 of them, and `keys` at most
};

/// Where keys lie that are read together.
struct key_place {
  int block = 0;
  int row = 0; ///< of the first of them, in the block
};

/// Keys and values that lie as rows.
template <class T>
struct strided_keys {
  using element = T;
  rows_of<const T> k, v;
  int tokens = 0;

  /// Every query sees every key.
  __device__ query_tile queries(int number, int tile) const {
    const int first = number * tile;
    return {first, min(tile, tokens - first), tokens, tokens};
  }
  __device__ int head_of(int query_head) const { return query_head; }
  __device__ const T* key(int head, int number) const { return k.data + number * k.outer + head * k.inner; }
  __device__ const T* value(int head, int number) const { return v.data + number * v.outer + head * v.inner; }
  __device__ key_place place_of(int number) const { return {0, number}; }
};

/// Keys and values of a pool's blocks, each query up to its own place.
template <class T>
struct paged_keys {
  using element = T;
  pool_view<const T> pool;
  page_tables where;
  int group = 1;
  int width = 0;
  int sequence = 0;

  /// Tiles are counted over the sequences in order; one with a single new token has none.
  __device__ query_tile queries(int number, int tile) {
    for (int each = 0; each < where.sequences; ++each) {
      const int first = where.first[each];
      const int tokens = where.first[each + 1] - first;
      const int tiles = tokens == 1 ? 0 : (tokens + tile - 1) / tile;
      if (number < tiles) {
        sequence = each;
        const int row = number * tile;
        const int rows = min(tile, tokens - row);
        const int context = where.context[each] + row;
        return {first + row, rows, context + rows, context};
      }
      number -= tiles;
    }
    return {};
  }
  __device__ int head_of(int query_head) const { return query_head / group; }
  __device__ const T* key(int head, int number) const {
    const key_place at = place_of(number);
    return pool.keys(at.block, head) + at.row * width;
  }
  __device__ const T* value(int head, int number) const { return key(head, number) + pool.values; }
  __device__ key_place place_of(int number) const {
    return {where.blocks[sequence * where.blocks_stride + pool.page_of(number)], pool.place_of(number)};
  }
};

/// The tensor cores' kernels, for bf16 that can be read 16 bytes at a time (attention_bf16.cu).
cudaError_t attend_bf16(cudaStream_t on, const tensor_view& q, const tensor_view& k, const tensor_view& v, float scale,
                        const tensor_view& out);
cudaError_t attend_bf16(cudaStream_t on, const tensor_view& q, const tensor_view& pool, const paged_keys<bf16>& keys,
                        float scale, const tensor_view& out);

} // namespace troupe::gpu::cuda
