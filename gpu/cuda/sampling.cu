#include "gpu/cuda/dependent.hpp"
#include "gpu/cuda/kernels.hpp"
#include "gpu/cuda/pack.hpp"
#include "gpu/cuda/weight_search.hpp"
#include "gpu/not_finite.hpp"
#include "gpu/uniform_draw.hpp"

// A choice for each row of logits, as gpu::choose makes it, in three kernels: blocks find the likeliest token of their
// part of the row; where a row is sampled, they add up the weights by size; then a block a row finds the token in which
// the draw falls among those of one size. A row whose sequence has rules reads its logits by them (ruled_logits); one
// that has none takes the code that there would be without rules.

namespace troupe::gpu::cuda {

namespace {

/// Over a block of `part_threads`; every thread gets it.
__device__ __forceinline__ u64 highest_of_part(u64 value, u64 (&of_warp)[part_threads / 32]) {
  value = highest_of_lanes(value);
  __syncthreads();
  if (threadIdx.x % 32 == 0)
    of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  for (const u64 each : of_warp)
    value = max(value, each);
  return value;
}

/// What this part of the row adds to what is told of it.
__device__ __noinline__ void tell_part(const sampled_rows& of, int row, int entries) {
  const float* const logits = of.logits + row * of.stride;
  const int first = blockIdx.x * part_tokens + threadIdx.x;
  const int end = min(of.vocabulary, static_cast<int>(blockIdx.x + 1) * part_tokens);
  part_told& told = of.parts_told[row * of.parts + blockIdx.x];
  __shared__ u64 of_warp[part_threads / 32];
  __shared__ double sums[part_threads / 32];
  u64 before = ~u64{0};
  float largest = 0.0F;
  for (int at = 0; at < max(entries - 1, 1); ++at) {
    u64 best = 0;
    for (int id = first; id < end; id += part_threads)
      if (const u64 rank = rank_of(logits[id], id); rank < before)
        best = max(best, rank);
    before = highest_of_part(best, of_warp);
    if (at == 0)
      largest = logits[id_of(before)];
    if (threadIdx.x == 0)
      told.top[at] = before; // 0: the part has no more tokens
  }
  double sum = 0.0;
  for (int id = first; id < end; id += part_threads)
    sum += exp(static_cast<double>(logits[id]) - static_cast<double>(largest));
  sum = sum_lanes(sum);
  if (threadIdx.x % 32 == 0)
    sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    sum = 0.0;
    for (const double each : sums)
      sum += each;
    told.sum = sum;
    told.largest = largest;
  }
}

__global__ void __launch_bounds__(part_threads) find_likeliest(const __grid_constant__ sampled_rows of) {
  let_next_kernel_begin();
  await_kernels_before();
  const int row = blockIdx.y;
  const std::int32_t* const record = record_of(of, row);
  const int end = min(of.vocabulary, static_cast<int>(blockIdx.x + 1) * part_tokens);
  u64 best = 0;
  with_logits(of, row, record, [&](const auto& logits) {
#pragma unroll 8
    for (int id = blockIdx.x * part_tokens + threadIdx.x; id < end; id += part_threads)
      best = max(best, rank_of(logits[id], id));
  });
  if (record != nullptr && record[rule_told] > 0)
    tell_part(of, row, record[rule_told]);
  __shared__ u64 of_warp[part_threads / 32];
  best = highest_of_lanes(best);
  if (threadIdx.x % 32 == 0)
    of_warp[threadIdx.x / 32] = best;
  for (int at = blockIdx.x * part_threads + threadIdx.x; at < sizes; at += of.parts * part_threads)
    of.by_size[row * sizes + at] = 0;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (const u64 each : of_warp)
      best = max(best, each);
    of.likeliest[row * of.parts + blockIdx.x] = best;
  }
}

