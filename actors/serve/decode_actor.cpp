#include "actors/serve/decode_actor.hpp"

#include <algorithm>

#include "gpu/models/kv_writes.hpp"
#include "protocols/serve/fault_points.hpp"
#include "protocols/serve/flight_names.hpp"
#include "protocols/serve/machine_options.hpp"
#include "protocols/serve/roles.hpp"
#include "protocols/serve/serve_metrics.hpp"
#include "protocols/serve/serve_program.hpp"
#include "runtime/base/fault_point.hpp"

namespace troupe::actors {

using namespace protocols;

namespace {

gpu::models::kv_layout layout_here(const rank_context& rank, const cell_plan& cell) {
  return gpu::models::layout_at(rank.facts, rank.spec, cell, *cell.place_of(rank.self));
}

} // namespace

decode_actor::decode_actor(caf::actor_config& config, const rank_context& rank, cell_id cell, caf::actor executor,
                           admission_table& board)
    : cell_actor(config, rank, serve_actor::decode, cell, std::move(executor)), board_(board),
      member_(rank.plan, cell, rank.self,
              decode_member_options(rank.spec, rank.born,
                                    gpu::models::overlapping_cells(rank.facts, layout_here(rank, cell_), rank.plan,
                                                                   serve_role::prefill))) {
  if (leads())
    leader_.emplace(rank_.plan, cell, decode_leader_options(rank_.plan, rank_.spec, layout_here(rank_, cell_).blocks));
}

rank_actor::handlers decode_actor::member_handlers() {
  return on(
      [this](const envelope<reserve_blocks>& order) {
        TROUPE_FAULT_POINT_OF(serve_fault_points, "decode.preflight");
        perform(member_.on_reserve_blocks(order.body, rank_.now()));
      },
      [this](const write_arrived& news) {
        TROUPE_FAULT_POINT_OF(serve_fault_points, "decode.arrived");
        perform(member_.on_kv_arrived(news.room, news.from, rank_.now()));
      },
      [this](const envelope<release>& word) { perform(member_.on_release(word.body.request, rank_.now())); },
      [this](const envelope<blocks_returned>& word) { perform(member_.on_returned(word.source, word.body)); },
      [this](const lost& news) { member_.on_lost(news); },
      [this](const writers_gone& news) { perform(member_.on_writers_gone(news.ranks, news.bytes_may_arrive)); });
}

rank_actor::handlers decode_actor::leader_handlers() {
  return on(
      [this](const envelope<reserve_kv>& order) {
        TROUPE_FAULT_POINT_OF(serve_fault_points, "decode.preflight");
        perform(leader_->on_reserve(order.body, rank_.now()));
      },
      [this](const envelope<handover>& news) { perform(leader_->on_handover(news.body, rank_.now())); },
      from_place<arrived>(
          [this](const arrived& news, std::uint32_t place) { perform(leader_->on_arrived(news, place, rank_.now())); }),
      from_place<blocks_quiet>([this](const blocks_quiet& word, std::uint32_t place) {
        perform(leader_->on_quiet(word, place, rank_.now()));
      }),
      [this](const step_machine::voted& answer) {
        perform(leader_->on_vote(answer.request, answer.minimum, rank_.now()));
      },
      [this](const step_machine::given_up& news) { perform(leader_->on_given_up(news.request, news.cause)); },
      [this](const step_machine::left_batch& news) { perform(leader_->on_left(news.request, rank_.now())); },
      [this](const envelope<cancel>& word) { perform(leader_->on_cancel(word.body.request, rank_.now())); });
}

void decode_actor::on_tick() {
  TROUPE_FAULT_POINT_OF(serve_fault_points, "decode.idle");
  perform(member_.on_tick(rank_.now()));
  if (leader_)
    perform(leader_->on_tick(rank_.now()));
}

void decode_actor::perform(decode_leader_machine::effects what) {
  carry_out(std::move(what), to_executor());
  rank_.counted->set(serve_metric::kv_usage, leader_->kv_usage());
}

void decode_actor::perform(decode_member_machine::effects what) {
  if (rank_.arrivals)
    for (const auto& effect : what) {
      const auto* const message = std::get_if<send_message>(&effect);
      if (const auto* const grant = message ? std::get_if<grant_blocks>(&message->body) : nullptr)
        expect_arrival(message->to, *grant);
      if (const auto* const gone = std::get_if<room_forgotten>(&effect))
        rank_.arrivals->forget(completion_data(serve_transfer::kv, gone->room));
    }
  carry_out(std::move(what), to_board(board_));
}

void decode_actor::expect_arrival(rank_id writer, const grant_blocks& grant) {
  const auto blocks = (std::size_t{grant.prompt_tokens} + limits::kv_block_tokens - 1) / limits::kv_block_tokens;
  const auto of_prompt = std::span{grant.blocks}.first(std::min(blocks, grant.blocks.size()));
  for (const auto id : rank_.plan.cells_on(writer))
    if (const auto& cell = rank_.plan.cell(id); cell.role == serve_role::prefill)
      rank_.arrivals->expect(
          writer, completion_data(serve_transfer::kv, grant.room),
          {.region = rank_.regions.at("kv.decode").id,
           .pieces = gpu::models::kv_arrival(layout_at(rank_.facts, rank_.spec, cell, *cell.place_of(writer)),
                                             layout_here(rank_, cell_), of_prompt)});
}

} // namespace troupe::actors
