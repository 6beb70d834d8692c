#include "gpu/cuda/bulk_copies.hpp"

#include <utility>

namespace troupe::gpu::cuda {

namespace {

using encode_function = decltype(&cuTensorMapEncodeTiled);

/// The driver's function, which nothing links with: the plug-in loads where there is no driver, too.
std::pair<encode_function, cudaError_t> find_encoder() {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult answer{};
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12'000, cudaEnableDefault, &answer);
  return {reinterpret_cast<encode_function>(found), error == cudaSuccess && !found ? cudaErrorNotSupported : error};
}

} // namespace

cudaError_t describe_tiles(const tiled_rows& of, int tile_rows, CUtensorMap& to) {
  static const auto [encode, found] = find_encoder();
  if (found != cudaSuccess)
    return found;
  const auto size = [](std::int64_t number) { return static_cast<cuuint64_t>(number); };
  const cuuint64_t shape[]{size(of.width), size(of.rows), size(of.heads), size(of.blocks)};
  // The stride of a dimension of one is never used, and must be valid.
  const auto stride = [&](std::int64_t count, std::int64_t elements) {
    return size(count > 1 ? elements * 2 : swizzled_row_bytes);
  };
  const cuuint64_t strides[]{stride(of.rows, of.row_stride), stride(of.heads, of.head_stride),
                             stride(of.blocks, of.block_stride)};
  const cuuint32_t box[]{swizzled_elements, static_cast<cuuint32_t>(tile_rows), 1, 1};
  const cuuint32_t every[]{1, 1, 1, 1};
  const CUresult made = encode(&to, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<void*>(of.data), shape, strides,
                               box, every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return made == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

} // namespace troupe::gpu::cuda
