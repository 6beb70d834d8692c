#pragma once

#include <cstdint>
#include <string_view>

namespace troupe::protocols {

/// What a rank does in its program. Shared code knows the number and, by the program's table, its name and rules
/// (program.hpp); only a program's own folder has constants for its roles. Numbers are unique over all programs.
enum class role_kind : std::uint8_t {
  stub = 6, ///< of every program: joins, agrees, idles; measures the runtime alone
};
inline constexpr std::size_t roles_max = 32;

/// "unknown" for a number that no program has given.
std::string_view name(role_kind role) noexcept;

} // namespace troupe::protocols
