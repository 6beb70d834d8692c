#pragma once

#include <optional>
#include <string>

#include "actors/cluster_sight.hpp"
#include "actors/serve/door/service_state.hpp"
#include "runtime/door/door.hpp"

/// What the door shows to those who operate the service. Contract: J7. Threads: the door's.
namespace troupe::actors {

/// Why a request that came now would not be served; none: it would be. The front's own word comes first, since it knows
/// of a drain or a loss before its supervisor tells.
std::optional<service_state::obstacle> obstacle_of(const service_state& service, const cluster_sight& sight,
                                                   protocols::time_point now);

/// Each rank with its state, last progress and cause.
door::response health_page(const std::optional<service_state::obstacle>& why, const cluster_sight& sight,
                           protocols::time_point now);

/// In Prometheus' text format. `query` "names=vllm": under vLLM's own names too.
door::response metrics_page(std::string_view query, const cluster_sight& sight, protocols::time_point now);

} // namespace troupe::actors
