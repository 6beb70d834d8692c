#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/drill/injection_points.hpp"
#include "runtime/cluster/drill_file.hpp"

/// Every fault class in every role in every phase: which cells exist, and as drills.
namespace troupe::tools {

enum class matrix_fault {
  kill,
  stop,
  segfault,
  abort,
  throw_error,
  wedge,
  link_cut,
  link_one_way,
  completion_lost,
  stale_grant,
  duplicate_frame,
  slow_consumer,
  bad_alloc
};
inline constexpr std::size_t matrix_fault_count = 13;
std::string_view name(matrix_fault fault) noexcept;

/// Who is struck. The last three are actors of a rank that can fail while it lives.
enum class matrix_role {
  supervisor,
  front,
  encode,        ///< its leader, where it is a mesh
  encode_worker, ///< of a mesh
  prefill_leader,
  prefill_worker, ///< of the last stage, where there are several
  decode,
  link,
  listener,
  watchdog
};
inline constexpr std::size_t matrix_role_count = 10;
std::string_view name(matrix_role role) noexcept;

/// One cluster that the matrix is walked over.
struct matrix_shape {
  std::string name; ///< empty: the first
  std::filesystem::path spec;
  protocols::cluster_plan plan;
};

/// Who has the role in that cluster; nobody in one whose encode cells are no meshes. The supervisor has no rank.
std::optional<protocols::rank_id> rank_of(matrix_role role, const protocols::cluster_plan& plan);

struct matrix_cell {
  std::string shape;
  matrix_fault fault{};
  matrix_role role{};
  protocols::drill_phase phase{};
  std::string reason; ///< why it cannot exist; empty: it does, and what follows holds
  cluster::drill_event event;
  cluster::drill::load_section load; ///< without its pages
  cluster::drill::expect_section expect;

  /// "kill-prefill_worker-collective", "two-stages.kill-prefill_worker-collective".
  std::string name() const;
};

/// All 13 x 10 x 12 of each shape, in that order.
std::vector<matrix_cell> matrix_cells(const std::vector<matrix_shape>& shapes);

/// FOLDER/cluster.json and those beside it (FOLDER/encode-mesh/cluster.json and so on); `spec` alone, unless it is
/// empty. Errors: config_invalid.
protocols::result<std::vector<matrix_shape>> matrix_shapes(const std::filesystem::path& folder,
                                                           const std::filesystem::path& spec);

/// The cells that exist, with FOLDER/pages.json. Errors: config_invalid.
protocols::result<std::vector<cluster::drill>> matrix_drills(const std::filesystem::path& folder,
                                                             const std::vector<matrix_shape>& shapes);

} // namespace troupe::tools
