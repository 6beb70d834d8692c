#pragma once

#include <vector>

#include "gpu/tensor.hpp"

namespace troupe::gpu::cpu {

enum class access : std::uint8_t { read, write, change };

/// A tensor of numbers as f32 while an operation runs: itself when it is f32, a copy that is rounded back at the end
/// when it is bf16. The CPU computes bf16 models to be the oracle of devices that have it, not to be fast at it.
class widened {
public:
  widened(const tensor_view& original, access how);
  ~widened();
  widened(const widened&) = delete;
  widened& operator=(const widened&) = delete;

  const tensor_view& view() const noexcept { return view_; }

private:
  tensor_view original_;
  access how_;
  std::vector<float> copy_;
  tensor_view view_;
};

} // namespace troupe::gpu::cpu