__global__ void __launch_bounds__(part_threads) add_by_size(const __grid_constant__ sampled_rows of) {
  let_next_kernel_begin();
  await_kernels_before();
  const int row = blockIdx.y;
  const float temperature = of.temperature[row];
  if (!(temperature > 0.0F))
    return;
  __shared__ unsigned low[sizes];
  __shared__ unsigned high[sizes];
  bool finite = true;
  with_logits(of, row, record_of(of, row), [&](const auto& logits) {
    const float largest = logits[id_of(likeliest_of(of, row))];
    finite = isfinite(largest);
    if (!finite)
      return;
    const weighing weigh{largest, temperature};
    for (int at = threadIdx.x; at < sizes; at += part_threads)
      low[at] = high[at] = 0;
    __syncthreads();
    const int end = min(of.vocabulary, static_cast<int>(blockIdx.x + 1) * part_tokens);
    for (int id = blockIdx.x * part_tokens + threadIdx.x; id < end; id += part_threads) {
      const u64 weight = weigh.of(logits[id]);
      if (weight == 0)
        continue;
      const int size = size_of(weight);
      const auto lower = static_cast<unsigned>(weight);
      const unsigned carry = atomicAdd(&low[size], lower) > 0xffff'ffffU - lower ? 1 : 0;
      const unsigned upper = static_cast<unsigned>(weight >> 32) + carry;
      if (upper > 0)
        atomicAdd(&high[size], upper);
    }
  });
  if (!finite)
    return;
  __syncthreads();
  for (int at = threadIdx.x; at < sizes; at += part_threads)
    if (const u64 sum = u64{high[at]} << 32 | low[at]; sum > 0)
      atomicAdd(&of.by_size[row * sizes + at], sum);
}

/// The sum of the weights of the tokens that top_k, top_p and min_p leave.
template <class Logits>
__device__ u64 sum_of_kept(search_memory& with, const sampled_rows& of, int row, const std::int32_t* record,
                           const Logits& logits, const weighing& weigh) {
  const auto take_sums = [&] {
    u64 own = 0;
    for (int at = threadIdx.x; at < sizes; at += row_threads)
      own += with.sums[at] = of.by_size[row * sizes + at];
    return sum_of_block(own, with.of_warp);
  };
  u64 total = take_sums();
  if (record != nullptr && record[rule_top_k] != 0) {
    const u64 top = sum_of_top(with, logits, of.vocabulary, weigh, total, static_cast<unsigned>(record[rule_top_k]));
    __syncthreads();
    take_sums();
    total = top;
  }
  const double top_p = fmin(fmax(static_cast<double>(of.top_p[row]), 0.0), 1.0);
  u64 kept = total;
  if (top_p < 1.0) {
    const auto enough = static_cast<u64>(ceil(top_p * static_cast<double>(total)));
    kept = locate(with, logits, of.vocabulary, weigh, min(max(enough, u64{1}), total), by_weight{}).through;
  }
  if (const float min_p = record != nullptr ? float_of(record[rule_min_p]) : 0.0F; min_p > 0.0F) {
    const auto least = static_cast<u64>(ceil(static_cast<double>(min_p) * static_cast<double>(u64{1} << weight_bits)));
    kept = min(kept, sum_from(with, logits, of.vocabulary, weigh, max(least, u64{1}), of.vocabulary));
  }
  return kept;
}

