#include "gpu/cpu/widened.hpp"

#include <algorithm>

namespace troupe::gpu::cpu {

namespace {

/// A contiguous f32 tensor of the same shape.
tensor_view same_shape(const tensor_view& like, float* data) {
  switch (like.rank()) {
  case 1:
    return {data, element_kind::f32, device_kind::cpu, {like.shape(0)}};
  case 2:
    return {data, element_kind::f32, device_kind::cpu, {like.shape(0), like.shape(1)}};
  default:
    TROUPE_ASSERT("widened", like.rank() == 3);
    return {data, element_kind::f32, device_kind::cpu, {like.shape(0), like.shape(1), like.shape(2)}};
  }
}

/// Calls `body` with each row of the original and of its contiguous copy.
template <class Body>
void for_rows(const tensor_view& original, float* copy, Body body) {
  const std::int64_t width = original.shape(original.rank() - 1);
  const std::int64_t outer = original.rank() > 1 ? original.shape(0) : 1;
  const std::int64_t inner = original.rank() > 2 ? original.shape(1) : 1;
  for (std::int64_t i = 0; i < outer; ++i)
    for (std::int64_t j = 0; j < inner; ++j, copy += width)
      body(original.bf16() + (original.rank() > 1 ? i * original.stride(0) : 0) +
               (original.rank() > 2 ? j * original.stride(1) : 0),
           copy, width);
}

} // namespace

widened::widened(const tensor_view& original, access how) : original_(original), how_(how), view_(original) {
  if (!original || original.element() != element_kind::bf16)
    return;
  copy_.resize(static_cast<std::size_t>(original.elements()));
  view_ = same_shape(original, copy_.data());
  if (how != access::write)
    for_rows(original_, copy_.data(), [](const bfloat16* from, float* to, std::int64_t count) {
      std::transform(from, from + count, to, widen);
    });
}

widened::~widened() {
  if (!copy_.empty() && how_ != access::read)
    for_rows(original_, copy_.data(), [](bfloat16* to, const float* from, std::int64_t count) {
      std::transform(from, from + count, to, narrow);
    });
}

} // namespace troupe::gpu::cpu
