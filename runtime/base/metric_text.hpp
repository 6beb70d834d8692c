#pragma once

#include <span>
#include <string>

#include "protocols/fault.hpp"
#include "protocols/metrics/metric_family.hpp"

namespace troupe::base {

/// What a monitoring system reads of it, by its media type.
inline constexpr const char* metric_text_type = "text/plain; version=0.0.4; charset=utf-8";

/// The families in Prometheus' text format, by prometheus-cpp in a plug-in of its own: only a front whose metrics
/// somebody reads loads it. Threads: any. Errors: config_invalid, no such plug-in.
protocols::result<std::string> metric_text(std::span<const protocols::metric_family> families);

} // namespace troupe::base
