#pragma once

#include <cstddef>
#include <initializer_list>
#include <memory>

#include "gpu/operations.hpp"

namespace troupe::gpu::models {

/// One piece of device memory for a step's intermediate tensors; it grows to the largest step and stays.
/// A workspace is described by a function that takes its tensors; the function runs once to measure and once to place,
/// so that sizes are written in one place.
/// Threads: one.
class scratch {
public:
  explicit scratch(const operations& run) : run_(run) {}

  /// Not initialised.
  tensor_view take(std::initializer_list<std::int64_t> shape, element_kind element = element_kind::f32) {
    tensor_view view{memory_ && !measuring_ ? memory_->data() + used_ : nullptr, element, run_.device(), shape};
    constexpr std::size_t alignment = 64;
    used_ += (view.bytes() + alignment - 1) / alignment * alignment;
    return view;
  }

  /// The workspace that `describe(*this)` makes, valid until the next `place`. Errors: no_memory.
  template <class Describe>
  auto place(const Describe& describe) -> protocols::result<decltype(describe(*this))> {
    used_ = 0;
    measuring_ = true;
    describe(*this);
    measuring_ = false;
    if (!memory_ || used_ > memory_->bytes()) {
      auto larger = run_.allocate(used_);
      if (!larger)
        return tl::unexpected(larger.error());
      memory_ = std::move(*larger);
      ++moves_;
    }
    used_ = 0;
    return describe(*this);
  }

  /// How often what was placed before has lost its place.
  std::uint32_t moves() const noexcept { return moves_; }

private:
  const operations& run_;
  std::unique_ptr<buffer> memory_;
  std::size_t used_ = 0;
  std::uint32_t moves_ = 0;
  bool measuring_ = false;
};

} // namespace troupe::gpu::models
