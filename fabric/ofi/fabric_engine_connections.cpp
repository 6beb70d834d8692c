// Decides outside protocols: proofs are compared with what libfabric reports, on its thread
// How the engine's thread comes to its peers, and they to it.

#include <algorithm>
#include <string>
#include <utility>

#include "fabric/ofi/fabric_engine.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::fabric {

using protocols::fail;
using protocols::failure;
using protocols::fault;
using protocols::generation;
using protocols::rank_id;
using protocols::result;
using protocols::time_point;
using namespace std::chrono_literals;

namespace {

/// From an admission to the guest's request: a few round trips, after what is left of the guest's own try.
constexpr protocols::duration guest_patience = 4s;
static_assert(protocols::way_machine::try_patience < guest_patience);

} // namespace

void fabric_engine::step_connections() {
  const auto now = base::now();
  answer_door(now);
  while (auto happened = session_->next_event()) // bounded by the connections that there are
    take_event(std::move(*happened));
  for (const auto& to : everybody_)
    if (to->awaits_something())
      reach(*to, now);
}

bool fabric_engine::connections_move() const {
  return !expected_.empty() || std::any_of(everybody_.begin(), everybody_.end(),
                                           [](const auto& to) { return to->there.life.is_under_way(); });
}

void fabric_engine::close_connections() noexcept {
  for (const auto& to : everybody_)
    to->there.connection.reset();
  visits_.clear();
}

// ---- to this rank --------------------------------------------------------------------------------------------------

void fabric_engine::answer_door(time_point now) {
  if (std::erase_if(expected_, [&](const expected_guest& guest) { return now >= guest.until; }) != 0)
    (void)admit_expected(); // who is let in too long meets nobody that expects it
  door_.step(
      now, [this](rank_id rank) { return lowest_of(rank); },
      [&](fabric_guest guest) { return expect(std::move(guest), now + guest_patience); });
}

/// The generation of a rank that is attached, or has a connection here; an older one is not let in any more.
generation fabric_engine::lowest_of(rank_id rank) {
  generation lowest{};
  if (const auto here = visits_.find(rank); here != visits_.end())
    lowest = here->second.born;
  const std::lock_guard lock{mutex_};
  if (const auto found = peers_.find(rank); found != peers_.end())
    lowest = std::max(lowest, found->second->born);
  return lowest;
}

result<void> fabric_engine::expect(fabric_guest guest, time_point until) {
  std::erase_if(expected_, [&](const expected_guest& before) { return before.who.rank == guest.rank; });
  if (expected_.size() == port_filter::sources_max)
    return fail(fault::queue_full, "others are expected");
  expected_.push_back({std::move(guest), until});
  return admit_expected();
}

result<void> fabric_engine::admit_expected() {
  std::vector<socket_address> sources;
  for (const auto& guest : expected_)
    sources.push_back(guest.who.from);
  return session_->admit(sources);
}

void fabric_engine::take_event(fabric_session::event happened) {
  using kind = fabric_session::event::kind;
  if (happened.what == kind::asked)
    return take_request(happened);
  for (const auto& to : everybody_) {
    if (!to->there.connection || &to->there.connection->fid != happened.of)
      continue;
    if (happened.what == kind::connected) {
      to->there.life.on_open();
    } else if (to->there.life.is_open()) {
      lose_connection(*to, {fault::transfer_failed, of_rank(to->rank) + ": " + happened.why},
                      to->idle.size() < to->operations.size());
    } else {
      give_up_try(*to, base::now());
    }
    return;
  }
  if (happened.what == kind::closed)
    std::erase_if(visits_, [&](const auto& each) { return &each.second.connection->fid == happened.of; });
}

/// Contract: K5; a connection comes to be only for whom the door told to come, from where it knocked, with its proof.
void fabric_engine::take_request(const fabric_session::event& asked) {
  const auto guest = std::find_if(expected_.begin(), expected_.end(), [&](const expected_guest& one) {
    return asked.says.size() == one.who.says.size() && is_same(one.who.says, [&] {
             proof said;
             std::copy(asked.says.begin(), asked.says.end(), said.begin());
             return said;
           }());
  });
  if (guest == expected_.end())
    return session_->reject(asked);
  const auto [rank, born] = std::pair{guest->who.rank, guest->who.born};
  expected_.erase(guest);
  (void)admit_expected(); // as above
  if (born < lowest_of(rank))
    return session_->reject(asked); // a newer one was attached meanwhile
  auto accepted = session_->accept(asked);
  if (accepted)
    visits_.insert_or_assign(rank, visit{born, std::move(*accepted)});
}

void fabric_engine::close_visits_before(rank_id rank, generation born) {
  if (const auto here = visits_.find(rank); here != visits_.end() && here->second.born < born)
    visits_.erase(here);
}

// ---- from this rank ------------------------------------------------------------------------------------------------

void fabric_engine::reach(peer& to, time_point now) {
  using enum protocols::way_machine::wanted;
  switch (to.there.life.next(now)) {
  case nothing:
    return;
  case knock:
    return begin_knock(to, now);
  case ask:
    return step_knock(to, now);
  case give_up:
    return give_up_try(to, now);
  }
}

void fabric_engine::begin_knock(peer& to, time_point now) {
  auto begun = fabric_knock::begin(identity_, to.at, session_->address(), to.door);
  if (!begun && protocols::way_machine::is_final(begun.error().code))
    return lose(to, begun.error());
  if (!begun)
    return give_up_try(to, now);
  to.there.knock = std::move(*begun);
  to.there.life.on_knocked(now);
}

void fabric_engine::step_knock(peer& to, time_point now) {
  const auto heard = to.there.knock->step(identity_);
  if (!heard && protocols::way_machine::is_final(heard.error().code))
    return lose(to, heard.error());
  if (!heard)
    return give_up_try(to, now);
  if (!*heard)
    return;
  auto made = session_->connect((*heard)->from, (*heard)->to, (*heard)->says);
  if (!made)
    return give_up_try(to, now);
  to.there.knock.reset();
  to.there.connection = std::move(*made);
  ++to.there.number;
  to.there.life.on_admitted();
}

void fabric_engine::give_up_try(peer& to, time_point now) {
  to.there.knock.reset();
  to.there.connection.reset();
  to.there.life.on_given_up(now);
}

/// All that was in flight fails; what has not begun waits for the next connection.
void fabric_engine::lose_connection(peer& to, const failure& cause, bool in_use) {
  to.there.life.on_broken(cause, in_use, base::now());
  to.there.connection.reset();
  for (std::size_t i = to.active.size(); i-- > 0;)
    if (to.active[i]->course.is_in_flight())
      drop(*to.active[i], cause);
}

} // namespace troupe::fabric
