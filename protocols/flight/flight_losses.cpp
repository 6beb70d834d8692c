#include "protocols/flight/flight_losses.hpp"

namespace troupe::protocols {

void flight_losses::read(const flight_story& of_supervisor) {
  for (const auto& record : of_supervisor.records) {
    if (record.action == flight_action::verdict) {
      verdict_ = record;
      recovered_ = false;
      losses_.push_back({.first = record.peer, .born = of(record.peer).born, .next = {}, .end = {}});
    } else if (record.action == flight_action::spawned)
      on_spawned(record);
    else if (record.action == flight_action::killed)
      ranks_[record.peer].put_down = true;
    else if (record.action == flight_action::ended)
      ranks_[record.peer].end = record;
  }
}

void flight_losses::on_spawned(const flight_record& what) {
  const generation born{what.number};
  const auto before = of(what.peer);
  for (auto& each : losses_) {
    if (!each.next)
      each.next = born;
    if (each.first == what.peer && each.next == born) {
      each.end = before.end;
      each.put_down = before.put_down;
    }
  }
  ranks_[what.peer] = {.born = born, .end = {}}; // what came before was another generation's
  if (verdict_ && verdict_->peer == what.peer) {
    verdict_.reset();
    recovered_ = true;
  }
}

flight_losses::rank_seen flight_losses::of(rank_id rank) const {
  const auto found = ranks_.find(rank);
  return found == ranks_.end() ? rank_seen{} : found->second;
}

} // namespace troupe::protocols
