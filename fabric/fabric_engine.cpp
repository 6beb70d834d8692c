#include "fabric/fabric_engine.hpp"

#include <poll.h>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <utility>

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

/// Writes of one peer that are worked on side by side, and operations that libfabric holds for them.
constexpr std::size_t active_max = 16;
constexpr std::size_t operations_max = 64;
/// Of one peer's write; the last piece waits for the others, so more would only fill sockets.
constexpr std::uint64_t own_copy_bytes = std::uint64_t{1} << 20;
constexpr int reap_max = 64;
/// How long completions are asked for in a loop before the thread sleeps; sleeping costs about 20 us a round trip.
constexpr protocols::duration spin = 50us;
constexpr protocols::duration deadline_look = 1ms;
constexpr int sleep_ms_refused = 1;   ///< libfabric says "again" and no descriptor says when
constexpr int sleep_ms_under_way = 5; ///< deadlines are looked at
constexpr int sleep_ms_idle = 1000;   ///< a belt: every cause to wake rings
/// After a failed write the provider needs about 120 ms to connect anew; a peer that lives answers within this.
constexpr protocols::duration probe_patience = 1s;

std::string of_rank(rank_id rank) {
  return "rank " + std::to_string(rank.value);
}

} // namespace

result<std::unique_ptr<transfer_engine>> make_fabric_engine(fabric_options options) {
  return fabric_engine::create(std::move(options));
}

result<std::unique_ptr<transfer_engine>> fabric_engine::create(fabric_options options) {
  if (options.self.value > writer_rank_max || options.queue_max == 0)
    return fail(fault::config_invalid, of_rank(options.self) + " (at most " + std::to_string(writer_rank_max) +
                                           ") with a queue of " + std::to_string(options.queue_max) + " (at least 1)");
  auto session = fabric_session::open(options.provider, options.interface);
  if (!session)
    return tl::unexpected{std::move(session.error())};
  auto address = (*session)->address();
  if (!address)
    return tl::unexpected{std::move(address.error())};
  auto bell = transfer_bell::create();
  if (!bell)
    return tl::unexpected{std::move(bell.error())};
  return std::unique_ptr<transfer_engine>{
      new fabric_engine{std::move(options), std::move(*session), std::move(*address), std::move(*bell)}};
}

fabric_engine::fabric_engine(fabric_options options, std::unique_ptr<fabric_session> session,
                             std::vector<std::byte> address, transfer_bell bell)
    : options_(std::move(options)), address_(std::move(address)), bell_(std::move(bell)),
      transfers_(options_.queue_max), posted_(options_.queue_max), own_(options_.queue_max),
      session_(std::move(session)) {
  idle_.reserve(transfers_.size());
  for (transfer& place : transfers_)
    idle_.push_back(&place);
}

fabric_engine::~fabric_engine() {
  stop();
  // Registrations hold the domain, and the endpoint holds them.
  session_->close_endpoint();
  regions_.clear();
}

fabric_engine::peer::peer(const protocols::endpoint& from, fi_addr_t at, std::size_t queue_max)
    : rank(from.rank), born(from.born), address(at), operations(operations_max), waiting(queue_max) {
  idle.reserve(operations.size());
  for (operation& one : operations) {
    one.to = this;
    idle.push_back(&one);
  }
  active.reserve(active_max);
}

// ---- any thread ----------------------------------------------------------------------------------------------------

result<local_region> fabric_engine::register_region(std::size_t bytes) {
  const std::lock_guard lock{mutex_};
  if (started_)
    return fail(fault::illegal_transition, "regions are registered before the engine starts");
  auto memory = region_memory::create(bytes, "troupe-region");
  if (!memory)
    return tl::unexpected{std::move(memory.error())};
  auto registration = session_->register_memory(memory->bytes());
  if (!registration)
    return tl::unexpected{std::move(registration.error())};
  const auto id = static_cast<std::uint32_t>(regions_.size() + 1);
  const protocols::region_card card{
      .region = id, .bytes = bytes, .slot_bytes = 0, .base = registration->base, .key = registration->key};
  regions_.push_back(std::make_unique<region>(region{std::move(*memory), std::move(*registration)}));
  return local_region{.id = id, .bytes = regions_.back()->memory.bytes(), .card = card};
}