/// What the parts have found of the raw logits, put together. By one warp.
__device__ __noinline__ void tell_row(const sampled_rows& of, int row, int entries, int chosen) {
  const float* const logits = of.logits + row * of.stride;
  const part_told* const parts = of.parts_told + row * of.parts;
  const int lane = threadIdx.x;
  float largest = -INFINITY;
  for (int part = lane; part < of.parts; part += 32)
    largest = fmaxf(largest, parts[part].largest);
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(0xffff'ffffU, largest, step));
  double sum = 0.0;
  for (int part = lane; part < of.parts; part += 32)
    sum += parts[part].sum * exp(static_cast<double>(parts[part].largest) - static_cast<double>(largest));
  sum = sum_lanes(sum);
  const double whole = static_cast<double>(largest) + log(sum);
  std::int32_t* const told = of.told + *of.turn % of.turns * of.told_stride + std::int64_t{of.place[row]} * told_words;
  const auto tell = [&](int at, int id) {
    if (lane != 0)
      return;
    told[2 * at] = id;
    told[2 * at + 1] = id < 0 ? 0 : __float_as_int(static_cast<float>(static_cast<double>(logits[id]) - whole));
  };
  tell(0, chosen);
  u64 before = ~u64{0};
  for (int at = 1; at < entries; ++at) {
    u64 best = 0;
    for (int part = lane; part < of.parts; part += 32)
      for (int i = 0; i < entries - 1; ++i)
        if (const u64 rank = parts[part].top[i]; rank < before) {
          best = max(best, rank); // a part's are in order: the first below is its highest
          break;
        }
    before = highest_of_lanes(best);
    tell(at, before != 0 ? id_of(before) : -1);
  }
}

__global__ void __launch_bounds__(row_threads) choose_token(const __grid_constant__ sampled_rows of) {
  let_next_kernel_begin();
  await_kernels_before();
  extern __shared__ u64 raw[];
  auto& with = *reinterpret_cast<search_memory*>(raw);
  const int row = blockIdx.x;
  const std::int32_t* const record = record_of(of, row);
  int chosen = not_finite;
  with_logits(of, row, record, [&](const auto& logits) {
    const int best = id_of(likeliest_of(of, row));
    const float temperature = of.temperature[row];
    const float largest = logits[best];
    if (!(temperature > 0.0F) || !isfinite(largest)) {
      chosen = isfinite(largest) ? best : not_finite;
      return;
    }
    const weighing weigh{largest, temperature};
    const u64 kept = sum_of_kept(with, of, row, record, logits, weigh);
    const u64 seed = static_cast<unsigned>(of.seed[row]) | u64{static_cast<unsigned>(of.seed[of.seed_stride + row])}
                                                               << 32;
    const double draw = uniform_draw(seed, static_cast<u64>(of.answered[row]));
    const u64 target = min(static_cast<u64>(draw * static_cast<double>(kept)), kept - 1) + 1;
    chosen = locate(with, logits, of.vocabulary, weigh, target, by_weight{}).id;
  });
  if (threadIdx.x == 0)
    of.chosen[row] = chosen;
  if (record != nullptr && record[rule_told] > 0 && chosen >= 0 && threadIdx.x < 32)
    tell_row(of, row, record[rule_told], chosen);
}

int parts_of(const tensor_view& logits) {
  return ceil_div(logits.shape(1), part_tokens);
}

} // namespace

std::size_t sampling_scratch_bytes(const tensor_view& logits) {
  const auto parts = static_cast<std::size_t>(parts_of(logits));
  return static_cast<std::size_t>(logits.shape(0)) *
         ((parts + static_cast<std::size_t>(sizes)) * sizeof(u64) + parts * sizeof(part_told));
}

cudaError_t sample_rows(cudaStream_t on, const tensor_view& logits, const batch_rows& rows, const tensor_view& chosen,
                        void* scratch) {
  TROUPE_ASSERT("sample", logits.shape(1) <= std::int64_t{1} << id_bits);
  const auto count = static_cast<unsigned>(logits.shape(0));
  sampled_rows of{.logits = logits.f32(),
                  .stride = logits.stride(0),
                  .vocabulary = width_of(logits),
                  .parts = parts_of(logits),
                  .temperature = rows.temperature.f32(),
                  .top_p = rows.top_p.f32(),
                  .seed = rows.seed.i32(),
                  .seed_stride = rows.seed.stride(0),
                  .answered = rows.answered.i32(),
                  .likeliest = static_cast<u64*>(scratch),
                  .chosen = chosen.i32()};
  of.by_size = of.likeliest + count * static_cast<unsigned>(of.parts);
  if (const row_rules& rules = rows.rules; rules.place) {
    of.place = rules.place.i32();
    of.records = rules.records.i32();
    of.marks = rules.marks.i32();
    of.marks_stride = rules.marks.stride(0);
    of.turn = rules.turn.i32();
    of.told = rules.told.i32();
    of.told_stride = rules.told.stride(0);
    of.turns = static_cast<int>(rules.told.shape(0));
    of.parts_told = reinterpret_cast<part_told*>(of.by_size + count * static_cast<unsigned>(sizes));
  }
  const dim3 parts{static_cast<unsigned>(of.parts), count};
  if (const cudaError_t error = launch_early(on, parts, part_threads, 0, find_likeliest, of); error != cudaSuccess)
    return error;
  if (const cudaError_t error = launch_early(on, parts, part_threads, 0, add_by_size, of); error != cudaSuccess)
    return error;
  constexpr int bytes = sizeof(search_memory);
  if (const cudaError_t error = cudaFuncSetAttribute(choose_token, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
      error != cudaSuccess)
    return error;
  return launch_early(on, count, row_threads, bytes, choose_token, of);
}

} // namespace troupe::gpu::cuda
