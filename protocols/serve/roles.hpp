#pragma once

#include "protocols/cluster/role.hpp"

/// The roles of `serve`. Their numbers stand in flight records and never change.
namespace troupe::protocols::serve_role {

inline constexpr role_kind front{1};   ///< takes requests, keeps the ledger, emits tokens
inline constexpr role_kind encode{2};  ///< vision tower
inline constexpr role_kind prefill{3}; ///< text model over a prompt
inline constexpr role_kind decode{4};  ///< text model token by token
inline constexpr role_kind all{5};     ///< one rank that does everything

} // namespace troupe::protocols::serve_role
