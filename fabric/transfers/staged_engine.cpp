// Decides outside protocols: joins the threads of an engine and of two lines of copies

#include "fabric/transfers/staged_engine.hpp"

#include <limits>
#include <utility>

#include "fabric/transfers/transfer_pieces.hpp"
#include "protocols/limits.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/log.hpp"

namespace troupe::fabric {

using namespace protocols;

namespace {

/// The same bytes of a region and of its mirror.
std::vector<write_piece> in_place(std::vector<write_piece> pieces) {
  for (auto& piece : pieces)
    piece.target_offset = piece.source_offset;
  return pieces;
}

} // namespace

staged_engine::staged_engine(std::unique_ptr<transfer_engine> with, std::shared_ptr<device_memory> devices,
                             std::shared_ptr<arrival_table> arrivals, std::size_t queue_max)
    : wrapped_engine(std::move(with)), devices_(std::move(devices)), arrivals_(std::move(arrivals)),
      out_(devices_->make_copies(), queue_max), in_(devices_->make_copies(), queue_max) {}

staged_engine::~staged_engine() {
  stop();
}

result<local_region> staged_engine::register_region(std::size_t bytes, memory_kind kind) {
  auto mirror = with_->register_region(bytes, memory_kind::host);
  if (!mirror || kind == memory_kind::host)
    return mirror;
  auto pinned = devices_->pin(mirror->bytes);
  if (!pinned)
    return tl::unexpected{std::move(pinned.error())};
  auto memory = devices_->make(bytes);
  if (!memory)
    return tl::unexpected{std::move(memory.error())};
  auto made = *mirror;
  made.bytes = (*memory)->bytes();
  made.kind = memory_kind::device;
  regions_.emplace(made.id, mirrored{std::move(*memory), mirror->bytes, std::move(*pinned)});
  return made;
}

void staged_engine::be_watched(const base::watching& by) {
  wrapped_engine::be_watched(by);
  out_.be_watched(by);
  in_.be_watched(by);
}

result<void> staged_engine::start(transfer_events events) {
  events_ = std::move(events);
  auto wrapped = events_;
  wrapped.on_arrived = [this](rank_id from, std::uint64_t data) { on_arrived(from, data); };
  auto started = with_->start(std::move(wrapped));
  if (started) {
    out_.start("troupe-copy-out");
    in_.start("troupe-copy-in");
  }
  return started;
}

result<void> staged_engine::post(write_request request, ready_event source_ready) {
  const auto found = regions_.find(request.source_region);
  if (found == regions_.end()) {
    if (source_ready.moment())
      return fail(fault::bad_value, "memory of the host that a device's event is to make ready");
    return with_->post(std::move(request), std::move(source_ready));
  }
  const auto& [memory, mirror, pinned] = found->second;
  // The target is checked by the engine within; the source here, before the device reads it.
  if (auto valid = check_request(request, mirror.size(), std::numeric_limits<std::uint64_t>::max()); !valid)
    return valid;
  copy_line::job job{.pieces = in_place(request.pieces),
                     .source = memory->bytes().data(),
                     .target = mirror.data(),
                     .after = source_ready.moment(),
                     .deadline = request.deadline,
                     .then = {}};
  job.then = [this, write = std::move(request)](result<void> outcome) mutable {
    const auto cookie = write.cookie;
    if (outcome)
      outcome = with_->post(std::move(write), ready_event::already());
    if (!outcome)
      events_.on_delivered(cookie, std::move(outcome));
  };
  return out_.put(std::move(job));
}

void staged_engine::on_arrived(rank_id from, std::uint64_t completion_data) {
  auto expected = arrivals_->take(from, completion_data);
  const auto found = expected ? regions_.find(expected->region) : regions_.end();
  if (found == regions_.end())
    return events_.on_arrived(from, completion_data);
  const auto& [memory, mirror, pinned] = found->second;
  const auto told = [this, from, completion_data](const result<void>& outcome) {
    if (outcome)
      events_.on_arrived(from, completion_data);
    else
      base::log_error("what {} has written does not reach the device: {}", of_rank(from), to_string(outcome.error()));
  };
  if (auto put = in_.put({.pieces = std::move(expected->pieces),
                          .source = mirror.data(),
                          .target = memory->bytes().data(),
                          .after = nullptr,
                          .deadline = base::now() + limits::device_deadline,
                          .then = told});
      !put)
    told(put);
}

void staged_engine::stop() noexcept {
  with_->stop(); // nothing arrives any more
  out_.stop();
  in_.stop();
}

} // namespace troupe::fabric
