#include "runtime/base/prometheus/plugin.hpp"

#include "runtime/base/plugin.hpp"
#include "runtime/base/prometheus/text_format.hpp"

TROUPE_PLUGIN

extern "C" __attribute__((visibility("default"))) void
troupe_write_prometheus_text(std::span<const troupe::protocols::metric_family> families, std::string& text) {
  text = troupe::base::prometheus_text::write(families);
}
