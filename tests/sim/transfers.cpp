#include "tests/sim/transfers.hpp"

#include <memory>

#include "protocols/transfers/write_course.hpp"
#include "tests/sim/serve_node.hpp"
#include "tests/sim/world.hpp"

namespace troupe::sim {

using namespace protocols;

namespace {

/// Of a write, in one copy or operation: a long one takes more at a time, so that it too ends within its deadline where
/// nothing is late.
std::size_t pieces_a_copy(const std::vector<fabric::write_piece>& all) {
  return std::max<std::size_t>(4, all.size() / 32);
}
/// From its posting until nothing of an operation arrives any more, however it ended: shorter than the rest of memory
/// by what a clock that runs 10 % fast takes off it (`limits::slot_quarantine`).
constexpr auto network_gives_up = limits::slot_quarantine * 17 / 20;

/// A write that was taken, until its end is told.
struct going {
  process* from = nullptr;
  sim_write what;
  std::shared_ptr<rank_memory> target;
  generation target_born;
  std::size_t next = 0; ///< piece
  write_course course;  ///< of a network
  bool ended = false;
};
using going_pointer = std::shared_ptr<going>;

const attached_peer* peer_of(const going& write) {
  const auto found = write.from->peers.find(write.what.to);
  return found == write.from->peers.end() ? nullptr : &found->second;
}

result<void> may_go_on(const going& write) {
  const auto* const peer = peer_of(write);
  static const failure forgotten{fault::peer_gone, "it was replaced"};
  const bool replaced = peer == nullptr || peer->born != write.target_born;
  const auto* const gone = replaced ? &forgotten : peer->gone ? &*peer->gone : nullptr;
  return check_write(write.what.lease, write.what.deadline,
                     {.to = write.what.to, .gone = gone, .owner_now = write.target_born, .handed_over = false},
                     write.from->now());
}

void tell_end(const going_pointer& write, result<void> outcome) {
  if (std::exchange(write->ended, true))
    return;
  auto* const from = write->from;
  auto& all = from->all;
  all.past.note(
      [&] {
        return from->label + ": write of room " + std::to_string(write->what.room.value) + " to " +
               all.plan().rank(write->what.to).label +
               (outcome ? " delivered" : " ended: " + to_string(outcome.error()));
      },
      3, from->self.value, write->what.room.value, outcome.has_value());
  if (outcome)
    all.judge.on_delivered(from->self, write->what.room);
  else
    all.service.on_failed_write(*from, write->what.room);
  from->serves->written(write->what.kind, write->what.room, write->what.part, std::move(outcome));
}

void land(const going& write, std::size_t first, std::size_t last) {
  auto& all = write.from->all;
  auto& source = write.from->memory->at(write.what.source);
  auto& target = write.target->at(write.what.target);
  for (auto i = first; i < last; ++i) {
    const auto& piece = write.what.pieces[i];
    if (!write.ended || write.what.source != area::kv_prefill) // what fails late is read by nobody there
      all.judge.on_reading(*write.from, write.what.source, piece.source_offset, write.what.room);
    all.judge.on_landing(write.from->self, write.what.to, write.target_born, write.what.target, target,
                         piece.target_offset, piece.bytes, write.what.room);
    std::copy_n(source.units.begin() + static_cast<std::ptrdiff_t>(piece.source_offset / source.unit_bytes),
                piece.bytes / source.unit_bytes,
                target.units.begin() + static_cast<std::ptrdiff_t>(piece.target_offset / target.unit_bytes));
  }
}

void judge_right(const going& write) {
  const auto* const peer = peer_of(write);
  write.from->all.judge.on_writing(*write.from, write.what.room, write.what.lease, write.what.deadline,
                                   write.target_born,
                                   peer == nullptr || peer->born != write.target_born || peer->gone.has_value());
}

/// The word of it reaches the peer, where that process still runs.
void publish(const going_pointer& write) {
  auto& all = write->from->all;
  auto* const peer = all.at(write->what.to);
  if (peer == nullptr || peer->born != write->target_born)
    return;
  peer->hand(thread::engine, [peer, from = write->from->self, kind = write->what.kind, room = write->what.room] {
    peer->serves->arrived_write(kind, from, room);
  });
}

/// Of some pieces, to where they belong.
duration way_of(const process& from) {
  auto& all = from.all;
  return all.dice.chance(all.sky.crawl) ? all.dice.around(all.sky.crawl_by) : all.delay(all.sky.copy);
}

// ---- shared memory: the writer's own thread copies ----------------------------------------------------------------

void copy_on(const going_pointer& write);

/// A copy that was begun cannot be called back: a writer that is stopped in it goes on with it afterwards.
void copied(const going_pointer& write, std::size_t last) {
  land(*write, write->next, last);
  write->next = last;
  if (write->next < write->what.pieces.size())
    return copy_on(write);
  publish(write);
  tell_end(write, {});
}

void copy_on(const going_pointer& write) {
  if (auto on = may_go_on(*write); !on)
    return tell_end(write, std::move(on));
  judge_right(*write);
  auto* const from = write->from;
  from->reach(from->all.time.now() + way_of(*from),
              [write, last = std::min(write->what.pieces.size(), write->next + pieces_a_copy(write->what.pieces))] {
                copied(write, last);
              });
}

// ---- a network: operations that were posted cannot be called back -------------------------------------------------

void post_next(const going_pointer& write);

void completed(const going_pointer& write, bool failed) {
  if (write->ended)
    return;
  write->course.on_completed();
  if (failed)
    return tell_end(write, fail(fault::transfer_failed, "the network says so"));
  if (auto in_time = check_deadline(write->what.deadline, write->what.to, write->from->now()); !in_time)
    return tell_end(write, std::move(in_time));
  switch (write->course.current()) {
  case write_course::state::delivered:
    return tell_end(write, {});
  case write_course::state::revoked:
    return tell_end(write, tl::unexpected<failure>{*write->course.revoked()});
  case write_course::state::under_way:
    return post_next(write);
  }
}

void tell_completion(const going_pointer& write, bool failed, duration after) {
  write->from->reach(write->from->all.time.now() + after, [write, failed] { completed(write, failed); });
}

/// Bytes land when they land: also after the writer has been told of a failure, and after its end. The error may come
/// before them or long after.
void post_one(const going_pointer& write, bool last) {
  auto& all = write->from->all;
  const auto first = write->next;
  write->next = std::min(write->what.pieces.size(), first + pieces_a_copy(write->what.pieces));
  write->course.on_posted(last);
  judge_right(*write);
  const bool fails = all.dice.chance(all.sky.failed_write);
  const bool lands = !fails || all.dice.below(2) == 0;
  const bool error_first = fails && all.dice.below(2) == 0;
  const auto held_up = all.held_up(write->from->self, write->what.to);
  const auto way = held_up + (error_first ? way_of(*write->from) * 40 : way_of(*write->from));
  if (lands && (fails || way <= network_gives_up)) {
    auto* const peer = all.at(write->what.to);
    const auto arrive = [write, first, end = write->next, last, fails] {
      land(*write, first, end);
      if (last)
        publish(write);
      if (!fails) // a completion says that the bytes are there
        tell_completion(write, false, write->from->all.delay(write->from->all.sky.hop));
    };
    const auto when = all.time.now() + std::min<duration>(way, network_gives_up);
    // By the card itself, or by the target's own sockets: they stand still with it, and are read when it goes on.
    if (peer == nullptr || peer->born != write->target_born || all.dice.below(2) == 0)
      all.time.at(when, arrive);
    else
      peer->reach(when, [peer, arrive] {
        peer->reach(peer->all.time.now() + peer->all.dice.around(peer->all.sky.hop), arrive);
      });
  }
  if (fails)
    tell_completion(write, true, all.delay(error_first ? all.sky.copy : all.sky.compute * 4));
}

void post_next(const going_pointer& write) {
  while (!write->ended && write->course.goes_on()) {
    const bool last = write->next + pieces_a_copy(write->what.pieces) >= write->what.pieces.size();
    if (!write->course.may_post(last))
      return;
    if (auto on = may_go_on(*write); !on) {
      if (on.error().code != fault::stale_grant || !write->course.is_in_flight())
        return tell_end(write, std::move(on));
      write->course.on_lease_ended(on.error());
      return;
    }
    post_one(write, last);
  }
}

} // namespace

result<void> post(process& from, sim_write what) {
  from.all.judge.on_posted(from.self, what.room);
  const auto found = from.peers.find(what.to);
  if (what.to != from.self && found == from.peers.end())
    return fail(fault::peer_gone, "never attached");
  auto write = std::make_shared<going>();
  write->from = &from;
  write->target = what.to == from.self ? from.memory : found->second.memory;
  write->target_born = what.to == from.self ? from.born : found->second.born;
  if (what.to != from.self && found->second.gone)
    return tl::unexpected<failure>{*found->second.gone};
  if (auto held = check_lease(what.lease, write->target_born, from.now()); !held)
    return held;
  auto& all = from.all;
  if (all.dice.chance(all.sky.no_memory))
    return fail(fault::no_memory, "a write that is begun");
  all.past.note(
      [&] {
        return from.label + " writes room " + std::to_string(what.room.value) + " to " + all.plan().rank(what.to).label;
      },
      4, from.self.value, what.to.value, what.room.value);
  if (what.to == from.self && !from.peers.contains(what.to))
    from.peers[what.to] = {from.born, from.memory, std::nullopt};
  write->what = std::move(what);
  const bool network = all.spec().lanes.bulk == bulk_lane::fabric && write->what.to != from.self;
  // Taken by the engine's thread in order; each then takes its own time.
  from.hand(thread::engine, [write, network] {
    if (network)
      return post_next(write);
    copy_on(write);
  });
  if (network) // a deadline that passes while nothing completes
    from.wake(write->what.deadline - from.now() + 10ms, [write] {
      if (!write->ended)
        tell_end(write, fail(fault::timeout, "no completion"));
    });
  return {};
}

void attach(process& from, process& peer) {
  const auto before = from.peers.find(peer.self);
  if (before != from.peers.end() && before->second.born > peer.born)
    return; // an answer that comes after that of a successor
  from.peers[peer.self] = {peer.born, peer.memory, std::nullopt};
}

void let_go(process& from, rank_id peer, const failure& cause) {
  if (const auto found = from.peers.find(peer); found != from.peers.end())
    found->second.gone = cause;
}

} // namespace troupe::sim
