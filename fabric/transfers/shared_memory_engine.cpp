#include "fabric/transfers/shared_memory_engine.hpp"

#include <string>
#include <utility>

#include "runtime/base/assert.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/log.hpp"

namespace troupe::fabric {

using base::unique_fd;
using protocols::fail;
using protocols::fault;
using protocols::rank_id;
using protocols::result;

result<std::unique_ptr<transfer_engine>> make_shared_memory_engine(shared_memory_options options) {
  return shared_memory_engine::create(std::move(options));
}

result<std::unique_ptr<transfer_engine>> shared_memory_engine::create(shared_memory_options options) {
  if (auto usable = check_options(options.self, options.queue_max); !usable)
    return tl::unexpected{std::move(usable.error())};
  auto listening = listening_socket::at_unix(options.unix_path, SOCK_SEQPACKET);
  if (!listening)
    return tl::unexpected{std::move(listening.error())};
  auto doorbell = transfer_doorbell::create();
  if (!doorbell)
    return tl::unexpected{std::move(doorbell.error())};
  return std::unique_ptr<transfer_engine>{
      new shared_memory_engine{std::move(options), std::move(*listening), std::move(*doorbell)}};
}

shared_memory_engine::shared_memory_engine(shared_memory_options options, listening_socket listening,
                                           transfer_doorbell doorbell)
    : transfer_engine_base(std::move(doorbell)), options_(std::move(options)), posted_(options_.queue_max),
      door_(options_, std::move(listening)),
      device_copies_(options_.devices ? options_.devices->make_copies() : nullptr), unpublished_(options_.queue_max) {}

shared_memory_engine::~shared_memory_engine() {
  stop();
  door_.close(); // for one that was never started
}

// ---- any thread ----------------------------------------------------------------------------------------------------

result<local_region> shared_memory_engine::register_region(std::size_t bytes, memory_kind kind) {
  const std::lock_guard lock{mutex_};
  if (auto early = check_registering(); !early)
    return tl::unexpected{std::move(early.error())};
  auto memory = make_region(bytes, kind);
  if (!memory)
    return tl::unexpected{std::move(memory.error())};
  regions_.push_back(std::move(*memory));
  const auto id = static_cast<std::uint32_t>(regions_.size());
  return local_region{.id = id, .bytes = regions_.back().bytes(), .kind = kind, .card = {.region = id, .bytes = bytes}};
}

result<shared_region> shared_memory_engine::make_region(std::size_t bytes, memory_kind kind) const {
  const auto share = [](auto&& memory) { return shared_region{std::move(memory)}; };
  if (kind == memory_kind::host)
    return region_memory::create(bytes, "troupe-region").map(share);
  if (!options_.devices)
    return fail(fault::config_invalid, "this rank has no device whose memory could be shared");
  return options_.devices->make(bytes).map(share);
}

result<void> shared_memory_engine::attach_peer(const protocols::endpoint& to, protocols::time_point deadline) {
  if (to.rank == options_.self)
    return {};
  const auto has_joined = [&] {
    const auto found = peers_.find(to.rank);
    return found != peers_.end() && found->second->born == to.born;
  };
  std::unique_lock lock{mutex_};
  if (auto late = check_attaching(); !late)
    return late;
  if (has_joined())
    return {};
  if (options_.self < to.rank) {
    lock.unlock();
    auto made = door_.connect(to, doorbell_, deadline);
    if (!made)
      return tl::unexpected{std::move(made.error())};
    lock.lock();
    joining_.push_back(std::move(*made));
    doorbell_.ring();
  }
  if (!changed_.wait_until(lock, deadline, [&] { return stopping_ || has_joined(); }))
    return fail(fault::timeout,
                of_rank(to.rank) + " of generation " + std::to_string(to.born.value) + " did not attach");
  return stopping_ ? fail(fault::shutting_down, "the engine stops") : result<void>{};
}

result<void> shared_memory_engine::attach_region(rank_id rank, const protocols::region_card& card,
                                                 protocols::time_point deadline) {
  const auto check = [&](const shared_region& memory) -> result<void> {
    if (memory.bytes().size() != card.bytes)
      return fail(fault::out_of_bounds, "region " + std::to_string(card.region) + " of " + of_rank(rank) + " has " +
                                            std::to_string(memory.bytes().size()) + " bytes, its card says " +
                                            std::to_string(card.bytes));
    return {};
  };
  std::unique_lock lock{mutex_};
  if (rank == options_.self) {
    if (auto known = check_own_region(card.region, regions_.size()); !known)
      return known;
    return check(regions_[card.region - 1]);
  }
  const auto found = peers_.find(rank);
  if (found == peers_.end())
    return not_attached(rank);
  const peer_pointer from = found->second;
  if (const auto attached = from->regions.find(card.region); attached != from->regions.end())
    return check(attached->second);

  if (auto asked = send_note(from->socket.get(), {.kind = note_kind::fetch, .region = card.region}); !asked)
    return fail(fault::transfer_failed, asked.error().what);
  const auto is_answered = [&] { return stopping_ || from->gone || from->fetched.contains(card.region); };
  if (!changed_.wait_until(lock, deadline, is_answered))
    return fail(fault::timeout, of_rank(rank) + " did not hand region " + std::to_string(card.region) + " over");
  auto answer = from->fetched.extract(card.region);
  if (answer.empty())
    return from->gone ? fail(fault::peer_gone, from->gone->what) : fail(fault::shutting_down, "the engine stops");
  if (!answer.mapped())
    return tl::unexpected{std::move(answer.mapped().error())};
  const auto valid = check(*answer.mapped());
  if (valid) {
    if (answer.mapped()->reach() == device_reach::by_way_of_host)
      base::log_info("the GPU of {} cannot be reached from this rank's, so writes to region {} there go by way of the "
                     "host",
                     of_rank(rank), card.region);
    from->regions.emplace(card.region, std::move(*answer.mapped()));
  }
  return valid;
}

/// A rank that writes to itself is of one generation with what it writes.
result<void> shared_memory_engine::lease_holds(const protocols::lease& held, const peer_pointer& to) {
  return protocols::check_lease(held, to ? to->born : held.owner, base::now());
}

result<void> shared_memory_engine::post(write_request request, ready_event source_ready) {
  bool wake = false;
  {
    const std::lock_guard lock{mutex_};
    if (auto running = check_posting(); !running)
      return running;
    accepted write;
    const shared_region* target = nullptr;
    if (auto known = check_own_region(request.source_region, regions_.size()); !known)
      return known;
    if (request.to == options_.self) {
      if (auto known = check_own_region(request.target_region, regions_.size()); !known)
        return known;
      target = &regions_[request.target_region - 1];
    } else {
      const auto found = peers_.find(request.to);
      if (found == peers_.end())
        return not_attached(request.to);
      const auto region = found->second->regions.find(request.target_region);
      if (region == found->second->regions.end())
        return not_attached(request.to, request.target_region);
      target = &region->second;
      write.to = found->second;
    }
    const auto& source = regions_[request.source_region - 1];
    if (auto valid = check_request(request, source.bytes().size(), target->bytes().size()); !valid)
      return valid;
    if (auto holds = lease_holds(request.lease, write.to); !holds)
      return holds;
    if (source.kind() != target->kind())
      return fail(fault::bad_value, "a write between memory of the host and of a device");
    if (source_ready.moment() && !source.on_device())
      return fail(fault::bad_value, "memory of the host that a device's event is to make ready");
    if (unfinished_ == options_.queue_max)
      return all_places_taken(options_.queue_max);
    ++unfinished_;
    write.request = std::move(request);
    write.source = source.bytes().data();
    write.target = target->bytes().data();
    write.on_device = source.on_device();
    write.reach = target->reach();
    write.behind = source_ready.moment();
    posted_.push(std::move(write));
    wake = std::exchange(asleep_, false);
  }
  if (wake)
    doorbell_.ring();
  return {};
}

} // namespace troupe::fabric
