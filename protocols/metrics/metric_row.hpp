#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "protocols/cluster/route.hpp"
#include "protocols/ids.hpp"

/// The quantities that ranks count. A rank counts integers in place and sends them by number; the front adds names.
namespace troupe::protocols {

/// Identifies a quantity on the wire. Numbers are append-only.
using metric_number = strong_id<struct metric_tag, std::uint16_t>;
/// The first number that a program may use; every program has the quantities below it.
inline constexpr metric_number program_metric_first{32};
inline constexpr std::size_t metrics_max = 128;
inline constexpr std::size_t metric_bounds_max = 31; ///< of one histogram

enum class metric_kind : std::uint8_t {
  counter, ///< only grows; begins at 0 with each generation of its rank
  gauge,   ///< the value of now
  histogram,
};

/// One quantity: its number on the wire, its name for a dashboard, and who counts it.
struct metric_row {
  metric_number number;
  metric_kind kind = metric_kind::counter;
  std::string_view name; ///< without prefix: "time_to_first_token_seconds"; rows with one name differ in their label
  std::string_view help;
  station counted_at{};             ///< where it is counted and sent from; role stub: every rank
  bool known = false;               ///< vLLM has it under this name
  std::string_view older = {};      ///< an earlier name in vLLM, which dashboards still use
  std::string_view label_name = {}; ///< a label that only this row has: "finished_reason"
  std::string_view label_value = {};
  double unit = 1;                            ///< what the integer 1 means: 1e-9 where nanoseconds are shown as seconds
  std::span<const std::uint64_t> bounds = {}; ///< of a histogram: upper bounds, rising, as integers
  bool about_peers = false;                   ///< has a value for each other rank; a value of 0 is not sent
};

namespace shared_metric {
inline constexpr metric_number transfer_bytes{1}; ///< of transfer kind 1; kinds 2 and 3 have the next two numbers
inline constexpr metric_number stale_dropped{4};
} // namespace shared_metric

struct program;
struct cluster_plan;

/// The rows that every program has.
std::span<const metric_row> shared_metrics() noexcept;
/// Shared rows first, then those of the program.
std::vector<metric_row> metric_rows(const program& of);
/// What `rank` counts.
std::vector<metric_row> metrics_at(const cluster_plan& plan, rank_id rank);

} // namespace troupe::protocols
