#pragma once

#include <cstdint>
#include <string_view>

namespace troupe::protocols {

/// What a collective does; wire and record ordinals, append only.
enum class collective_kind : std::uint8_t {
  all_reduce_sum = 1,
  all_reduce_min = 2,
  all_gather = 3,
  broadcast = 4,
  hop = 5, ///< from one member to another, for pipeline stages
};

constexpr bool is_valid(collective_kind kind) noexcept {
  return kind >= collective_kind::all_reduce_sum && kind <= collective_kind::hop;
}

constexpr std::string_view name(collective_kind kind) noexcept {
  switch (kind) {
  case collective_kind::all_reduce_sum:
    return "all_reduce_sum";
  case collective_kind::all_reduce_min:
    return "all_reduce_min";
  case collective_kind::all_gather:
    return "all_gather";
  case collective_kind::broadcast:
    return "broadcast";
  case collective_kind::hop:
    return "hop";
  }
  return {};
}

} // namespace troupe::protocols
