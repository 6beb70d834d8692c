#include "tests/sim/checks.hpp"

#include <algorithm>

#include "tests/sim/rank_main.hpp"
#include "tests/sim/supervisor.hpp"
#include "tests/sim/world.hpp"

namespace troupe::sim {

using namespace protocols;

void checks::on_landing(rank_id from, rank_id to, generation born, area where, const sim_region& region,
                        std::uint64_t offset, std::uint64_t bytes, room_id room) {
  for (auto at = offset; at < offset + bytes; at += region.slot_bytes) {
    const slot_index slot{static_cast<std::uint32_t>(at / region.slot_bytes)};
    room_id holder = room;
    if (where == area::pixels) {
      if (const auto found = pixels_.find({to, born, slot}); found != pixels_.end())
        holder = found->second;
    } else
      holder = region.holders.at(slot.value);
    if (holder != room)
      return all_.past.violate("own memory", all_.plan().rank(from).label + " writes room " +
                                                 std::to_string(room.value) + " into slot " +
                                                 std::to_string(slot.value) + " of " + all_.plan().rank(to).label +
                                                 ", which has been given to room " + std::to_string(holder.value));
  }
}

void checks::on_writing(const process& from, room_id room, const lease& under, time_point deadline,
                        generation owner_now, bool told_gone) {
  const auto now = from.now();
  if (now >= under.until || now >= deadline || under.owner != owner_now || told_gone)
    all_.past.violate("own lease",
                      from.label + " writes room " + std::to_string(room.value) + " when its right to has ended");
}

void checks::on_reading(const process& from, area where, std::uint64_t offset, room_id room) {
  const auto& region = from.memory->at(where);
  if (const auto holder = region.holders.at(offset / region.slot_bytes); holder != room)
    all_.past.violate("own source", from.label + " sends bytes of room " + std::to_string(holder.value) + " as room " +
                                        std::to_string(room.value));
}

void checks::on_sent_word(const process& from, room_id room) {
  if (const auto found = writes_.find({from.self, room});
      found != writes_.end() && found->second.first != found->second.second)
    all_.past.violate("true word", from.label + " says that room " + std::to_string(room.value) +
                                       " was sent, and a write was not delivered");
}

void checks::on_pixels_lent(rank_id owner, generation born, slot_index slot, room_id room) {
  pixels_[{owner, born, slot}] = room;
}

void checks::on_refused(process& at, rank_id from, const serve_message& body, const failure& why) {
  all_.past.violate("routes", at.label + " refuses " +
                                  std::string{std::visit([](const auto& m) { return name(m.type); }, body)} + " of " +
                                  all_.plan().rank(from).label + ": " + to_string(why));
}

void checks::on_unheard(process& at, rank_id from, std::string_view type) {
  all_.past.violate("routes",
                    at.label + " has nobody for " + std::string{type} + " of " + all_.plan().rank(from).label);
}

void checks::on_hurt(rank_id rank) {
  const auto* const process = all_.at(rank);
  hurt_[rank] = process == nullptr ? generation{1} : process->born;
}

void checks::on_killed(rank_id rank) {
  on_hurt(rank);
  killed_.insert(rank);
}

void checks::on_no_lane(const process& from, rank_id to) {
  const auto* const peer = all_.at(to);
  if (peer == nullptr || !peer->running || all_.boss->current() != life_machine::state::ready)
    return;
  if (from.main->at() == life_state::ready && peer->main->at() == life_state::ready)
    all_.past.violate("edges before work", from.label + " has no lane to " + peer->label + ", and both serve");
}

void checks::on_admits(const process& by, generation newcomers, generation heard_of) {
  if (heard_of < newcomers)
    all_.past.violate("who stays is told",
                      by.label + " is to admit newcomers and has not heard of the loss before them");
}

namespace {

/// "rank 1" and not "rank 10", wherever it stands.
bool names(std::string_view text, rank_id rank) {
  const auto words = "rank " + std::to_string(rank.value);
  for (auto at = text.find(words); at != text.npos; at = text.find(words, at + words.size())) {
    const auto rest = text.substr(at + words.size());
    if (rest.empty() || rest.find_first_of("0123456789") != 0)
      return true;
  }
  return false;
}

} // namespace

void checks::on_blamed(const first_cause& cause) {
  all_.past.note([&] { return "first cause: " + cause.text; }, 35, cause.rank.value);
  if (const auto cells = all_.plan().cells_on(cause.rank); cells.size() == 1)
    blamed_[cells.front()].push_back(all_.time.now());
  // Who fails may do so for what has befallen another. Who is accused by another has not failed by itself.
  const bool is_accused = cause.text.find("cannot be used") != cause.text.npos;
  const auto named = [&](const auto& hurt) { return !is_accused && names(cause.text, hurt.first); };
  const auto* const blamed = all_.at(cause.rank);
  const auto own = hurt_.find(cause.rank);
  const bool is_hurt = own != hurt_.end() && (blamed == nullptr || own->second == blamed->born || !is_accused);
  if (!late_ever_ && hurt_.size() == 1 && killed_.size() == 1 && !killed_.contains(cause.rank))
    all_.past.violate("first cause", "only " + all_.plan().rank(*killed_.begin()).label +
                                         " was killed, and the supervisor names " + all_.plan().rank(cause.rank).label);
  // Where everything may be late, it may be anybody's.
  if (!late_ever_ && !is_hurt && std::ranges::none_of(hurt_, named))
    all_.past.violate("first cause", "the supervisor names " + all_.plan().rank(cause.rank).label +
                                         ", to whom nothing has happened: " + cause.text);
}

void checks::on_restarted(rank_id rank) {
  const auto cells = all_.plan().cells_on(rank);
  if (cells.size() != 1)
    return;
  const auto since = all_.time.now() - std::chrono::seconds{all_.spec().restart.window_s};
  const auto& times = blamed_[cells.front()];
  if (std::ranges::count_if(times, [&](time_point each) { return each > since; }) > all_.spec().restart.intensity)
    all_.past.violate("restarts are counted", all_.plan().rank(rank).label + " is started again once too often");
}

void checks::on_lost(const lost& news) {
  if (late_ever_ || news.next == generation{})
    return;
  all_.time.after(all_.sky.hop * 10 + 1ms, [this, news] {
    for (const auto rank : news.ranks)
      if (const auto* const process = all_.at(rank); process->running && process->born < news.next)
        all_.past.violate("who is lost ends", process->label + " is lost and runs on");
  });
}

} // namespace troupe::sim
