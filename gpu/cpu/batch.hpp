#pragma once

#include "gpu/operations.hpp"

/// The operations of a running batch; see gpu::operations.
namespace troupe::gpu::cpu {

void place_rows(const batch_rows& rows, std::int64_t block_tokens, const tensor_view& frequencies,
                const paged_tokens& where, const tensor_view& cos, const tensor_view& sin);
void sample(const tensor_view& logits, const batch_rows& rows, const tensor_view& chosen);
void advance_rows(const batch_rows& rows, const tensor_view& context, const tensor_view& chosen,
                  const tensor_view& turn, const tensor_view& told);

} // namespace troupe::gpu::cpu
