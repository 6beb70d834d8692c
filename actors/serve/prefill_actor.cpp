#include "actors/serve/prefill_actor.hpp"

#include "gpu/models/kv_writes.hpp"
#include "protocols/serve/fault_points.hpp"
#include "protocols/serve/flight_names.hpp"
#include "protocols/serve/machine_options.hpp"
#include "protocols/serve/roles.hpp"
#include "protocols/serve/serve_program.hpp"
#include "runtime/base/assert.hpp"
#include "runtime/base/fault_point.hpp"

namespace troupe::actors {

using namespace protocols;

prefill_actor::prefill_actor(caf::actor_config& config, const rank_context& rank, cell_id cell, caf::actor executor,
                             admission_table& board)
    : cell_actor(config, rank, serve_actor::prefill, cell, std::move(executor)), board_(board),
      layout_(gpu::models::layout_at(rank.facts, rank.spec, cell_, place_)),
      member_(
          rank.plan, cell, rank.self,
          prefill_member_options(rank.spec, rank.facts.bounds(), rank.born,
                                 gpu::models::overlapping_cells(rank.facts, layout_, rank.plan, serve_role::decode))) {
  if (leads())
    leader_.emplace(rank_.plan, cell, prefill_leader_options(rank_.plan, rank_.spec, layout_.blocks));
}

rank_actor::handlers prefill_actor::member_handlers() {
  return on(
      [this](const envelope<reserve_rows>& order) {
        TROUPE_FAULT_POINT_OF(serve_fault_points, "prefill.preflight");
        perform(member_.on_reserve_rows(order.body, rank_.now()));
      },
      [this](const write_arrived& news) { perform(member_.on_rows_arrived(news.room, news.from, rank_.now())); },
      [this](const envelope<rows_returned>& word) { perform(member_.on_rows_returned(word.source, word.body)); },
      [this](const envelope<revoke_blocks>& word) { perform(member_.on_revoke(word.source, word.body)); },
      [this](prefilled& news) {
        ready_[news.kv_room] = {news.request, std::move(news.ready)};
        perform(
            member_.on_prefilled(news.request, news.kv_room, news.decode_cell, std::move(news.blocks), rank_.now()));
      },
      [this](const envelope<grant_blocks>& grant) { perform(member_.on_grant(grant.source, grant.body, rank_.now())); },
      [this](const write_completed& end) {
        TROUPE_FAULT_POINT_OF(serve_fault_points, "prefill.delivered");
        perform(member_.on_written(end.room, end.part, end.outcome, rank_.now()));
      },
      [this](const envelope<release>& word) {
        perform(member_.on_release(word.body.request, rank_.now()));
        std::erase_if(ready_, [&](const auto& each) { return each.second.first == word.body.request; });
      },
      [this](const lost& news) { perform(member_.on_lost(news)); },
      [this](const writers_gone& news) { perform(member_.on_writers_gone(news.ranks, news.bytes_may_arrive)); });
}

rank_actor::handlers prefill_actor::leader_handlers() {
  return on(
      [this](const envelope<submit>& work) {
        TROUPE_FAULT_POINT_OF(serve_fault_points, "prefill.preflight");
        perform(leader_->on_submit(work.body, rank_.now()));
      },
      from_place<arrived>(
          [this](const arrived& news, std::uint32_t place) { perform(leader_->on_arrived(news, place, rank_.now())); }),
      from_place<rows_quiet>([this](const rows_quiet& word, std::uint32_t place) {
        perform(leader_->on_quiet(word, place, rank_.now()));
      }),
      [this](const step_machine::voted& answer) {
        perform(leader_->on_vote(answer.request, answer.minimum, rank_.now()));
      },
      [this](step_machine::first_token& token) {
        report(token.request, phase::prefill, token.began, token.ended);
        sending_since_[token.request] = token.ended;
        perform(leader_->on_prefilled(token.request, token.id, token.position_delta, token.digest, token.ended,
                                      std::move(token.logprobs)));
        report_kv_sent(token.request); // before the host had the token, perhaps
      },
      [this](const step_machine::given_up& news) {
        perform(leader_->on_given_up(news.request, news.cause, news.ran_whole, rank_.now()));
      },
      from_place<kv_sent>([this](const kv_sent& news, std::uint32_t place) {
        perform(leader_->on_kv_sent(news, place, rank_.now()));
        report_kv_sent(news.request);
      }),
      [this](const envelope<cancel>& word) { perform(leader_->on_cancel(word.body.request, rank_.now())); });
}

void prefill_actor::on_tick() {
  TROUPE_FAULT_POINT_OF(serve_fault_points, "prefill.idle");
  perform(member_.on_tick(rank_.now()));
  // Also of a request that was released before its prompt had been computed.
  std::erase_if(ready_, [&](const auto& each) { return !member_.may_write(each.first); });
  if (leader_)
    perform(leader_->on_tick(rank_.now()));
}

void prefill_actor::report_kv_sent(request_id request) {
  const auto since = sending_since_.find(request);
  if (since == sending_since_.end() || !leader_->ended(request))
    return;
  report(request, phase::kv, since->second, rank_.now());
  sending_since_.erase(since);
}

void prefill_actor::perform(prefill_leader_machine::effects what) {
  carry_out(std::move(what), to_executor());
}

void prefill_actor::perform(prefill_member_machine::effects what) {
  carry_out(std::move(what), to_board(board_),
            [this](const prefill_member_machine::write_blocks& write) { write_blocks(write); });
}

void prefill_actor::write_blocks(const prefill_member_machine::write_blocks& write) {
  const auto& receivers = rank_.plan.cell(write.decode_cell);
  const auto to = receivers.ranks[write.part];
  const auto target = gpu::models::layout_at(rank_.facts, rank_.spec, receivers, write.part);
  const auto ready = ready_.find(write.room);
  TROUPE_ASSERT("E16", ready != ready_.end());
  const auto posted =
      rank_.transfers->post({.to = to,
                             .source_region = rank_.regions.at("kv.prefill").id,
                             .target_region = rank_.peer_regions.at(to, "kv.decode").region,
                             .pieces = gpu::models::kv_pieces(layout_, write.blocks, target, write.target),
                             .completion_data = completion_data(serve_transfer::kv, write.room),
                             .lease = write.under,
                             .deadline = rank_.now() + std::chrono::milliseconds{rank_.spec.timeouts.transfer_ms},
                             .cookie = cookie_of(serve_transfer::kv, write.room, write.part)},
                            fabric::ready_event::behind(ready->second.second));
  if (!posted)
    caf::anon_send(this, write_completed{serve_transfer::kv, write.room, write.part, posted});
  TROUPE_FAULT_POINT_OF(serve_fault_points, "prefill.blocks_posted");
}

} // namespace troupe::actors
