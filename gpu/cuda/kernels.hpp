#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "gpu/operations.hpp"

/// The launches of the plug-in's own kernels, one family a .cu file. Shapes are checked by whoever calls; each returns
/// what the calls that it makes report, and its launch's error is the thread's last error.
namespace troupe::gpu::cuda {

// ---- elementwise.cu; rows of either kind ----
cudaError_t copy_rows(cudaStream_t on, const tensor_view& from, const tensor_view& to);
cudaError_t add_rows(cudaStream_t on, const tensor_view& to, const tensor_view& what);
cudaError_t gelu_tanh(cudaStream_t on, const tensor_view& in_place);
cudaError_t gelu_erf(cudaStream_t on, const tensor_view& in_place);
cudaError_t silu_mul(cudaStream_t on, const tensor_view& gate, const tensor_view& up, const tensor_view& out);

// ---- few_rows.cu; products that the reading of the weight bounds ----
/// Whether `multiply_few_rows` can be used, and is to be.
bool is_few_rows(const tensor_view& x, const tensor_view& weight);
/// out = x . weight transposed + bias (or none, of out's kind)
cudaError_t multiply_few_rows(cudaStream_t on, const tensor_view& x, const tensor_view& weight, const tensor_view& bias,
                              const tensor_view& out);

// ---- gather.cu ----
cudaError_t gather_rows(cudaStream_t on, const tensor_view& table, const tensor_view& index, const tensor_view& to);
cudaError_t add_weighted_rows(cudaStream_t on, const tensor_view& table, const tensor_view& index,
                              const tensor_view& weight, const tensor_view& to);
cudaError_t add_checksum(cudaStream_t on, const tensor_view& values, const tensor_view& into);

// ---- norms.cu ----
/// Begins early and awaits the kernels before it.
cudaError_t rms_norm(cudaStream_t on, const tensor_view& x, const tensor_view& weight, float epsilon,
                     const tensor_view& out);
cudaError_t layer_norm(cudaStream_t on, const tensor_view& x, const tensor_view& weight, const tensor_view& bias,
                       float epsilon, const tensor_view& out);

// ---- rotary.cu ----
cudaError_t rotate_heads(cudaStream_t on, const tensor_view& heads, const tensor_view& cos, const tensor_view& sin);

/// Where the keys and values of sequences lie; see gpu::paged_tokens, whose tables these are.
struct page_tables {
  const std::int32_t* first = nullptr;
  const std::int32_t* context = nullptr;
  const std::int32_t* blocks = nullptr;
  std::int64_t blocks_stride = 0;
  int sequences = 0;
  int blocks_most = 0;
};

// ---- kv.cu ----
cudaError_t store_kv(cudaStream_t on, const tensor_view& k, const tensor_view& v, const tensor_view& slots,
                     const tensor_view& pool);

// ---- new_heads.cu; heads of many new tokens before they attend ----
/// Whether `settle_heads` can be used.
bool fits_settling(const new_heads& heads, const tensor_view& pool);
/// Norms and turns queries where they are and keys on their way to the pool, and stores the values. Begins early and
/// awaits the kernels before it.
cudaError_t settle_heads(cudaStream_t on, const new_heads& heads, int query_heads, const tensor_view& slots,
                         const tensor_view& pool);

// ---- attention.cu; tiles of queries, for many queries a sequence ----
cudaError_t attend_tiles(cudaStream_t on, const tensor_view& q, const tensor_view& k, const tensor_view& v, float scale,
                         const tensor_view& out);
/// Sequences with one new token are left to `attend_split`.
cudaError_t attend_paged_tiles(cudaStream_t on, const tensor_view& q, const tensor_view& pool, const page_tables& where,
                               float scale, const tensor_view& out);

// ---- paged_attention.cu; one new token a sequence, its context split over blocks of threads ----
struct split_plan {
  int splits = 1;                ///< of a sequence's context
  std::size_t scratch_bytes = 0; ///< for what the splits find, until it is joined
};
split_plan plan_splits(const tensor_view& q, const tensor_view& pool, const page_tables& where, int multiprocessors);
/// Sequences with more than one new token are left to `attend_paged_tiles`.
cudaError_t attend_split(cudaStream_t on, const tensor_view& q, const tensor_view& pool, const page_tables& where,
                         float scale, const split_plan& plan, void* scratch, const tensor_view& out);

// ---- cluster_attention.cu; all of a layer's attention for one new token of a few sequences ----
/// Whether they are so few. `fits_step_attention` must hold too.
bool fits_clusters(const tensor_view& pool, const tensor_view& out, int multiprocessors);
/// Tables and older keys are read before the kernels before it have ended.
cudaError_t attend_in_clusters(cudaStream_t on, const new_heads& heads, const tensor_view& pool,
                               const paged_tokens& where, float scale, int multiprocessors, const tensor_view& out);

// ---- decode_attention.cu; the same for many ----
struct step_splits {
  int splits = 1;                ///< of a context, at most: the device decides how many are used
  std::size_t scratch_bytes = 0; ///< for what they find
  std::size_t counters = 0;
};
/// Whether `attend_new_tokens` can be used.
bool fits_step_attention(const new_heads& heads, const tensor_view& pool, const tensor_view& out);
step_splits plan_step_splits(const tensor_view& pool, const tensor_view& out, int multiprocessors);
/// `joins`: counters at zero. Tables and older keys are read before the kernels before it have ended.
cudaError_t attend_new_tokens(cudaStream_t on, const new_heads& heads, const tensor_view& pool,
                              const paged_tokens& where, float scale, const step_splits& plan, void* scratch,
                              std::uint32_t* joins, const tensor_view& out);

// ---- batch.cu ----
cudaError_t place_rows(cudaStream_t on, const batch_rows& rows, int block_tokens, const tensor_view& frequencies,
                       const tensor_view& slots, const tensor_view& goes_to, const tensor_view& cos,
                       const tensor_view& sin);
cudaError_t advance_rows(cudaStream_t on, const batch_rows& rows, const tensor_view& goes_to, const tensor_view& chosen,
                         const tensor_view& turn, const tensor_view& told);

// ---- sampling.cu ----
std::size_t sampling_scratch_bytes(const tensor_view& logits);
cudaError_t sample_rows(cudaStream_t on, const tensor_view& logits, const batch_rows& rows, const tensor_view& chosen,
                        void* scratch);

} // namespace troupe::gpu::cuda
