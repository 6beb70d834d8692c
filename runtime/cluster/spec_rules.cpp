#include "runtime/cluster/spec_rules.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/program.hpp"
#include "protocols/cluster/recovery_deadlines.hpp"

namespace troupe::cluster {
namespace {

using protocols::cluster_spec;
using rules = std::vector<broken_rule>;

struct named_ms {
  const char* key;
  std::uint32_t ms;
};

void must_be_below(rules& broken, const char* rule, named_ms lower, named_ms upper) {
  if (lower.ms >= upper.ms)
    broken.push_back(
        {rule, fmt::format("timeouts.{}", upper.key),
         fmt::format("timeouts.{} ({}) must be above timeouts.{} ({})", upper.key, upper.ms, lower.key, lower.ms)});
}

void validate_timeouts(rules& broken, const cluster_spec::timeouts_section& t) {
  // A silent peer is reported before it is cut, cut before the cluster's own drain gives up.
  must_be_below(broken, "timeouts-rise", {"heartbeat_ms", t.heartbeat_ms}, {"suspect_ms", t.suspect_ms});
  must_be_below(broken, "timeouts-rise", {"suspect_ms", t.suspect_ms}, {"kill_ms", t.kill_ms});
  must_be_below(broken, "timeouts-rise", {"kill_ms", t.kill_ms}, {"drain_ms", t.drain_ms});
  must_be_below(broken, "timeouts-rise", {"kill_ms", t.kill_ms}, {"supervisor_ms", t.supervisor_ms});
  // What is inside ends first, so that the first cause is the one that is told.
  must_be_below(broken, "inner-before-outer", {"transfer_ms", t.transfer_ms}, {"room_ms", t.room_ms});
  must_be_below(broken, "inner-before-outer", {"room_ms", t.room_ms}, {"request_ms", t.request_ms});
  must_be_below(broken, "inner-before-outer", {"collective_ms", t.collective_ms}, {"request_ms", t.request_ms});
  // Else a stopped rank takes requests with it that another could have answered.
  must_be_below(broken, "inner-before-outer", {"kill_ms", t.kill_ms}, {"request_ms", t.request_ms});
  // Within a recovery, who keeps a newcomer out is named before the recovery as a whole is late (K14).
  const auto longest = protocols::recovery_deadlines{t}.longest().count();
  if (longest >= t.start_ms)
    broken.push_back({"inner-before-outer", "timeouts.start_ms",
                      fmt::format("timeouts.start_ms ({}) must be above {}: with timeouts.kill_ms ({}) ranks that stay "
                                  "are given so long to admit one that was restarted",
                                  t.start_ms, longest, t.kill_ms)});
}

void validate_limits(rules& broken, const cluster_spec& spec) {
  constexpr auto block = protocols::limits::kv_block_tokens;
  const auto tokens = spec.limits.kv_tokens_max;
  if (tokens % block != 0)
    broken.push_back({"whole-blocks", "limits.kv_tokens_max",
                      fmt::format("limits.kv_tokens_max ({}) must be a multiple of {}; nearest: {}", tokens, block,
                                  (tokens + block - 1) / block * block)});
}

/// Who can reach the door from elsewhere shows a key.
void validate_http(rules& broken, const cluster_spec& spec) {
  const auto& http = spec.http;
  const bool here = http.listen.empty() || http.listen.starts_with("127.") || http.listen.starts_with("[::1]:");
  if (!here && http.key_file.empty())
    broken.push_back({"keys-beyond-loopback", "http.key_file",
                      fmt::format("http.listen ({}) can be reached from other machines, so http.key_file must name a "
                                  "file of keys",
                                  http.listen)});
  if (http.certificate_file.empty() != http.private_key_file.empty())
    broken.push_back({"whole-certificate", "http.certificate_file",
                      "http.certificate_file and http.private_key_file go together: TLS needs both"});
  if (const auto colon = http.listen.rfind(':'); colon != std::string::npos) {
    if (std::stoul(http.listen.substr(colon + 1)) > 65'535)
      broken.push_back(
          {"ports-exist", "http.listen", fmt::format("http.listen ({}): ports end at 65535", http.listen)});
  }
}

void validate_ports(rules& broken, const cluster_spec& spec) {
  std::uint64_t ranks = 0;
  for (const auto& pool : spec.pools)
    ranks += std::uint64_t{pool.cells} * pool.ranks_per_cell();
  constexpr std::uint64_t port_most = 65'535;
  if (spec.lanes.tcp_port != 0 && spec.lanes.tcp_port + ranks - 1 > port_most)
    broken.push_back(
        {"ports-fit", "lanes.tcp_port",
         fmt::format("lanes.tcp_port ({}) + {} ranks goes beyond {}", spec.lanes.tcp_port, ranks, port_most)});
}

void validate_pools(rules& broken, const cluster_spec& spec) {
  const auto* const runs = protocols::find_program(spec.program);
  const bool works =
      std::ranges::any_of(spec.pools, [](const auto& pool) { return pool.role != protocols::role_kind::stub; });
  if (works && runs != nullptr && runs->runs_model && spec.model_path.empty())
    broken.push_back({"model-needed", "model", "model.path is needed by every role but stub"});
  if (const auto plan = protocols::make_plan(spec); !plan)
    broken.push_back({"layout", "pools", plan.error().what});
}

} // namespace

std::vector<broken_rule> validate_spec(const cluster_spec& spec) {
  rules broken;
  validate_timeouts(broken, spec.timeouts);
  validate_limits(broken, spec);
  validate_ports(broken, spec);
  validate_http(broken, spec);
  validate_pools(broken, spec);
  return broken;
}

} // namespace troupe::cluster
