#include "actors/serve/encode_actor.hpp"

#include <algorithm>

#include "protocols/serve/fault_points.hpp"
#include "protocols/serve/flight_names.hpp"
#include "protocols/serve/machine_options.hpp"
#include "protocols/serve/serve_program.hpp"
#include "runtime/base/assert.hpp"
#include "runtime/base/fault_point.hpp"

namespace troupe::actors {

using namespace protocols;

encode_actor::encode_actor(caf::actor_config& config, const rank_context& rank, cell_id cell, caf::actor executor)
    : cell_actor(config, rank, serve_actor::encode, cell, std::move(executor)) {
  if (!leads()) {
    member_.emplace(cell_);
    return;
  }
  machine_.emplace(rank_.plan, cell, encode_options(rank_.plan, rank_.spec, rank_.facts.bounds(), rank_.born));
}

rank_actor::handlers encode_actor::member_handlers() {
  return on(
      [this](start_atom) {
        if (machine_)
          perform(machine_->start());
      },
      [this](const write_arrived& news) {
        if (machine_)
          perform(machine_->on_pixels(news.room, 0, rank_.now()));
        else
          carry_out(member_->on_pixels(news.room));
      },
      [this](const lost& news) {
        if (machine_)
          perform(machine_->on_lost(news));
      });
}

rank_actor::handlers encode_actor::leader_handlers() {
  return on(
      [this](const envelope<protocols::encode>& order) {
        TROUPE_FAULT_POINT_OF(serve_fault_points, "encode.preflight");
        perform(machine_->on_encode(order.body, rank_.now()));
      },
      from_place<arrived>([this](const arrived& news, std::uint32_t place) {
        perform(machine_->on_pixels(news.room, place, rank_.now()));
      }),
      [this](const envelope<grant_rows>& grant) { perform(machine_->on_grant(grant.source, grant.body, rank_.now())); },
      [this](const envelope<pixels_returned>& word) { perform(machine_->on_pixels_returned(word.body)); },
      [this](const envelope<revoke_rows>& word) { perform(machine_->on_revoke(word.source, word.body)); },
      [this](const encoded& news) {
        if (const auto found = sending_.find(news.room); found != sending_.end())
          found->second.ready = news.ready;
        perform(machine_->on_encoded(news.room, rank_.now()));
      },
      [this](const step_machine::tower_ended& news) {
        if (const auto found = sending_.find(news.room); found != sending_.end()) {
          report(found->second.request, phase::encode, news.began, news.ended);
          found->second.computed = news.ended;
          report_kv_sent(found);
        }
      },
      [this](const write_completed& end) {
        TROUPE_FAULT_POINT_OF(serve_fault_points, "encode.delivered");
        const auto now = rank_.now();
        perform(machine_->on_written(end.room, end.part, end.outcome, now));
        if (const auto found = sending_.find(end.room); found != sending_.end() && machine_->ended(end.room)) {
          found->second.delivered = now;
          report_kv_sent(found);
        }
      },
      [this](const envelope<cancel>& word) {
        std::erase_if(sending_, [&](const auto& each) { return each.second.request == word.body.request; });
        perform(machine_->on_cancel(word.body.request, rank_.now()));
      });
}

void encode_actor::on_tick() {
  if (!machine_)
    return;
  TROUPE_FAULT_POINT_OF(serve_fault_points, "encode.idle");
  perform(machine_->on_tick(rank_.now()));
  // Of a room that ended otherwise than by its writes nothing is left to be reported.
  std::erase_if(sending_, [&](const auto& each) { return !each.second.delivered && !machine_->knows(each.first); });
}

void encode_actor::perform(encode_machine::effects what) {
  carry_out(
      std::move(what),
      [this](const encode_machine::run_tower& tower) {
        sending_[tower.item.room] = shipment{tower.request, nullptr, std::nullopt, std::nullopt};
        caf::anon_send(executor_, tower);
      },
      [this](const encode_machine::write_rows& write) { write_rows(write); });
}

/// The rows may be delivered before the executor's thread has seen the tower end.
void encode_actor::report_kv_sent(std::map<room_id, shipment>::iterator what) {
  const auto& [request, ready, computed, delivered] = what->second;
  if (!computed || !delivered)
    return;
  report(request, phase::rows, std::min(*computed, *delivered), *delivered);
  sending_.erase(what);
}

void encode_actor::write_rows(const encode_machine::write_rows& write) {
  const auto found = sending_.find(write.room);
  TROUPE_ASSERT("E16", found != sending_.end());
  const auto& source = rank_.regions.at("tower");
  const auto target = rank_.peer_regions.at(write.to, "rows");
  const auto bytes = std::uint64_t{write.rows} * rank_.facts.row_elements() * sizeof(float);
  const auto posted =
      rank_.transfers->post({.to = write.to,
                             .source_region = source.id,
                             .target_region = target.region,
                             .pieces = {{.source_offset = write.rows_at.value * source.card.slot_bytes,
                                         .target_offset = write.target.slot.value * target.slot_bytes,
                                         .bytes = bytes}},
                             .completion_data = completion_data(serve_transfer::rows, write.room),
                             .lease = write.under,
                             .deadline = rank_.now() + std::chrono::milliseconds{rank_.spec.timeouts.transfer_ms},
                             .cookie = cookie_of(serve_transfer::rows, write.room, write.part)},
                            fabric::ready_event::behind(found->second.ready));
  if (!posted)
    caf::anon_send(this, write_completed{serve_transfer::rows, write.room, write.part, posted});
  TROUPE_FAULT_POINT_OF(serve_fault_points, "encode.rows_posted");
}

} // namespace troupe::actors
