#pragma once

#include <cstdint>
#include <string_view>

#include "tools/troupe/drill_matrix.hpp"

namespace troupe::tools {

/// Where in a role's code a phase can be struck.
struct matrix_place {
  std::string_view point;  ///< a fault point; empty: there is none
  std::uint32_t skip = 0;  ///< so many of its hits pass
  std::string_view reason; ///< why there is none
};
/// `encode_mesh`: its encode cells are meshes.
matrix_place matrix_place_of(matrix_role role, protocols::drill_phase phase, bool encode_mesh);

/// The role computes in step with others, in whatever cluster.
constexpr bool is_mesh(matrix_role role) noexcept {
  return role == matrix_role::encode_worker || role == matrix_role::prefill_leader ||
         role == matrix_role::prefill_worker || role == matrix_role::decode;
}

} // namespace troupe::tools
