#include "fabric/ofi/fabric_engine.hpp"

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

result<std::unique_ptr<transfer_engine>> fabric_engine::create(fabric_options options) {
  if (auto usable = check_options(options.self, options.queue_max); !usable)
    return tl::unexpected{std::move(usable.error())};
  auto session = fabric_session::open(options.provider, options.interface);
  if (!session)
    return tl::unexpected{std::move(session.error())};
  const fabric_identity self{.self = options.self, .born = options.born, .job_token = options.job_token};
  const socket_address listening = (*session)->address();
  auto door = fabric_listener::open(self, listening, port_of(listening));
  if (!door)
    return tl::unexpected{std::move(door.error())};
  auto doorbell = transfer_doorbell::create();
  if (!doorbell)
    return tl::unexpected{std::move(doorbell.error())};
  return std::unique_ptr<transfer_engine>{
      new fabric_engine{std::move(options), std::move(*session), std::move(*door), std::move(*doorbell)}};
}

fabric_engine::fabric_engine(fabric_options options, std::unique_ptr<fabric_session> session, fabric_listener door,
                             transfer_doorbell doorbell)
    : transfer_engine_base(std::move(doorbell)),
      options_(std::move(options)), identity_{.self = options_.self,
                                              .born = options_.born,
                                              .job_token = options_.job_token},
      address_(bytes_of(door.address())), transfers_(options_.queue_max), posted_(options_.queue_max),
      own_(options_.queue_max), session_(std::move(session)), door_(std::move(door)) {
  idle_.reserve(transfers_.size());
  for (transfer& place : transfers_)
    idle_.push_back(&place);
}

fabric_engine::~fabric_engine() {
  stop();
  regions_.clear(); // registrations hold the domain
}

fabric_engine::peer::peer(const protocols::endpoint& from, socket_address door_of, std::size_t queue_max)
    : rank(from.rank), born(from.born), at(from), door(std::move(door_of)), operations(operations_max),
      waiting(queue_max) {
  idle.reserve(operations.size());
  for (operation& one : operations) {
    one.to = this;
    idle.push_back(&one);
  }
  active.reserve(active_max);
}

// ---- any thread ----------------------------------------------------------------------------------------------------

result<local_region> fabric_engine::register_region(std::size_t bytes, memory_kind kind) {
  if (kind != memory_kind::host)
    return fail(fault::config_invalid, "the fabric lane reaches no device's memory");
  const std::lock_guard lock{mutex_};
  if (auto early = check_registering(); !early)
    return tl::unexpected{std::move(early.error())};
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

result<void> fabric_engine::attach_peer(const protocols::endpoint& to, protocols::time_point deadline) {
  if (to.rank == options_.self)
    return {};
  std::unique_lock lock{mutex_};
  if (auto late = check_attaching(); !late)
    return late;
  if (const auto found = peers_.find(to.rank); found != peers_.end() && found->second->born == to.born)
    return {};
  joining wanted{to, {}};
  joining_.push_back(&wanted);
  doorbell_.ring();
  changed_.wait_until(lock, deadline, [&] { return stopping_ || wanted.outcome; });
  std::erase(joining_, &wanted);
  if (wanted.outcome)
    return *wanted.outcome;
  return stopping_ ? fail(fault::shutting_down, "the engine stops")
                   : fail(fault::timeout, of_rank(to.rank) + " was not entered");
}

/// The card holds all that a write needs, so nobody is waited for.
result<void> fabric_engine::attach_region(rank_id rank, const protocols::region_card& card,
                                          protocols::time_point /*deadline*/) {
  const std::lock_guard lock{mutex_};
  if (card.region == 0 || card.bytes == 0)
    return fail(fault::out_of_bounds,
                "region " + std::to_string(card.region) + " of " + std::to_string(card.bytes) + " bytes");
  if (rank == options_.self) {
    if (auto known = check_own_region(card.region, regions_.size()); !known)
      return known;
    if (regions_[card.region - 1]->memory.bytes().size() != card.bytes)
      return fail(fault::out_of_bounds, "region " + std::to_string(card.region) + " of this rank has another size");
    return {};
  }
  const auto found = peers_.find(rank);
  if (found == peers_.end())
    return not_attached(rank);
  const auto [entry, is_new] = found->second->regions.emplace(card.region, card);
  if (!is_new && entry->second != card)
    return fail(fault::transfer_failed,
                "region " + std::to_string(card.region) + " of " + of_rank(rank) + " was attached with another card");
  return {};
}

/// A rank that writes to itself is of one generation with what it writes.
result<void> fabric_engine::lease_holds(const write_request& request, const peer* to) {
  return protocols::check_lease(request.lease, to != nullptr ? to->born : request.lease.owner, base::now());
}

result<void> fabric_engine::validate(const write_request& request, const peer* to, protocols::time_point now) {
  return protocols::check_write(request.lease, request.deadline,
                                {.to = to != nullptr ? std::optional{to->rank} : std::nullopt,
                                 .gone = nullptr, // its writes end with it
                                 .owner_now = to != nullptr ? to->born : request.lease.owner},
                                now);
}

result<void> fabric_engine::post(write_request request, ready_event source_ready) {
  TROUPE_ASSERT("E16", !source_ready.moment()); // no device's memory is registered here
  bool wake = false;
  {
    const std::lock_guard lock{mutex_};
    if (auto running = check_posting(); !running)
      return running;
    if (auto known = check_own_region(request.source_region, regions_.size()); !known)
      return known;
    const region* source = regions_[request.source_region - 1].get();
    peer* to = nullptr;
    std::byte* own_target = nullptr;
    protocols::region_card remote;
    if (request.to == options_.self) {
      if (auto known = check_own_region(request.target_region, regions_.size()); !known)
        return known;
      const auto target = regions_[request.target_region - 1]->memory.bytes();
      own_target = target.data();
      remote.bytes = target.size();
    } else {
      const auto found = peers_.find(request.to);
      if (found == peers_.end())
        return not_attached(request.to);
      to = found->second;
      const auto card = to->regions.find(request.target_region);
      if (card == to->regions.end())
        return not_attached(request.to, request.target_region);
      remote = card->second;
    }
    if (auto valid = check_request(request, source->memory.bytes().size(), remote.bytes); !valid)
      return valid;
    if (auto holds = lease_holds(request, to); !holds)
      return holds;
    if (idle_.empty())
      return all_places_taken(options_.queue_max);
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
    doorbell_.ring();
  return {};
}

} // namespace troupe::fabric
