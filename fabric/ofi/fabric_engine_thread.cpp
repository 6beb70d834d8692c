// Decides outside protocols: schedules the one thread that may call libfabric
// The engine's own thread: it alone speaks to libfabric once the engine was started.

#include <poll.h>
#include <pthread.h>

#include <algorithm>
#include <string>
#include <utility>

#include <rdma/fi_errno.h>

#include "fabric/ofi/fabric_engine.hpp"
#include "runtime/base/assert.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::fabric {

using protocols::fail;
using protocols::failure;
using protocols::fault;
using protocols::rank_id;
using protocols::result;
using namespace std::chrono_literals;

namespace {

/// Copied of writes to this rank itself before the network is looked at again.
constexpr std::uint64_t own_copy_bytes = std::uint64_t{1} << 20;
constexpr int reap_max = 64;
/// How long progress is asked for in a loop after something moved. A large write moves in many pieces that give no
/// completion, and a sleep between any two of them halves the bandwidth; so bytes that wake the thread count as moving.
/// It yields between two looks: where both sides share a core, the peer has to run for anything to come.
constexpr protocols::duration spin = 50us;
constexpr protocols::duration deadline_look = 1ms;
/// libfabric says "again", and no descriptor says when.
constexpr protocols::duration sleep_refused = 1ms;
/// The wait descriptor does not wake for a socket that takes bytes again (tcp 1.17): a write longer than the
/// socket's buffer would rest until the next look.
constexpr protocols::duration sleep_under_way = 100us;
/// Nothing wakes for a peer that connects to libfabric's port; it comes at once, or not at all.
constexpr protocols::duration sleep_expecting = 1ms;

} // namespace

void fabric_engine::run() noexcept {
  ::pthread_setname_np(::pthread_self(), "troupe-fabric");
  while (goes_on()) {
    refused_ = false;
    take_joining();
    // Not `||`: each of them has to have its turn.
    const bool worked = static_cast<int>(take_posted()) + copy_own() + issue() + reap() != 0;
    expire();
    rest(worked);
  }
  const failure cause{fault::transfer_failed, "the engine stopped"};
  take_posted();
  while (!own_.empty())
    finish(*own_.pop(), tl::unexpected{cause});
  for (const auto& to : everybody_)
    fail_all(*to, cause);
  close_connections(); // peers learn of it at once
}

void fabric_engine::take_joining() {
  std::vector<peer*> replaced;
  {
    const std::lock_guard lock{mutex_};
    for (joining* wanted : joining_) {
      const auto door = network_address(wanted->from.fabric_address);
      if (!door) {
        wanted->outcome = fail(fault::transfer_failed, door.error().what);
        continue;
      }
      everybody_.push_back(std::make_unique<peer>(wanted->from, *door, options_.queue_max));
      if (peer* before = std::exchange(peers_[wanted->from.rank], everybody_.back().get()); before != nullptr)
        replaced.push_back(before);
      wanted->outcome = result<void>{};
    }
    joining_.clear();
  }
  changed_.notify_all();
  for (peer* before : replaced) {
    lose(*before, {fault::peer_gone, "another generation took its place"});
    close_visits_before(before->rank, lowest_of(before->rank));
  }
}

bool fabric_engine::take_posted() {
  const std::lock_guard lock{mutex_};
  const bool any = !posted_.empty();
  while (!posted_.empty()) {
    transfer* write = posted_.pop();
    (write->to == nullptr ? own_ : write->to->waiting).push(write);
  }
  return any;
}

bool fabric_engine::copy_own() {
  std::uint64_t budget = own_copy_bytes;
  const bool any = !own_.empty();
  while (!own_.empty() && budget > 0) {
    transfer& write = *own_.front();
    if (auto goes_on = validate(write.request, nullptr, base::now()); !goes_on) {
      own_.pop();
      finish(write, std::move(goes_on));
    } else if (copy_some(write.walk, write.request.pieces, write.source->memory.bytes().data(), write.own_target,
                         budget)) {
      own_.pop();
      events_.on_arrived(options_.self, write.request.completion_data);
      finish(write, {});
    }
  }
  return any;
}

