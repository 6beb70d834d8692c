#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/injection_points.hpp"
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
enum class matrix_role { supervisor, front, encode, prefill_leader, prefill_worker, decode, link, listener, watchdog };
inline constexpr std::size_t matrix_role_count = 9;
std::string_view name(matrix_role role) noexcept;

struct matrix_cell {
  matrix_fault fault{};
  matrix_role role{};
  protocols::drill_phase phase{};
  std::string reason; ///< why it cannot exist; empty: it does, and what follows holds
  cluster::drill_event event;
  cluster::drill::load_section load; ///< without its pages
  cluster::drill::expect_section expect;

  /// "kill-prefill_worker-collective".
  std::string name() const;
};

/// All 13 x 9 x 12, in that order.
std::vector<matrix_cell> matrix_cells();

/// Those that exist, with FOLDER/cluster.json and FOLDER/pages.json. Errors: config_invalid.
protocols::result<std::vector<cluster::drill>> matrix_drills(const std::filesystem::path& folder);

} // namespace troupe::tools
