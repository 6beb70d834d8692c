#pragma once

#include <span>
#include <string>

#include "protocols/metrics/metric_family.hpp"

/// What libtroupe_prometheus.so offers: the text that Prometheus reads.
namespace troupe::base::prometheus_text {

inline constexpr const char* write_symbol = "troupe_write_prometheus_text";
using write_function = void(std::span<const protocols::metric_family> families, std::string& text);

} // namespace troupe::base::prometheus_text
