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

} // namespace troupe::fabric
