#include "protocols/metrics/metric_row.hpp"

#include <algorithm>
#include <array>
#include <iterator>

#include "protocols/cluster/program.hpp"

namespace troupe::protocols {

namespace {

constexpr std::string_view transfer_help = "Bytes of one-sided writes that the engine has taken, by edge.";

constexpr metric_row transfer_row_of(std::uint16_t kind) noexcept {
  return {.number = metric_number{static_cast<std::uint16_t>(shared_metric::transfer_bytes.value + kind - 1)},
          .name = "transfer_bytes_total",
          .help = transfer_help,
          .about_peers = true};
}

constexpr std::array rows{
    transfer_row_of(1), transfer_row_of(2), transfer_row_of(3),
    metric_row{.number = shared_metric::stale_dropped,
               .name = "stale_dropped_total",
               .help = "Messages that were dropped because a rank that they speak of was lost since (D2)."}};

bool counts(const cluster_plan& plan, rank_id rank, const metric_row& row) {
  return row.counted_at.role == role_kind::stub || stands_at(plan, rank, row.counted_at);
}

} // namespace

std::span<const metric_row> shared_metrics() noexcept {
  return rows;
}

std::vector<metric_row> metric_rows(const program& of) {
  std::vector<metric_row> all{rows.begin(), rows.end()};
  all.insert(all.end(), of.metrics.begin(), of.metrics.end());
  for (auto& row : all) // the label of a write is the program's name for its transfer kind
    for (const auto& transfer : of.transfers)
      if (row.number.value == shared_metric::transfer_bytes.value + static_cast<std::uint16_t>(transfer.kind) - 1) {
        row.label_name = "edge";
        row.label_value = transfer.name;
      }
  return all;
}

std::vector<metric_row> metrics_at(const cluster_plan& plan, rank_id rank) {
  std::vector<metric_row> here;
  std::ranges::copy_if(metric_rows(*plan.of), std::back_inserter(here),
                       [&](const metric_row& row) { return counts(plan, rank, row); });
  return here;
}

} // namespace troupe::protocols
