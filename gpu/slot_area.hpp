#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "gpu/tensor.hpp"
#include "protocols/ids.hpp"
#include "runtime/base/assert.hpp"

namespace troupe::gpu {

/// Slots of one registered region, as a step sees them.
struct slot_area {
  std::span<std::byte> bytes;
  std::uint64_t slot_bytes = 0;
  device_kind device = device_kind::cpu;

  std::span<std::byte> slot(protocols::slot_index which) const {
    return bytes.subspan(which.value * slot_bytes, slot_bytes);
  }
  /// `count` rows of a slot, from row `first` on: f32 [count, width].
  tensor_view rows(protocols::slot_index which, std::uint32_t first, std::uint32_t count, std::uint32_t width) const {
    TROUPE_ASSERT("slot", (std::uint64_t{first} + count) * width * sizeof(float) <= slot_bytes);
    return {
        slot(which).data() + std::uint64_t{first} * width * sizeof(float), element_kind::f32, device, {count, width}};
  }
};

} // namespace troupe::gpu
