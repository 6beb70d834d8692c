#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/serve/decode_machine.hpp"
#include "protocols/serve/encode_machine.hpp"
#include "protocols/serve/front_machine.hpp"
#include "protocols/serve/ingest_machine.hpp"
#include "protocols/serve/model_bounds.hpp"
#include "protocols/serve/prefill_machine.hpp"
#include "protocols/serve/session_machine.hpp"

/// What each machine of `serve` is bounded by, worked out from spec, plan and model: the same for the actors that run
/// the machines and for the simulator.
namespace troupe::protocols {

/// By cell, the places that share heads and layers with a rank.
using kv_overlap = std::map<cell_id, std::vector<std::uint32_t>>;

front_machine::options front_options(const cluster_plan& plan, const cluster_spec& spec, const model_bounds& model);
session_machine::options session_options(const cluster_spec& spec);
ingest_machine::options ingest_options(const cluster_spec& spec);
encode_machine::options encode_options(const cluster_plan& plan, const cluster_spec& spec, const model_bounds& model,
                                       generation born);
/// `kv_blocks`: of a rank's pool.
prefill_leader_machine::options prefill_leader_options(const cluster_plan& plan, const cluster_spec& spec,
                                                       std::uint32_t kv_blocks);
prefill_member_machine::options prefill_member_options(const cluster_spec& spec, const model_bounds& model,
                                                       generation born, kv_overlap overlap);
decode_leader_machine::options decode_leader_options(const cluster_plan& plan, const cluster_spec& spec,
                                                     std::uint32_t kv_blocks);
decode_member_machine::options decode_member_options(const cluster_spec& spec, generation born, kv_overlap overlap);

} // namespace troupe::protocols
