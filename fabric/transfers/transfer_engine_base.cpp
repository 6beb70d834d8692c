#include "fabric/transfers/transfer_engine_base.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "fabric/transfers/transfer_pieces.hpp"
#include "runtime/base/assert.hpp"

namespace troupe::fabric {

using protocols::fail;
using protocols::failure;
using protocols::fault;
using protocols::rank_id;
using protocols::result;

result<void> transfer_engine_base::check_options(rank_id self, std::size_t queue_max) {
  if (self.value > writer_rank_max || queue_max == 0)
    return fail(fault::config_invalid, of_rank(self) + " (at most " + std::to_string(writer_rank_max) +
                                           ") with a queue of " + std::to_string(queue_max) + " (at least 1)");
  return {};
}

void transfer_engine_base::be_watched(const base::watching& by) {
  turn_ = by.claim("the transfer engine stands still");
  nap_ = std::min(nap_, std::chrono::duration_cast<std::chrono::milliseconds>(by.nap));
}

result<void> transfer_engine_base::start(transfer_events events) {
  const std::lock_guard lock{mutex_};
  if (started_)
    return fail(fault::illegal_transition, "the engine was started before");
  TROUPE_ASSERT("transfer_events", events.on_delivered && events.on_arrived && events.on_peer_gone);
  events_ = std::move(events);
  started_ = true;
  thread_ = std::thread{[this] { run(); }};
  return {};
}

void transfer_engine_base::stop() noexcept {
  TROUPE_ASSERT("transfer_engine", thread_.get_id() != std::this_thread::get_id());
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
  }
  changed_.notify_all();
  doorbell_.ring();
  if (thread_.joinable())
    thread_.join();
}

bool transfer_engine_base::goes_on() {
  turn_.set(true);
  const std::lock_guard lock{mutex_};
  if (stopping_)
    turn_.set(false);
  return !stopping_;
}

result<void> transfer_engine_base::check_registering() const {
  if (started_)
    return fail(fault::illegal_transition, "regions are registered before the engine starts");
  return {};
}

result<void> transfer_engine_base::check_attaching() const {
  if (!started_)
    return fail(fault::illegal_transition, "peers are attached after the engine was started");
  return {};
}

result<void> transfer_engine_base::check_posting() const {
  if (!started_ || stopping_)
    return fail(fault::shutting_down, "the engine does not run");
  return {};
}

result<void> transfer_engine_base::check_own_region(std::uint32_t region, std::size_t count) {
  if (region == 0 || region > count)
    return fail(fault::out_of_bounds, "this rank has no region " + std::to_string(region));
  return {};
}

tl::unexpected<failure> transfer_engine_base::not_attached(rank_id peer) {
  return fail(fault::peer_gone, of_rank(peer) + " is not attached");
}

tl::unexpected<failure> transfer_engine_base::not_attached(rank_id peer, std::uint32_t region) {
  return fail(fault::out_of_bounds, "region " + std::to_string(region) + " of " + of_rank(peer) + " is not attached");
}

tl::unexpected<failure> transfer_engine_base::all_places_taken(std::size_t queue_max) {
  return fail(fault::queue_full, std::to_string(queue_max) + " writes are under way");
}

} // namespace troupe::fabric
