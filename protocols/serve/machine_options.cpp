#include "protocols/serve/machine_options.hpp"

#include <chrono>
#include <utility>

#include "protocols/limits.hpp"
#include "protocols/serve/roles.hpp"

namespace troupe::protocols {

using std::chrono::milliseconds;

front_machine::options front_options(const cluster_plan& plan, const cluster_spec& spec, const model_bounds& model) {
  const auto encode_cells = static_cast<std::uint32_t>(plan.cells_of(serve_role::encode).size());
  return {.in_flight_max = spec.limits.in_flight_max,
          .context_max = model.context_max,
          .kv_tokens_max = spec.limits.kv_tokens_max / limits::kv_block_tokens * limits::kv_block_tokens,
          .row_slots = spec.limits.row_slots,
          .pixel_slots = spec.limits.pixel_slots,
          .staging_slots = spec.limits.pixel_slots * encode_cells,
          .picture_tokens_max = model.picture_tokens_max,
          .vocabulary = model.vocabulary,
          .end_tokens = model.end_tokens,
          .request_deadline = milliseconds{spec.timeouts.request_ms},
          .ack_deadline = limits::starved_patience * milliseconds{spec.timeouts.kill_ms},
          .quiet_after = milliseconds{spec.timeouts.suspect_ms},
          // The rest of drain_ms is for the other ranks, which leave after the front.
          .drain_deadline = milliseconds{spec.timeouts.drain_ms / 4 * 3}};
}

session_machine::options session_options(const cluster_spec& spec) {
  const auto& bounds = spec.limits;
  return {.arriving_max = 2 * bounds.in_flight_max,
          .client_questions_max = bounds.client_questions_max(),
          .ingests_max = limits::ingests_max,
          .picture_bytes_max = bounds.picture_bytes_max,
          .client_bytes_max = bounds.client_bytes_max(),
          .bytes_max = limits::clients_share * bounds.client_bytes_max(),
          .request_deadline = milliseconds{spec.timeouts.request_ms}};
}

ingest_machine::options ingest_options(const cluster_spec& spec) {
  return {.readers = limits::readers,
          .readers_large = limits::readers_large,
          .large_pixels = limits::large_question_pixels,
          .questions_max = 2 * std::size_t{spec.limits.in_flight_max},
          .reading_deadline = limits::reading_deadline};
}

encode_machine::options encode_options(const cluster_plan& plan, const cluster_spec& spec, const model_bounds& model,
                                       generation born) {
  return {.front = plan.front(),
          .born = born,
          .pixel_slots = spec.limits.pixel_slots,
          .row_slots = spec.limits.row_slots,
          .row_elements = model.row_elements,
          .row_slot_tokens = model.picture_tokens_max,
          .room_deadline = milliseconds{spec.timeouts.room_ms},
          .rooms_max = spec.limits.role_requests_max() * limits::pictures_per_request_max};
}

prefill_leader_machine::options prefill_leader_options(const cluster_plan& plan, const cluster_spec& spec,
                                                       std::uint32_t kv_blocks) {
  return {.front = plan.front(),
          .kv_blocks = kv_blocks,
          .row_slots = spec.limits.row_slots,
          .requests_max = spec.limits.role_requests_max()};
}

prefill_member_machine::options prefill_member_options(const cluster_spec& spec, const model_bounds& model,
                                                       generation born, kv_overlap overlap) {
  return {.born = born,
          .row_elements = model.row_elements,
          .room_deadline = milliseconds{spec.timeouts.room_ms},
          .rooms_max = spec.limits.role_requests_max() * limits::pictures_per_request_max,
          .kv_dtype = spec.model_dtype,
          .overlap = std::move(overlap)};
}

decode_leader_machine::options decode_leader_options(const cluster_plan& plan, const cluster_spec& spec,
                                                     std::uint32_t kv_blocks) {
  return {.front = plan.front(),
          .kv_blocks = kv_blocks,
          .room_deadline = milliseconds{spec.timeouts.room_ms},
          .requests_max = spec.limits.role_requests_max()};
}

decode_member_machine::options decode_member_options(const cluster_spec& spec, generation born, kv_overlap overlap) {
  return {.born = born,
          .rooms_max = spec.limits.role_requests_max(),
          .kv_dtype = spec.model_dtype,
          .overlap = std::move(overlap)};
}

} // namespace troupe::protocols
