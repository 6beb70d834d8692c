#include "gpu/cuda/dependent.hpp"
#include "gpu/cuda/kernels.hpp"
#include "gpu/cuda/pack.hpp"
#include "gpu/rule_record.hpp"

namespace troupe::gpu::cuda {

namespace {

constexpr int threads = 128;

/// A block a row, a thread an angle.
__global__ void __launch_bounds__(threads)
    place(const std::int32_t* contexts, const std::int32_t* capacity, const std::int32_t* shift,
          rows_of<const std::int32_t> blocks, int block_tokens, const float* frequencies, int half, std::int32_t* slots,
          std::int32_t* goes_to, rows_of<float> cos, rows_of<float> sin) {
  const int row = blockIdx.x;
  const int context = contexts[row];
  const bool goes = context >= 0 && context < capacity[row];
  if (threadIdx.x == 0) {
    goes_to[row] = goes ? context : -1;
    slots[row] = goes ? blocks[row][context / block_tokens] * block_tokens + context % block_tokens : -1;
  }
  for (int i = threadIdx.x; i < half; i += threads) {
    const float angle = static_cast<float>(context + shift[row]) * frequencies[i];
    cos[row][i] = cosf(angle);
    sin[row][i] = sinf(angle);
  }
}

/// One block: a batch has at most a few hundred rows.
__global__ void __launch_bounds__(threads)
    advance(int rows, std::int32_t* ids, std::int32_t* context, std::int32_t* answered, const std::int32_t* goes_to,
            const std::int32_t* chosen, std::int32_t* turn, rows_of<std::int32_t> told, int turns,
            const std::int32_t* rule_place, std::int32_t* marks, std::int64_t marks_stride) {
  await_kernels_before();
  std::int32_t* const tell = told[*turn % turns];
  for (int row = threadIdx.x; row < rows; row += threads) {
    const bool went = goes_to[row] >= 0;
    const std::int32_t id = went ? chosen[row] : -1;
    tell[row] = id;
    if (went) {
      ids[row] = max(id, 0); // what is not finite is told, and the row goes on until it is taken out
      ++context[row];
      ++answered[row];
      if (const int place = rule_place != nullptr ? rule_place[row] : -1; place >= 0)
        marks[place * marks_stride + ids[row]] += mark_answered;
    }
  }
  __syncthreads();
  if (threadIdx.x == 0)
    ++*turn;
}

} // namespace

cudaError_t place_rows(cudaStream_t on, const batch_rows& rows, int block_tokens, const tensor_view& frequencies,
                       const tensor_view& slots, const tensor_view& goes_to, const tensor_view& cos,
                       const tensor_view& sin) {
  place<<<static_cast<unsigned>(goes_to.shape(0)), threads, 0, on>>>(
      rows.context.i32(), rows.capacity.i32(), rows.shift.i32(), rows_in<const std::int32_t>(rows.blocks), block_tokens,
      frequencies.f32(), static_cast<int>(frequencies.shape(0)), slots.i32(), goes_to.i32(), rows_in<float>(cos),
      rows_in<float>(sin));
  return cudaSuccess;
}

cudaError_t advance_rows(cudaStream_t on, const batch_rows& rows, const tensor_view& goes_to, const tensor_view& chosen,
                         const tensor_view& turn, const tensor_view& told) {
  const std::int32_t* const places = rows.rules.place ? rows.rules.place.i32() : nullptr;
  std::int32_t* const marks = rows.rules.place ? rows.rules.marks.i32() : nullptr;
  return launch_early(on, 1, threads, 0, advance, static_cast<int>(chosen.shape(0)), rows.ids.i32(), rows.context.i32(),
                      rows.answered.i32(), static_cast<const std::int32_t*>(goes_to.i32()),
                      static_cast<const std::int32_t*>(chosen.i32()), turn.i32(), rows_in<std::int32_t>(told),
                      static_cast<int>(told.shape(0)), static_cast<const std::int32_t*>(places), marks,
                      rows.rules.place ? rows.rules.marks.stride(0) : 0);
}

} // namespace troupe::gpu::cuda
