#include "runtime/base/prometheus/text_format.hpp"

#include <limits>
#include <sstream>
#include <vector>

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

namespace troupe::base::prometheus_text {

namespace {

using protocols::metric_kind;

prometheus::MetricType type_of(metric_kind kind) noexcept {
  switch (kind) {
  case metric_kind::counter:
    return prometheus::MetricType::Counter;
  case metric_kind::gauge:
    return prometheus::MetricType::Gauge;
  case metric_kind::histogram:
    return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

prometheus::ClientMetric metric_of(const protocols::metric_sample& sample, metric_kind kind) {
  prometheus::ClientMetric out;
  for (const auto& [name, value] : sample.labels)
    out.label.push_back({name, value});
  switch (kind) {
  case metric_kind::counter:
    out.counter.value = sample.value;
    break;
  case metric_kind::gauge:
    out.gauge.value = sample.value;
    break;
  case metric_kind::histogram:
    out.histogram.sample_sum = sample.value;
    out.histogram.sample_count = sample.cumulative.empty() ? 0 : sample.cumulative.back();
    for (std::size_t i = 0; i < sample.cumulative.size(); ++i)
      out.histogram.bucket.push_back({sample.cumulative[i], i < sample.bounds.size()
                                                                ? sample.bounds[i]
                                                                : std::numeric_limits<double>::infinity()});
    break;
  }
  return out;
}

} // namespace

std::string write(std::span<const protocols::metric_family> families) {
  std::vector<prometheus::MetricFamily> all;
  for (const auto& family : families) {
    auto& out = all.emplace_back();
    out.name = family.name;
    out.help = family.help;
    out.type = type_of(family.kind);
    for (const auto& sample : family.samples)
      out.metric.push_back(metric_of(sample, family.kind));
  }
  std::ostringstream text;
  prometheus::TextSerializer{}.Serialize(text, all);
  return std::move(text).str();
}

} // namespace troupe::base::prometheus_text
