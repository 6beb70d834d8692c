#pragma once

#include <optional>
#include <string>

#include "actors/cluster_sight.hpp"
#include "actors/serve/door/service_state.hpp"
#include "runtime/door/door.hpp"

/// The pages of the door for operators and load balancers. Contract: J7. Threads: the door's.
namespace troupe::actors {

/// Why a request that comes now would not be served; none: it would be. The front's own state is asked first, since it
/// shows a drain or a loss before the next view of the supervisor does.
std::optional<service_state::obstacle> obstacle_of(const service_state& service, const cluster_sight& sight,
                                                   protocols::time_point now);

/// Each rank's state, last progress, and the cause of its last loss, as JSON.
door::response health_page(const std::optional<service_state::obstacle>& why, const cluster_sight& sight,
                           protocols::time_point now);

/// All metrics in Prometheus' text format. With `query` "names=vllm", also under vLLM's names. Any other query is an
/// error 400.
door::response metrics_page(std::string_view query, const cluster_sight& sight, protocols::time_point now);

} // namespace troupe::actors