bool fabric_engine::issue() {
  bool worked = false;
  for (const auto& to : everybody_) {
    to->refused = false;
    if (!to->there.life.is_open())
      continue; // writes wait until there is a way
    while (to->active.size() < active_max && !to->waiting.empty())
      to->active.push_back(to->waiting.pop());
    // One refusal a turn is enough: while the provider connects, each try would be one more connection.
    for (std::size_t i = 0; i < to->active.size() && !to->refused && to->there.life.is_open();) {
      transfer* write = to->active[i];
      worked |= advance(*write);
      if (i < to->active.size() && to->active[i] == write)
        ++i; // else it was dropped, with the connection
    }
  }
  return worked;
}

bool fabric_engine::advance(transfer& write) {
  peer& to = *write.to;
  for (bool worked = false;; worked = true) {
    if (!write.course.goes_on())
      return worked; // only deliveries are missing
    if (auto holds = lease_holds(write.request, &to); !holds) {
      write.course.on_lease_ended(holds.error());
      if (write.course.current() == protocols::write_course::state::revoked)
        drop(write, holds.error());
      return true;
    }
    if (!write.ahead)
      write.ahead = write.walk.next(write.request.pieces, session_->info().ep_attr->max_msg_size);
    const piece_walk::step step = *write.ahead;
    if (!write.course.may_post(step.last))
      return worked;
    operation* one = take_operation(to, &write);
    if (one == nullptr)
      return worked;
    const auto word = completion_word(options_.self, write.request.completion_data);
    const auto error = session_->post({.from = write.source->memory.bytes().data() + step.source_offset,
                                       .bytes = step.bytes,
                                       .descriptor = write.source->registration.descriptor(),
                                       .over = to.there.connection.get(),
                                       .remote_address = write.remote.base + step.target_offset,
                                       .key = write.remote.key,
                                       .context = &one->context,
                                       .completion_data = step.last ? &word : nullptr});
    if (error != 0) {
      one->of = nullptr;
      to.idle.push_back(one);
      if (error == -FI_EAGAIN) {
        refused_ = to.refused = true;
        return worked;
      }
      const failure cause{fault::transfer_failed, of_rank(to.rank) + ": " + ::fi_strerror(static_cast<int>(-error))};
      drop(write, cause);
      lose_connection(to, cause);
      return true;
    }
    write.course.on_posted(step.last);
    write.ahead.reset();
  }
}

fabric_engine::operation* fabric_engine::take_operation(peer& to, transfer* of) noexcept {
  if (to.idle.empty())
    return nullptr;
  operation* one = to.idle.back();
  to.idle.pop_back();
  one->of = of;
  one->connection = to.there.number;
  return one;
}

bool fabric_engine::reap() {
  fabric_session::completion done;
  for (int count = 0; count < reap_max; ++count) {
    const auto there = session_->poll(done);
    // A completion queue that breaks would leave every wait of this rank to its deadline, with no cause named.
    TROUPE_ASSERT("fi_cq_read", there.has_value());
    if (!*there)
      return count > 0;
    on_completion(done);
  }
  return true;
}

void fabric_engine::on_completion(const fabric_session::completion& done) {
  if (done.arrived)
    return events_.on_arrived(rank_id{static_cast<std::uint32_t>(done.data >> 48)}, done.data & callers_bits);
  if (done.context == nullptr)
    return; // of a peer's write that failed here; its writer is told
  auto& one = *static_cast<operation*>(done.context);
  peer& to = *one.to;
  transfer* of = std::exchange(one.of, nullptr);
  to.idle.push_back(&one);
  if (of != nullptr)
    of->course.on_completed();
  if (done.error != 0) {
    const failure cause{fault::transfer_failed, of_rank(to.rank) + ": " + done.what};
    if (of != nullptr)
      drop(*of, cause);
    if (to.there.life.is_open() && one.connection == to.there.number)
      lose_connection(to, cause);
  } else if (of != nullptr) {
    conclude(*of);
  }
}

