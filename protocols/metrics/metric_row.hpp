#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "protocols/cluster/route.hpp"
#include "protocols/ids.hpp"

/// What ranks count. A rank counts integers in place, sends them by number, and only the front knows their names.
namespace troupe::protocols {

/// Of one quantity that ranks count. Numbers are append-only.
using metric_number = strong_id<struct metric_tag, std::uint16_t>;
/// Of a program; those below are of every program.
inline constexpr metric_number program_metric_first{32};
inline constexpr std::size_t metrics_max = 128;
inline constexpr std::size_t metric_bounds_max = 31; ///< of one histogram

enum class metric_kind : std::uint8_t {
  counter, ///< grows; begins at 0 with each generation of its rank
  gauge,   ///< is what it is now
  histogram,
};

/// One quantity: its number on the wire, its name for a dashboard, and who counts it.
struct metric_row {
  metric_number number;
  metric_kind kind = metric_kind::counter;
  std::string_view name; ///< behind the prefix: "time_to_first_token_seconds"; rows of one name differ in their label
  std::string_view help;
  station counted_at{};             ///< of a rank at other stations nothing is sent; role stub: every rank
  bool known = false;               ///< vLLM has it under this name
  std::string_view older = {};      ///< an earlier name in vLLM, which dashboards still ask for
  std::string_view label_name = {}; ///< of this row alone: "finished_reason"
  std::string_view label_value = {};
  double unit = 1;                            ///< one of the integer: 1e-9, when nanoseconds are shown as seconds
  std::span<const std::uint64_t> bounds = {}; ///< of a histogram, upper and rising, as integers
  bool about_peers = false;                   ///< a value for each rank that it is about, sent unless it is 0
};

namespace shared_metric {
inline constexpr metric_number transfer_bytes{1}; ///< of transfer kind 1; those of 2 and 3 follow
inline constexpr metric_number stale_dropped{4};
} // namespace shared_metric

struct program;
struct cluster_plan;

/// Rows of every program.
std::span<const metric_row> shared_metrics() noexcept;
/// Shared rows first, then those of the program.
std::vector<metric_row> metric_rows(const program& of);
/// What `rank` counts.
std::vector<metric_row> metrics_at(const cluster_plan& plan, rank_id rank);

} // namespace troupe::protocols
