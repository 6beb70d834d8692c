#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"

/// Our own codec: little-endian, fields in the order that a message names them, nothing inferred.
/// Strings, vectors: a 32-bit count, then the elements. A count is believed only as far as the bytes that are there.
/// A message names its fields once, in `fields`; encoding and decoding walk the same list, so they cannot differ (A26).
/// `required` fields must be there; `appended` ones came later and are empty (zero) when a peer does not send them.
/// Parts of messages have required fields only: nothing marks where a part ends. Every enum has an `is_valid`.
/// CAF's serialiser was rejected: element-wise for bytes, believes a 4 GiB length, no schema version (TOOLCHAIN).
/// Contract: A17, A18, A26.
namespace troupe::protocols {

/// Walks a message's fields and appends them to `out`. Reuses the capacity of `out`: no allocation once it is warm.
class payload_writer {
public:
  explicit payload_writer(std::vector<std::byte>& out) noexcept : out_(out) {}

  template <class... Fields>
  void required(const Fields&... values) {
    (put(values), ...);
  }
  template <class... Fields>
  void appended(const Fields&... values) {
    (put(values), ...);
  }

private:
  template <class T>
  void put(const T& value);
  void put_bytes(const void* data, std::size_t bytes) {
    const auto before = out_.size();
    out_.resize(before + bytes);
    if (bytes > 0)
      std::memcpy(out_.data() + before, data, bytes);
  }
  std::vector<std::byte>& out_;
};

/// Reads what a peer sent; stops at the first violation and remembers it.
class payload_reader {
public:
  explicit payload_reader(std::span<const std::byte> in) noexcept : rest_(in) {}

  template <class... Fields>
  void required(Fields&... values) {
    (get(values), ...);
  }
  /// A payload that ends before an appended field leaves it, and all that follow, empty.
  template <class... Fields>
  void appended(Fields&... values) {
    (get_if_there(values), ...);
  }

  std::optional<failure> problem() const { return problem_; }
  std::span<const std::byte> rest() const noexcept { return rest_; }

private:
  template <class T>
  void get(T& value);
  template <class T>
  void get_if_there(T& value) {
    if (rest_.empty())
      value = T{}; // `value` may have been used for an earlier message
    else
      get(value);
  }
  bool take(void* to, std::size_t bytes) {
    if (problem_)
      return false;
    if (bytes > rest_.size()) {
      problem_ = failure{fault::short_payload, {}};
      return false;
    }
    std::copy_n(rest_.data(), bytes, static_cast<std::byte*>(to));
    rest_ = rest_.subspan(bytes);
    return true;
  }
  std::span<const std::byte> rest_;
  std::optional<failure> problem_;
};

namespace detail {
template <class T>
struct is_strong_id : std::false_type {};
template <class Tag, class Value>
struct is_strong_id<strong_id<Tag, Value>> : std::true_type {};
template <class T>
struct is_vector : std::false_type {};
template <class T>
struct is_vector<std::vector<T>> : std::true_type {};
template <class T>
struct is_array : std::false_type {};
template <class T, std::size_t N>
struct is_array<std::array<T, N>> : std::true_type {};
/// Elements whose bytes in memory are their bytes on the wire.
template <class T>
inline constexpr bool is_flat =
    (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) || std::is_same_v<T, std::byte> || is_strong_id<T>::value;
/// An enum of the wire says which of its numbers have a meaning; the codec refuses the others.
template <class T>
concept wire_enum = std::is_enum_v<T> && requires(T value) {
  { is_valid(value) } -> std::same_as<bool>;
};
static_assert(std::endian::native == std::endian::little, "the wire is little-endian; a big-endian host needs swaps");
} // namespace detail

template <class T>
void payload_writer::put(const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    const std::uint8_t byte = value ? 1 : 0;
    put_bytes(&byte, 1);
  } else if constexpr (detail::wire_enum<T> || detail::is_flat<T>) {
    put_bytes(&value, sizeof value);
  } else if constexpr (std::is_same_v<T, std::string>) {
    put(static_cast<std::uint32_t>(value.size()));
    put_bytes(value.data(), value.size());
  } else if constexpr (detail::is_array<T>::value) {
    for (const auto& element : value)
      put(element);
  } else if constexpr (detail::is_vector<T>::value) {
    put(static_cast<std::uint32_t>(value.size()));
    if constexpr (detail::is_flat<typename T::value_type>) {
      put_bytes(value.data(), value.size() * sizeof(typename T::value_type));
    } else {
      for (const auto& element : value)
        put(element);
    }
  } else {
    static_assert(!std::is_enum_v<T>, "an enum of the wire has an is_valid beside it");
    T::fields(value, *this);
  }
}

template <class T>
void payload_reader::get(T& value) {
  if (problem_)
    return;
  if constexpr (std::is_same_v<T, bool>) {
    std::uint8_t byte = 0;
    if (!take(&byte, 1))
      return;
    if (byte > 1)
      problem_ = failure{fault::bad_value, "a truth value that is neither 0 nor 1"};
    value = byte == 1;
  } else if constexpr (detail::wire_enum<T>) {
    auto number = std::underlying_type_t<T>{};
    if (!take(&number, sizeof number))
      return;
    if (is_valid(static_cast<T>(number)))
      value = static_cast<T>(number);
    else
      problem_ = failure{fault::bad_value, "no enumerator has the number " + std::to_string(number)};
  } else if constexpr (detail::is_flat<T>) {
    take(&value, sizeof value);
  } else if constexpr (std::is_same_v<T, std::string>) {
    std::uint32_t count = 0;
    if (!take(&count, sizeof count))
      return;
    if (count > rest_.size()) {
      problem_ = failure{fault::short_payload, "a string's length is beyond the payload"};
      return;
    }
    value.assign(reinterpret_cast<const char*>(rest_.data()), count);
    rest_ = rest_.subspan(count);
  } else if constexpr (detail::is_array<T>::value) {
    for (auto& element : value)
      get(element);
  } else if constexpr (detail::is_vector<T>::value) {
    using element_t = typename T::value_type;
    std::uint32_t count = 0;
    if (!take(&count, sizeof count))
      return;
    if constexpr (detail::is_flat<element_t>) {
      if (count > rest_.size() / sizeof(element_t)) {
        problem_ = failure{fault::short_payload, "a list's length is beyond the payload"};
        return;
      }
      value.resize(count);
      take(value.data(), count * sizeof(element_t));
    } else {
      if (count > rest_.size()) { // every element takes at least one byte
        problem_ = failure{fault::short_payload, "a list's length is beyond the payload"};
        return;
      }
      value.clear();
      for (std::uint32_t i = 0; i < count && !problem_; ++i)
        get(value.emplace_back());
    }
  } else {
    static_assert(!std::is_enum_v<T>, "an enum of the wire has an is_valid beside it");
    T::fields(value, *this);
  }
}

/// Appends the payload of `message` to `out`.
template <class Message>
void encode_payload(const Message& message, std::vector<std::byte>& out) {
  payload_writer writer{out};
  Message::fields(message, writer);
}

/// Reads into `message`, reusing what it has allocated.
/// Errors: short_payload, bad_value; bad_value for bytes past the known fields when `strict`.
template <class Message>
result<void> decode_payload(std::span<const std::byte> payload, Message& message, bool strict = false) {
  payload_reader reader{payload};
  Message::fields(message, reader);
  if (const auto problem = reader.problem())
    return tl::unexpected<failure>{*problem};
  if (strict && !reader.rest().empty())
    return fail(fault::bad_value, "bytes past the fields known here");
  return {};
}

} // namespace troupe::protocols