void fabric_engine::conclude(transfer& write) {
  using enum protocols::write_course::state;
  switch (write.course.current()) {
  case under_way:
    return;
  case revoked:
    return drop(write, failure{*write.course.revoked()});
  case delivered:
    std::erase(write.to->active, &write);
    return finish(write, {});
  }
}

void fabric_engine::expire() {
  const auto now = base::now();
  if (now - looked_ < deadline_look && !std::exchange(look_now_, false))
    return;
  looked_ = now;
  step_connections();
  for (const auto& to : everybody_) {
    for (std::size_t i = to->active.size(); i-- > 0;)
      if (auto late = protocols::check_deadline(to->active[i]->request.deadline, to->rank, now); !late)
        drop(*to->active[i], late.error());
    for (std::size_t left = to->waiting.size(); left > 0; --left) {
      transfer* write = to->waiting.pop();
      if (auto goes_on = validate(write->request, to.get(), now); !goes_on)
        finish(*write, std::move(goes_on));
      else
        to->waiting.push(write);
    }
    if (const auto cause = to->there.life.is_due(now))
      lose(*to, *cause);
  }
}

void fabric_engine::drop(transfer& write, const failure& cause) {
  peer& to = *write.to;
  // Quarantine: they stay out of the pool until libfabric gives them back.
  for (operation& one : to.operations)
    if (one.of == &write)
      one.of = nullptr;
  std::erase(to.active, &write);
  finish(write, tl::unexpected{cause});
}

void fabric_engine::finish(transfer& write, result<void> outcome) {
  const auto cookie = write.request.cookie;
  {
    const std::lock_guard lock{mutex_};
    write = transfer{};
    idle_.push_back(&write);
  }
  events_.on_delivered(cookie, std::move(outcome));
}

void fabric_engine::fail_all(peer& to, const failure& cause) {
  while (!to.active.empty())
    drop(*to.active.back(), cause);
  while (!to.waiting.empty())
    finish(*to.waiting.pop(), tl::unexpected{cause});
}

void fabric_engine::lose(peer& to, const failure& why) {
  const failure cause{fault::peer_gone, of_rank(to.rank) + ": " + why.what};
  to.there.life.on_lost();
  {
    const std::lock_guard lock{mutex_};
    if (const auto found = peers_.find(to.rank); found != peers_.end() && found->second == &to)
      peers_.erase(found);
  }
  take_posted(); // what was posted before that
  fail_all(to, cause);
  to.there.knock.reset();
  to.there.connection.reset();
  events_.on_peer_gone(to.rank, cause);
}

void fabric_engine::rest(bool worked) {
  const auto now = base::now();
  if (worked)
    moved_ = now;
  if (!refused_ && now - moved_ < spin)
    return std::this_thread::yield();
  {
    const std::lock_guard lock{mutex_};
    if (stopping_ || !posted_.empty() || !joining_.empty())
      return;
    asleep_ = true;
  }
  if (session_->may_sleep()) {
    const bool under_way = !own_.empty() || std::any_of(everybody_.begin(), everybody_.end(),
                                                        [](const auto& to) { return to->awaits_something(); });
    watched_.assign({{session_->wait_file(), POLLIN, 0}, {doorbell_.file(), POLLIN, 0}});
    door_.watch(watched_);
    for (const auto& to : everybody_)
      if (to->there.knock)
        watched_.push_back(to->there.knock->waits_for());
    const auto patience = refused_             ? sleep_refused
                          : under_way          ? sleep_under_way
                          : connections_move() ? sleep_expecting
                          : moved_ > looked_   ? deadline_look // what moved may be the end of a connection
                                               : protocols::duration{nap_};
    const timespec bound{.tv_sec = patience / 1s, .tv_nsec = (patience % 1s).count()};
    ::ppoll(watched_.data(), watched_.size(), &bound, nullptr);
    if (watched_[0].revents != 0)
      moved_ = base::now();
    if (watched_[1].revents != 0)
      doorbell_.hush();
    look_now_ = std::any_of(watched_.begin() + 2, watched_.end(), [](const pollfd& it) { return it.revents != 0; });
  }
  const std::lock_guard lock{mutex_};
  asleep_ = false;
}

} // namespace troupe::fabric
