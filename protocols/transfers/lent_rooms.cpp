#include "protocols/transfers/lent_rooms.hpp"

#include <algorithm>

namespace troupe::protocols {

namespace {

bool contains(std::span<const rank_id> ranks, rank_id one) {
  return std::find(ranks.begin(), ranks.end(), one) != ranks.end();
}

} // namespace

void lent_rooms::lend(request_id request, room_id room, const std::vector<rank_id>& writers) {
  const keeps_invariants checked{*this};
  auto& lent = rooms_[room];
  lent.request = request;
  for (const auto rank : writers)
    lent.writers.emplace(rank, writer{});
}

lent_rooms::writer* lent_rooms::find(room_id room, rank_id from) {
  const auto found = rooms_.find(room);
  if (found == rooms_.end())
    return nullptr;
  const auto one = found->second.writers.find(from);
  return one == found->second.writers.end() ? nullptr : &one->second;
}

bool lent_rooms::on_arrived(room_id room, rank_id from) {
  const keeps_invariants checked{*this};
  const auto* const one = find(room, from);
  if (one == nullptr || one->at == state::rests)
    return false;
  rooms_.at(room).writers.erase(from);
  return true;
}

void lent_rooms::on_returned(room_id room, rank_id from, bool settled) {
  const keeps_invariants checked{*this};
  auto* const one = find(room, from);
  if (one == nullptr || one->at != state::holds)
    return;
  if (settled)
    rooms_.at(room).writers.erase(from);
  else
    rest(*one);
}

void lent_rooms::rest(writer& one) const {
  one.at = state::rests;
  one.until = time_.ran() + limits::slot_quarantine;
}

void lent_rooms::on_lost(std::span<const rank_id> ranks) {
  const keeps_invariants checked{*this};
  for (auto& [id, room] : rooms_)
    for (auto& [rank, one] : room.writers)
      if (one.at == state::holds && contains(ranks, rank))
        one.at = state::lost;
}

/// Also what was never heard to be lost: who has been reaped writes no more, whatever was said before.
void lent_rooms::on_gone(std::span<const rank_id> ranks, bool bytes_may_arrive) {
  const keeps_invariants checked{*this};
  for (auto& [id, room] : rooms_)
    for (const auto rank : ranks) {
      const auto found = room.writers.find(rank);
      if (found == room.writers.end() || found->second.at == state::rests)
        continue;
      if (bytes_may_arrive)
        rest(found->second);
      else
        room.writers.erase(found);
    }
}

std::vector<std::pair<room_id, rank_id>> lent_rooms::end(request_id request) {
  const keeps_invariants checked{*this};
  std::vector<std::pair<room_id, rank_id>> out;
  over_.insert(request);
  for (const auto& [id, room] : rooms_)
    if (room.request == request)
      for (const auto& [rank, one] : room.writers)
        if (one.at == state::holds)
          out.emplace_back(id, rank);
  return out;
}

void lent_rooms::on_tick(time_point now) {
  const keeps_invariants checked{*this};
  time_.advance(now);
  for (auto& [id, room] : rooms_)
    std::erase_if(room.writers,
                  [&](const auto& each) { return each.second.at == state::rests && each.second.until <= time_.ran(); });
}

std::vector<request_id> lent_rooms::take_quiet() {
  const keeps_invariants checked{*this};
  std::vector<request_id> out;
  if (over_.empty())
    return out;
  std::set<request_id> written;
  for (const auto& [id, room] : rooms_)
    if (!room.writers.empty())
      written.insert(room.request);
  for (const auto request : over_)
    if (!written.contains(request))
      out.push_back(request);
  for (const auto request : out)
    over_.erase(request);
  std::erase_if(rooms_,
                [&](const auto& each) { return std::find(out.begin(), out.end(), each.second.request) != out.end(); });
  return out;
}

void lent_rooms::check_invariants() const {
  for (const auto& [id, room] : rooms_)
    for (const auto& [rank, one] : room.writers)
      TROUPE_ASSERT("K2", (one.at == state::rests) == (one.until != duration{}));
}

} // namespace troupe::protocols