result<void> fabric_engine::start(transfer_events events) {
  const std::lock_guard lock{mutex_};
  if (started_)
    return fail(fault::illegal_transition, "the engine was started before");
  TROUPE_ASSERT("transfer_events", events.on_delivered && events.on_landed && events.on_peer_gone);
  events_ = std::move(events);
  started_ = true;
  thread_ = std::thread{[this] { run(); }};
  return {};
}

result<void> fabric_engine::attach_peer(const protocols::endpoint& to, protocols::time_point deadline) {
  if (to.rank == options_.self)
    return {};
  std::unique_lock lock{mutex_};
  if (!started_)
    return fail(fault::illegal_transition, "peers are attached after the engine was started");
  if (const auto found = peers_.find(to.rank); found != peers_.end() && found->second->born == to.born)
    return {};
  joining wanted{to, {}};
  joining_.push_back(&wanted);
  bell_.ring();
  changed_.wait_until(lock, deadline, [&] { return stopping_ || wanted.outcome; });
  std::erase(joining_, &wanted);
  if (wanted.outcome)
    return *wanted.outcome;
  return stopping_ ? fail(fault::shutting_down, "the engine stops")
                   : fail(fault::timeout, of_rank(to.rank) + " was not entered");
}

result<void> fabric_engine::attach_region(rank_id rank, const protocols::region_card& card) {
  const std::lock_guard lock{mutex_};
  if (card.region == 0 || card.bytes == 0)
    return fail(fault::out_of_bounds,
                "region " + std::to_string(card.region) + " of " + std::to_string(card.bytes) + " bytes");
  if (rank == options_.self) {
    if (card.region > regions_.size())
      return fail(fault::transfer_failed, "this rank has no region " + std::to_string(card.region));
    if (regions_[card.region - 1]->memory.bytes().size() != card.bytes)
      return fail(fault::out_of_bounds, "region " + std::to_string(card.region) + " of this rank has another size");
    return {};
  }
  const auto found = peers_.find(rank);
  if (found == peers_.end())
    return fail(fault::peer_gone, of_rank(rank) + " is not attached");
  const auto [entry, is_new] = found->second->regions.emplace(card.region, card);
  if (!is_new && entry->second != card)
    return fail(fault::transfer_failed,
                "region " + std::to_string(card.region) + " of " + of_rank(rank) + " was attached with another card");
  return {};
}

result<void> fabric_engine::post(write_request request, ready_event) {
  bool wake = false;
  {
    const std::lock_guard lock{mutex_};
    if (!started_ || stopping_)
      return fail(fault::shutting_down, "the engine does not run");
    const auto own = [&](std::uint32_t id) {
      return id == 0 || id > regions_.size() ? nullptr : regions_[id - 1].get();
    };
    const region* source = own(request.source_region);
    if (source == nullptr)
      return fail(fault::out_of_bounds, "this rank has no region " + std::to_string(request.source_region));
    peer* to = nullptr;
    std::byte* own_target = nullptr;
    protocols::region_card remote;
    if (request.to == options_.self) {
      const region* target = own(request.target_region);
      if (target == nullptr)
        return fail(fault::out_of_bounds, "this rank has no region " + std::to_string(request.target_region));
      own_target = target->memory.bytes().data();
      remote.bytes = target->memory.bytes().size();
    } else {
      const auto found = peers_.find(request.to);
      if (found == peers_.end())
        return fail(fault::peer_gone, of_rank(request.to) + " is not attached");
      to = found->second;
      const auto card = to->regions.find(request.target_region);
      if (card == to->regions.end())
        return fail(fault::out_of_bounds, "region " + std::to_string(request.target_region) + " of " +
                                              of_rank(request.to) + " is not attached");
      remote = card->second;
    }
    if (auto judgement = check_request(request, source->memory.bytes().size(), remote.bytes); !judgement)
      return judgement;
    if (idle_.empty())
      return fail(fault::queue_full, std::to_string(transfers_.size()) + " writes are under way");
    transfer& write = *idle_.back();
    idle_.pop_back();
    write.request = std::move(request);
    write.to = to;
    write.source = source;
    write.own_target = own_target;
    write.remote = remote;
    posted_.push(&write);
    wake = std::exchange(asleep_, false);
  }
  if (wake)
    bell_.ring();
  return {};
}

