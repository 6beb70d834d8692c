#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "protocols/metrics/metric_row.hpp"
#include "protocols/metrics/view_board.hpp"

namespace troupe::protocols {

/// One series of a family. Values are in the unit in the family's name.
struct metric_sample {
  std::vector<std::pair<std::string, std::string>> labels; ///< in the order in which they are shown
  double value = 0;                                        ///< of a histogram: the sum
  std::vector<double> bounds;                              ///< of a histogram
  std::vector<std::uint64_t> cumulative;                   ///< of a histogram: the count up to each bound, then of all
  bool operator==(const metric_sample&) const = default;
};

/// All series with one name.
struct metric_family {
  std::string name;
  std::string help;
  metric_kind kind = metric_kind::counter;
  std::vector<metric_sample> samples;
  bool operator==(const metric_family&) const = default;
};

/// How a page of metrics names its series.
struct metric_names {
  std::string model;      ///< the label `model_name` of every series
  bool known_too = false; ///< also write rows that vLLM has under `vllm:`, where its dashboards look
};

/// The front's metrics for a monitoring system: what every rank counts, and what the supervisor knows of each rank.
/// Names begin with `troupe_`. A rank that no view has named yet has no series. A counter begins at 0 with each
/// generation of its rank; monitoring systems take that as a reset.
/// Contract: J7. Source: the names, units and buckets of requests are vLLM's (vllm/v1/metrics/loggers.py).
std::vector<metric_family> metric_families(const view_board& board, const metric_names& names, const readiness& judged,
                                           time_point now);

} // namespace troupe::protocols
