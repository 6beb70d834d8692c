#pragma once

#include <cstdint>
#include <string_view>

namespace troupe::protocols {

/// What a rank does in its program. Shared code sees only the number and looks up the role's name and rules in the
/// program's table (program.hpp). Only the program's own folder has constants for its roles. Numbers are unique over
/// all programs.
enum class role_kind : std::uint8_t {
  stub = 6, ///< exists in every program: its ranks start and then idle; measures the runtime without a model
};
inline constexpr std::size_t roles_max = 32;

/// "unknown" for a number that no program has given.
std::string_view name(role_kind role) noexcept;

} // namespace troupe::protocols