void fabric_engine::stop() noexcept {
  TROUPE_ASSERT("transfer_engine", thread_.get_id() != std::this_thread::get_id());
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
  }
  changed_.notify_all();
  bell_.ring();
  if (thread_.joinable())
    thread_.join();
}

// ---- engine thread -------------------------------------------------------------------------------------------------

void fabric_engine::run() noexcept {
  ::pthread_setname_np(::pthread_self(), "troupe-fabric");
  const auto goes_on = [this] {
    const std::lock_guard lock{mutex_};
    return !stopping_;
  };
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
  session_->close_endpoint(); // peers learn of it at once
}

void fabric_engine::take_joining() {
  std::vector<peer*> replaced;
  {
    const std::lock_guard lock{mutex_};
    for (joining* wanted : joining_) {
      const auto address = session_->insert(wanted->from.fabric_address);
      if (!address) {
        wanted->outcome = tl::unexpected{address.error()};
        continue;
      }
      everybody_.push_back(std::make_unique<peer>(wanted->from, *address, options_.queue_max));
      if (peer* before = std::exchange(peers_[wanted->from.rank], everybody_.back().get()); before != nullptr)
        replaced.push_back(before);
      wanted->outcome = result<void>{};
    }
    joining_.clear();
  }
  changed_.notify_all();
  for (peer* before : replaced)
    lose(*before, {fault::peer_gone, "another generation took its place"});
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
    if (base::now() >= write.request.deadline) {
      own_.pop();
      finish(write, fail(fault::timeout, "a write to this rank itself"));
    } else if (copy_some(write.walk, write.request.pieces, write.source->memory.bytes().data(), write.own_target,
                         budget)) {
      own_.pop();
      events_.on_landed(options_.self, write.request.completion_data);
      finish(write, {});
    }
  }
  return any;
}

bool fabric_engine::issue() {
  bool worked = false;
  for (const auto& to : everybody_) {
    while (to->active.size() < active_max && !to->waiting.empty())
      to->active.push_back(to->waiting.pop());
    for (std::size_t i = 0; i < to->active.size();) {
      transfer* write = to->active[i];
      worked |= advance(*write);
      if (i < to->active.size() && to->active[i] == write)
        ++i; // else it was dropped
    }
    if (to->probe && !to->probe->posted)
      post_probe(*to);
  }
  return worked;
}

bool fabric_engine::advance(transfer& write) {
  peer& to = *write.to;
  for (bool worked = false;; worked = true) {
    if (write.is_whole)
      return worked; // only deliveries are missing
    if (!write.ahead)
      write.ahead = write.walk.next(write.request.pieces, session_->info().ep_attr->max_msg_size);
    const piece_walk::step step = *write.ahead;
    if (step.last && write.in_flight > 0)
      return worked; // it speaks for the others, which must be there first
    operation* one = take_operation(to, &write);
    if (one == nullptr)
      return worked;
    const auto word = completion_word(options_.self, write.request.completion_data);
    const auto error = session_->post({.from = write.source->memory.bytes().data() + step.source_offset,
                                       .bytes = step.bytes,
                                       .descriptor = write.source->registration.descriptor(),
                                       .to = to.address,
                                       .remote_address = write.remote.base + step.target_offset,
                                       .key = write.remote.key,
                                       .context = &one->context,
                                       .completion_data = step.last ? &word : nullptr});
    if (error != 0) {
      one->of = nullptr;
      to.idle.push_back(one);
      if (error == -FI_EAGAIN) {
        refused_ = true;
        return worked;
      }
      const failure cause{fault::transfer_failed, ::fi_strerror(static_cast<int>(-error))};
      drop(write, cause);
      on_failure(to, cause, static_cast<int>(-error));
      return true;
    }
    ++write.in_flight;
    write.ahead.reset();
    write.is_whole = step.last;
  }
}

fabric_engine::operation* fabric_engine::take_operation(peer& to, transfer* of) noexcept {
  if (to.idle.empty())
    return nullptr;
  operation* one = to.idle.back();
  to.idle.pop_back();
  one->of = of;
  return one;
}

