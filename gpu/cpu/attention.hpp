#pragma once

#include <cstdint>

#include "gpu/cpu/cpu_stream.hpp"
#include "gpu/operations.hpp"

namespace troupe::gpu::cpu {

/// See operations::attention.
void attend(cpu_stream& on, const tensor_view& q, const tensor_view& k, const tensor_view& v, float scale,
            const tensor_view& out);
/// See operations::store_kv.
void store_kv(const tensor_view& k, const tensor_view& v, const tensor_view& slots, const tensor_view& pool);
/// See operations::paged_attention.
void attend_paged(cpu_stream& on, const tensor_view& q, const tensor_view& pool, const paged_tokens& where, float scale,
                  const tensor_view& out);

} // namespace troupe::gpu::cpu
