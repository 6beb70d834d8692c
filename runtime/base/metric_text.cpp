#include "runtime/base/metric_text.hpp"

#include "runtime/base/plugin.hpp"
#include "runtime/base/prometheus/plugin.hpp"

namespace troupe::base {

protocols::result<std::string> metric_text(std::span<const protocols::metric_family> families) {
  const auto found = plugin_symbol("prometheus", prometheus_text::write_symbol);
  if (!found)
    return tl::unexpected<protocols::failure>{found.error()};
  std::string text;
  reinterpret_cast<prometheus_text::write_function*> (*found)(families, text);
  return text;
}

} // namespace troupe::base