void fabric_engine::post_probe(peer& to) {
  operation* one = take_operation(to, nullptr);
  if (one == nullptr)
    return; // the probe's time runs
  protocols::region_card card;
  {
    const std::lock_guard lock{mutex_};
    card = to.regions.begin()->second; // there is one, since a write failed
  }
  const region& source = *regions_.front();
  const auto error = session_->post({.from = source.memory.bytes().data(),
                                     .bytes = 0,
                                     .descriptor = source.registration.descriptor(),
                                     .to = to.address,
                                     .remote_address = card.base,
                                     .key = card.key,
                                     .context = &one->context});
  if (error == 0) {
    one->is_probe = true;
    to.probe->posted = true;
    return;
  }
  to.idle.push_back(one);
  refused_ = true;
  if (error == -FI_ECONNREFUSED)
    lose(to, to.probe->cause);
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
  if (done.landed)
    return events_.on_landed(rank_id{static_cast<std::uint32_t>(done.data >> 48)}, done.data & callers_bits);
  if (done.context == nullptr)
    return; // of a peer's write that failed here; its writer is told
  auto& one = *static_cast<operation*>(done.context);
  peer& to = *one.to;
  transfer* of = std::exchange(one.of, nullptr);
  const bool is_probe = std::exchange(one.is_probe, false);
  to.idle.push_back(&one);
  if (of != nullptr)
    --of->in_flight;
  if (done.error != 0) {
    const failure cause{fault::transfer_failed, of_rank(to.rank) + ": " + done.what};
    if (of != nullptr)
      drop(*of, cause);
    if (is_probe && to.probe)
      to.probe->posted = false; // again, while its time runs
    on_failure(to, cause, done.error);
  } else if (is_probe) {
    to.probe.reset();
  } else if (of != nullptr && of->is_whole && of->in_flight == 0) {
    std::erase(to.active, of);
    finish(*of, {});
  }
}

void fabric_engine::on_failure(peer& to, const failure& cause, int error) {
  if (to.gone)
    return;
  if (error == FI_ECONNREFUSED)
    lose(to, cause);
  else if (!to.probe)
    to.probe = {.cause = cause, .until = base::now() + probe_patience};
}

void fabric_engine::expire() {
  const auto now = base::now();
  if (now - looked_ < deadline_look)
    return;
  looked_ = now;
  for (const auto& to : everybody_) {
    const failure cause{fault::timeout, "a write to " + of_rank(to->rank)};
    for (std::size_t i = to->active.size(); i-- > 0;)
      if (now >= to->active[i]->request.deadline)
        drop(*to->active[i], cause);
    for (std::size_t left = to->waiting.size(); left > 0; --left) {
      transfer* write = to->waiting.pop();
      if (now >= write->request.deadline)
        finish(*write, tl::unexpected{cause});
      else
        to->waiting.push(write);
    }
    if (to->probe && now >= to->probe->until)
      lose(*to, to->probe->cause);
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
  to.gone = true;
  to.probe.reset();
  {
    const std::lock_guard lock{mutex_};
    if (const auto found = peers_.find(to.rank); found != peers_.end() && found->second == &to)
      peers_.erase(found);
  }
  take_posted(); // what was posted before that
  fail_all(to, cause);
  events_.on_peer_gone(to.rank, cause);
}

void fabric_engine::rest(bool worked) {
  const auto now = base::now();
  if (worked) {
    worked_ = now;
    return;
  }
  const bool under_way = !own_.empty() || std::any_of(everybody_.begin(), everybody_.end(),
                                                      [](const auto& to) { return to->awaits_something(); });
  if (under_way && !refused_ && now - worked_ < spin)
    return;
  {
    const std::lock_guard lock{mutex_};
    if (stopping_ || !posted_.empty() || !joining_.empty())
      return;
    asleep_ = true;
  }
  if (session_->may_sleep()) {
    std::array<pollfd, 2> watched{{{session_->wait_file(), POLLIN, 0}, {bell_.file(), POLLIN, 0}}};
    ::poll(watched.data(), watched.size(),
           refused_    ? sleep_ms_refused
           : under_way ? sleep_ms_under_way
                       : sleep_ms_idle);
    if (watched[1].revents != 0)
      bell_.hush();
  }
  const std::lock_guard lock{mutex_};
  asleep_ = false;
}

} // namespace troupe::fabric
