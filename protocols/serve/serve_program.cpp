#include "protocols/serve/serve_program.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "protocols/limits.hpp"
#include "protocols/serve/fault_points.hpp"
#include "protocols/serve/flight_names.hpp"
#include "protocols/serve/message_types.hpp"
#include "protocols/serve/roles.hpp"
#include "protocols/serve/routes.hpp"
#include "protocols/serve/serve_metrics.hpp"

namespace troupe::protocols {

namespace {

namespace at = stations;
using namespace serve_role;

constexpr std::array jobs_of_all{front, encode, prefill, decode};

constexpr std::array role_rows{
    role_row{.role = front, .name = "front", .one_rank = true, .jobs = {}},
    role_row{
        .role = encode, .name = "encode", .computes = true, .loads = {.tower = true}, .restarts = true, .jobs = {}},
    role_row{
        .role = prefill, .name = "prefill", .computes = true, .loads = {.text = true}, .restarts = true, .jobs = {}},
    role_row{.role = decode, .name = "decode", .computes = true, .loads = {.text = true}, .restarts = true, .jobs = {}},
    role_row{.role = all,
             .name = "all",
             .computes = true,
             .loads = {.text = true, .tower = true},
             .one_rank = true,
             .jobs = jobs_of_all},
};

constexpr std::array contacts{contact{encode, prefill}, contact{prefill, decode}};

constexpr std::array region_rows{
    region_row{.purpose = "pixels",
               .owner = at::encode_rank,
               .source = "staging",
               .writer = at::front,
               .words = "pictures front->encode"},
    region_row{.purpose = "rows",
               .owner = at::prefill_rank,
               .source = "tower",
               .writer = at::encode_leader,
               .words = "rows encode->prefill"},
    region_row{.purpose = "kv.decode",
               .owner = at::decode_rank,
               .source = "kv.prefill",
               .writer = at::prefill_rank,
               .words = "keys, values to decode",
               .on_device = true},
};

constexpr std::array transfer_rows{
    transfer_row{serve_transfer::pixels, front, encode, "pixels"},
    transfer_row{serve_transfer::rows, encode, prefill, "rows"},
    transfer_row{serve_transfer::kv, prefill, decode, "kv"},
};

constexpr std::array message_rows{
    message_row{serve_type::submit, "submit"},
    message_row{serve_type::encode, "encode"},
    message_row{serve_type::tokens, "tokens"},
    message_row{serve_type::timing, "timing"},
    message_row{serve_type::reserve_kv, "reserve_kv"},
    message_row{serve_type::reserve_rows, "reserve_rows"},
    message_row{serve_type::reserve_blocks, "reserve_blocks"},
    message_row{serve_type::grant_rows, "grant_rows"},
    message_row{serve_type::grant_blocks, "grant_blocks"},
    message_row{serve_type::grant_pixels, "grant_pixels"},
    message_row{serve_type::arrived, "arrived"},
    message_row{serve_type::kv_sent, "kv_sent"},
    message_row{serve_type::handover, "handover"},
    message_row{serve_type::release, "release"},
    message_row{serve_type::revoke_rows, "revoke_rows"},
    message_row{serve_type::revoke_blocks, "revoke_blocks"},
    message_row{serve_type::pixels_returned, "pixels_returned"},
    message_row{serve_type::rows_returned, "rows_returned"},
    message_row{serve_type::blocks_returned, "blocks_returned"},
    message_row{serve_type::rows_quiet, "rows_quiet"},
    message_row{serve_type::blocks_quiet, "blocks_quiet"},
    message_row{serve_type::ack, "ack"},
    message_row{serve_type::nack, "nack"},
    message_row{serve_type::cancel, "cancel"},
    message_row{serve_type::ask, "ask"},
    message_row{serve_type::picture_chunk, "picture_chunk"},
    message_row{serve_type::accepted, "accepted"},
    message_row{serve_type::answer, "answer"},
    message_row{serve_type::finished, "finished"},
    message_row{serve_type::refused, "refused"},
    message_row{serve_type::withdraw, "withdraw"},
};

/// Four roles, ingest and its readers, three executors.
constexpr std::size_t watched_max = 4 + 1 + limits::readers + 3;

constexpr std::string_view layouts =
    "one front pool with prefill and decode pools (and encode pools for pictures), one pool of role all, or pools of "
    "role stub";

result<void> validate_pools(const cluster_spec& spec) {
  const auto pools_of = [&](role_kind role) { return std::ranges::count(spec.pools, role, &pool_spec::role); };
  const auto invalid = [](const std::string& what) {
    return fail(fault::config_invalid, what + "; valid are: " + std::string{layouts});
  };
  if (pools_of(all) > 0)
    return spec.pools.size() == 1 ? result<void>{} : invalid("role all stands beside other pools");
  if (pools_of(front) > 1)
    return invalid("two pools of role front");
  for (const auto role : {front, prefill, decode})
    if (pools_of(role) == 0)
      return invalid("no pool of role " + std::string{name(role)});
  return {};
}

constexpr program serve{
    .name = "serve",
    .runs_model = true,
    .roles = role_rows,
    .front = front,
    .contacts = contacts,
    .streams = decode,
    .routes = serve_routes,
    .regions = region_rows,
    .transfers = transfer_rows,
    .messages = message_rows,
    .fault_points = serve_fault_points,
    .settings = {},
    .actors = serve_actors,
    .phases = serve_phases,
    .watched_max = watched_max,
    .metrics = serve_metric::rows,
    .layouts = layouts,
    .validate_pools = validate_pools,
};

} // namespace

const program& serve_program() noexcept {
  return serve;
}

} // namespace troupe::protocols
