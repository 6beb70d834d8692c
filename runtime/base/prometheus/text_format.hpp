#pragma once

#include <span>
#include <string>

#include "protocols/metrics/metric_family.hpp"

namespace troupe::base::prometheus_text {

/// Text format 0.0.4.
std::string write(std::span<const protocols::metric_family> families);

} // namespace troupe::base::prometheus_text
