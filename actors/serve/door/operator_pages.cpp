#include "actors/serve/door/operator_pages.hpp"

#include <fmt/format.h>

#include "runtime/base/metric_text.hpp"

namespace troupe::actors {

using namespace protocols;

std::optional<service_state::obstacle> obstacle_of(const service_state& service, const cluster_sight& sight,
                                                   time_point now) {
  if (auto why = service.obstacle_now())
    return why;
  if (auto judged = sight.ready(now); !judged.ready)
    return service_state::obstacle{"not_ready", std::move(judged.reason)};
  return std::nullopt;
}

door::response health_page(const std::optional<service_state::obstacle>& why, const cluster_sight& sight,
                           time_point now) {
  const auto add_text = [](std::string& out, std::string_view key, std::string_view text) {
    out += fmt::format(R"(,"{}":)", key);
    door::append_json_text(out, text);
  };
  const auto add_known = [&](std::string& out, std::string_view key, std::string_view text) {
    if (text.empty())
      out += fmt::format(R"(,"{}":null)", key);
    else
      add_text(out, key, text);
  };
  std::string out = fmt::format(R"({{"ready":{})", !why);
  add_text(out, "state", why ? why->code : "ready");
  add_known(out, "reason", why ? why->what : "");
  out += R"(,"ranks":[)";
  for (const auto& row : sight.health(now)) {
    out += fmt::format(R"({}{{"rank":{})", row.rank.value == 0 ? "" : ",", row.rank.value);
    add_text(out, "label", row.label);
    add_text(out, "role", row.role);
    add_known(out, "host", row.host);
    out += fmt::format(R"(,"generation":{})", row.generation);
    add_text(out, "state", row.state);
    add_known(out, "trouble", row.trouble);
    out += fmt::format(R"(,"last_progress_ms":{},"restarts":{})", row.progress_age_ms, row.restarts);
    add_known(out, "cause", row.cause);
    out += '}';
  }
  return {.status = why ? 503U : 200U, .content_type = "application/json", .body = out + "]}", .headers = {}};
}

door::response metrics_page(std::string_view query, const cluster_sight& sight, time_point now) {
  if (!query.empty() && query != "names=vllm")
    return door::error_response(400, "this query is not known; valid: none, or names=vllm for vLLM's names too",
                                "invalid_value", "names");
  auto text = base::metric_text(sight.families(!query.empty(), now));
  if (!text)
    return door::error_response(500, to_string(text.error()), "metrics_unavailable");
  return {.status = 200, .content_type = base::metric_text_type, .body = *std::move(text), .headers = {}};
}

} // namespace troupe::actors
