#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>

#include "gpu/bfloat16.hpp"
#include "runtime/base/assert.hpp"

namespace troupe::gpu {

enum class device_kind : std::uint8_t { cpu, cuda };
enum class element_kind : std::uint8_t { f32, i32, bf16 };
constexpr std::size_t bytes_of(element_kind element) noexcept {
  return element == element_kind::bf16 ? 2 : 4;
}

/// Owns memory of one device, aligned for its widest loads.
class buffer {
public:
  virtual ~buffer() = default;
  buffer(const buffer&) = delete;
  buffer& operator=(const buffer&) = delete;
  virtual std::byte* data() const noexcept = 0;
  virtual std::size_t bytes() const noexcept = 0;

protected:
  buffer() = default;
};

/// Where a tensor's elements stand: pointer, shape, strides, type and device. Elements of the last dimension are
/// adjacent. Ownership: none. Shapes that do not fit are mistakes of the program, so they break an invariant.
class tensor_view {
public:
  static constexpr std::size_t rank_max = 5;

  tensor_view() noexcept = default;
  /// Contiguous.
  tensor_view(void* data, element_kind element, device_kind device, std::initializer_list<std::int64_t> shape)
      : data_(data), element_(element), device_(device), rank_(shape.size()) {
    TROUPE_ASSERT("tensor", rank_ <= rank_max);
    std::int64_t stride = 1;
    for (std::size_t i = rank_; i-- > 0;) {
      shape_[i] = shape.begin()[i];
      stride_[i] = stride;
      stride *= shape_[i];
    }
  }

  explicit operator bool() const noexcept { return data_ != nullptr; }
  std::size_t rank() const noexcept { return rank_; }
  std::int64_t shape(std::size_t dimension) const noexcept { return shape_[dimension]; }
  std::int64_t stride(std::size_t dimension) const noexcept { return stride_[dimension]; } ///< in elements
  std::int64_t elements() const noexcept {
    std::int64_t product = 1;
    for (std::size_t i = 0; i < rank_; ++i)
      product *= shape_[i];
    return product;
  }
  std::size_t bytes() const noexcept { return static_cast<std::size_t>(elements()) * bytes_of(element_); }
  bool contiguous() const noexcept {
    std::int64_t expected = 1;
    for (std::size_t i = rank_; i-- > 0; expected *= shape_[i])
      if (shape_[i] > 1 && stride_[i] != expected)
        return false;
    return true;
  }
  device_kind device() const noexcept { return device_; }
  element_kind element() const noexcept { return element_; }
  void* data() const noexcept { return data_; }
  float* f32() const noexcept { return typed<float>(element_kind::f32); }
  bfloat16* bf16() const noexcept { return typed<bfloat16>(element_kind::bf16); }
  std::int32_t* i32() const noexcept { return typed<std::int32_t>(element_kind::i32); }

  /// [first, first + count) of the first dimension.
  tensor_view rows(std::int64_t first, std::int64_t count) const noexcept { return slice(0, first, count); }
  /// [first, first + count) of the last dimension.
  tensor_view columns(std::int64_t first, std::int64_t count) const noexcept { return slice(rank_ - 1, first, count); }
  /// The last dimension cut into `parts` equal ones: [tokens, heads x elements] as [tokens, heads, elements].
  tensor_view split_last(std::int64_t parts) const noexcept {
    TROUPE_ASSERT("tensor", rank_ < rank_max && shape_[rank_ - 1] % parts == 0);
    tensor_view view = *this;
    view.shape_[rank_] = shape_[rank_ - 1] / parts;
    view.stride_[rank_] = 1;
    view.shape_[rank_ - 1] = parts;
    view.stride_[rank_ - 1] = view.shape_[rank_];
    ++view.rank_;
    return view;
  }
  /// Another shape of the same elements. Contiguous only.
  tensor_view reshape(std::initializer_list<std::int64_t> shape) const noexcept {
    tensor_view view{data_, element_, device_, shape};
    TROUPE_ASSERT("tensor", contiguous() && view.elements() == elements());
    return view;
  }
  /// With a stride of one's own for a dimension, for views of pools.
  tensor_view with_stride(std::size_t dimension, std::int64_t stride) const noexcept {
    tensor_view view = *this;
    view.stride_[dimension] = stride;
    return view;
  }

private:
  template <class T>
  T* typed(element_kind kind) const noexcept {
    TROUPE_ASSERT("tensor", element_ == kind);
    return static_cast<T*>(data_);
  }
  tensor_view slice(std::size_t dimension, std::int64_t first, std::int64_t count) const noexcept {
    TROUPE_ASSERT("tensor", first >= 0 && count >= 0 && first + count <= shape_[dimension]);
    tensor_view view = *this;
    view.data_ =
        static_cast<std::byte*>(data_) + first * stride_[dimension] * static_cast<std::int64_t>(bytes_of(element_));
    view.shape_[dimension] = count;
    return view;
  }

  void* data_ = nullptr;
  element_kind element_ = element_kind::f32;
  device_kind device_ = device_kind::cpu;
  std::size_t rank_ = 0;
  std::array<std::int64_t, rank_max> shape_{};
  std::array<std::int64_t, rank_max> stride_{};
};

} // namespace troupe::gpu
