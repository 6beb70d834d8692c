// Decides outside protocols: schedules one thread over sockets and rings

#include "fabric/lanes/wire.hpp"

#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <optional>

#include "protocols/flight/flight.hpp"
#include "protocols/wire/codec.hpp"
#include "protocols/wire/decode_frame.hpp"
#include "runtime/base/assert.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/doorbell.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/base/log.hpp"

namespace troupe::fabric {

namespace {

constexpr auto nap_max = std::chrono::milliseconds{100}; ///< a listener's deadlines are looked at this often
constexpr int frames_a_turn = 64;                        ///< of one lane, before the others have theirs

/// Heartbeats say nothing that the recorder's live state does not, and would fill the ring.
void note_frame(protocols::flight_action action, protocols::rank_id peer, const protocols::frame_header& header,
                std::size_t bytes) noexcept {
  if (header.type != protocols::message_type::heartbeat)
    base::flight().note({.call = header.call,
                         .epoch = header.epoch,
                         .amount = bytes,
                         .peer = peer,
                         .operation = static_cast<std::uint16_t>(header.type),
                         .action = action});
}

/// Last word on an edge whose peer breaks the protocol: both ends then report the same fault, and whichever is heard
/// first names it. Where there is no room for it the peer learns no more than that the edge has ended.
void tell_why(lane& with, const protocols::failure& cause) {
  std::vector<std::byte> payload;
  protocols::encode_payload(
      protocols::refuse{.code = static_cast<std::uint16_t>(cause.code), .message = protocols::to_string(cause)},
      payload);
  if (with.try_send({.type = protocols::refuse::type}, payload))
    with.flush();
}

/// What the peer ended the edge for, if the frame says so.
std::optional<protocols::failure> told_why(const protocols::frame_view& frame) {
  protocols::refuse said;
  if (frame.header.type != protocols::refuse::type || !protocols::decode_frame(frame, said))
    return std::nullopt;
  return protocols::failure{protocols::fault_from(said.code).value_or(protocols::fault::peer_gone),
                            "so it says: " + said.message};
}

} // namespace

wire::wire() : doorbell_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  TROUPE_ASSERT("eventfd", doorbell_.get() >= 0);
}

wire::~wire() {
  stop();
}

void wire::start() {
  thread_ = std::thread{[this] {
    ::pthread_setname_np(::pthread_self(), "troupe-lanes");
    run();
  }};
}

void wire::stop() noexcept {
  stopping_.store(true);
  wake();
  if (thread_.joinable())
    thread_.join();
}

void wire::wake() noexcept {
  base::ring(doorbell_);
}

void wire::beat(protocols::duration period, std::function<protocols::heartbeat()> self) {
  TROUPE_ASSERT("wire::beat before start", !thread_.joinable());
  beats_ = protocols::beat_schedule{period};
  self_ = std::move(self);
}

wire::key wire::add(std::unique_ptr<lane> with, handlers what, peer_signs* signs, bounds held) {
  auto one = std::make_unique<link>();
  one->with = std::move(with);
  one->what = std::move(what);
  one->signs = signs;
  if (signs != nullptr)
    signs->linked.store(true);
  one->held = std::make_shared<counts>();
  one->held->most = held;
  key which = 0;
  {
    const std::lock_guard lock{mutex_};
    which = next_key_++;
    one->id = which;
    held_.emplace(which, one->held);
    added_.emplace(which, std::move(one));
  }
  wake();
  return which;
}

void wire::remove(key which) {
  {
    const std::lock_guard lock{mutex_};
    removed_.push_back(which);
    held_.erase(which);
  }
  wake();
}

void wire::handled(key which) {
  bool was_full = false;
  {
    const std::lock_guard lock{mutex_};
    const auto found = held_.find(which);
    if (found == held_.end())
      return;
    was_full = !found->second->may_read();
    found->second->unhandled.fetch_sub(1);
  }
  if (was_full)
    wake();
}

protocols::result<void> wire::post(key which, const protocols::frame_header& header, std::vector<std::byte> payload) {
  {
    const std::lock_guard lock{mutex_};
    const auto known = held_.find(which);
    if (known == held_.end())
      return protocols::fail(protocols::fault::peer_gone);
    auto& held = *known->second; // grows under the mutex alone; the wire's thread only takes away
    if (!held.most.may_queue(held.queued_frames, held.queued_bytes, payload.size()))
      return protocols::fail(protocols::fault::queue_full, "link");
    ++held.queued_frames;
    held.queued_bytes += payload.size();
    posted_.push_back({which, {header, std::move(payload)}});
  }
  if (sleeping_.load(std::memory_order_seq_cst))
    wake();
  return {};
}

void wire::listen(std::unique_ptr<listener> from, std::function<void(incoming)> on_lane,
                  std::function<void(const std::string&)> on_refused) {
  TROUPE_ASSERT("wire::listen before start", !thread_.joinable());
  listener_ = std::move(from);
  on_lane_ = std::move(on_lane);
  on_refused_ = std::move(on_refused);
}

void wire::accept_clients(listening_socket listening, std::function<void(base::unique_fd, bool)> on_client) {
  {
    const std::lock_guard lock{mutex_};
    clients_added_ = std::move(listening);
    on_client_ = std::move(on_client);
  }
  wake();
}

void wire::take_posts() {
  std::vector<posted> posts;
  std::vector<key> removed;
  {
    const std::lock_guard lock{mutex_};
    posts.swap(posted_);
    removed.swap(removed_);
    for (auto& [which, one] : added_)
      links_.emplace(which, std::move(one));
    added_.clear();
    if (clients_added_)
      clients_ = std::move(clients_added_);
  }
  for (auto& each : posts)
    if (const auto found = links_.find(each.which); found != links_.end())
      found->second->queue.push_back(std::move(each.frame));
  for (const auto which : removed)
    if (const auto found = links_.find(which); found != links_.end())
      found->second->life.on_leave(base::now());
}

bool wire::send_some(link& one) {
  bool moved = false;
  while (!one.queue.empty()) {
    const auto& next = one.queue.front();
    const auto sent = one.with->try_send(next.header, next.payload);
    if (!sent && !protocols::drops_frame(sent.error().code)) {
      if (protocols::ends_link(sent.error().code))
        lose(one, sent.error());
      return moved;
    }
    if (sent)
      note_frame(protocols::flight_action::frame_sent, one.what.peer, next.header, next.payload.size());
    else
      base::log_warning("{} to rank {} dropped: {}", protocols::name(next.header.type), one.what.peer.value,
                        protocols::to_string(sent.error()));
    one.held->queued_bytes -= next.payload.size();
    --one.held->queued_frames;
    one.queue.pop_front();
    moved = true;
  }
  one.with->flush();
  return moved;
}

bool wire::receive_some(link& one) {
  bool moved = false;
  if (!one.held->may_read())
    one.life.on_no_rest();
  for (int i = 0; i < frames_a_turn && !one.life.is_gone() && one.held->may_read(); ++i) {
    const auto next = one.with->peek();
    if (!next) {
      lose(one, next.error());
      return true;
    }
    if (!*next) {
      check_unfinished(one);
      return moved;
    }
    one.life.on_no_rest();
    if (one.signs != nullptr)
      if (const auto why = told_why(**next)) {
        lose(one, *why);
        return true;
      }
    const bool for_others = !take_heartbeat(one, **next);
    if (for_others)
      note_frame(protocols::flight_action::frame_received, one.what.peer, (*next)->header, (*next)->payload.size());
    if (for_others && one.life.is_open()) {
      one.held->unhandled.fetch_add(1);
      if (const auto taken = one.what.on_frame(**next); !taken) {
        if (one.signs != nullptr)
          tell_why(*one.with, taken.error());
        lose(one, taken.error());
        return true;
      }
    }
    one.with->pop();
    moved = true;
  }
  return moved;
}

/// Contract: K9.
void wire::check_unfinished(link& one) {
  if (!one.with->is_amid_frame())
    one.life.on_no_rest();
  else if (const auto late = one.life.on_rest_missing(one.held->most.frame_within, base::now()))
    lose(one, *late);
}

/// True: it was one, and nobody else need see it. A heartbeat that cannot be read counts as a frame and no more.
bool wire::take_heartbeat(link& one, const protocols::frame_view& frame) {
  if (one.signs == nullptr)
    return false;
  one.signs->frames.fetch_add(1, std::memory_order_relaxed);
  if (frame.header.type != protocols::heartbeat::type)
    return false;
  protocols::heartbeat said;
  if (protocols::decode_frame(frame, said)) {
    one.signs->completed.store(said.completed, std::memory_order_relaxed);
    one.signs->busy.store(said.busy, std::memory_order_relaxed);
  }
  return true;
}

/// They pass by what waits in the queue of a full lane.
void wire::send_heartbeats(protocols::time_point now) {
  if (!self_ || !beats_.is_due(now))
    return;
  beat_bytes_.clear();
  protocols::encode_payload(self_(), beat_bytes_);
  for (auto& [which, one] : links_)
    if (one->signs != nullptr && one->life.is_open())
      if (const auto sent = one->with->try_send({.type = protocols::heartbeat::type}, beat_bytes_);
          !sent && protocols::ends_link(sent.error().code))
        lose(*one, sent.error());
}

void wire::lose(link& one, const protocols::failure& cause) {
  if (one.life.is_gone())
    return;
  const bool was_open = one.life.on_lost();
  if (one.signs != nullptr && was_open) // a link that leaves may have had its successor already
    one.signs->linked.store(false);
  one.with->close();
  {
    const std::lock_guard lock{mutex_}; // before anybody hears of it: who does posts no more
    held_.erase(one.id);
  }
  if (was_open && !stopping_.load())
    one.what.on_gone(cause);
}

void wire::run() {
  auto spin_until = base::now();
  std::chrono::steady_clock::time_point flush_until{};
  while (true) {
    turns_.fetch_add(1, std::memory_order_relaxed);
    const bool stopping =
        stopping_.load(); // before the posts are taken: what was handed in before `stop` is among them
    take_posts();
    send_heartbeats(base::now());
    bool moved = false;
    bool queued = false;
    for (auto& [which, one] : links_) {
      if (!one->life.is_gone())
        moved |= send_some(*one);
      if (!one->life.is_gone())
        moved |= receive_some(*one);
      queued |= !one->life.is_gone() && (!one->queue.empty() || !one->with->flush());
    }
    std::erase_if(links_, [&](const auto& each) {
      const auto& one = *each.second;
      if (one.life.is_open())
        return false;
      const bool all_sent = !one.life.is_gone() && one.queue.empty() && one.with->flush();
      const bool done = one.life.is_over(all_sent, base::now());
      if (done) {
        const std::lock_guard lock{mutex_};
        held_.erase(each.first);
      }
      return done;
    });
    if (listener_) {
      for (auto& lane : listener_->step(base::now()))
        on_lane_(std::move(lane));
      for (const auto& line : listener_->take_refusals())
        on_refused_(line);
    }
    accept_waiting_clients();

    const auto now = base::now();
    if (stopping) {
      if (flush_until == std::chrono::steady_clock::time_point{})
        flush_until = now + protocols::limits::wire_flush_deadline;
      if (!queued || now >= flush_until)
        break;
    }
    if (moved) {
      spin_until = now + spin_limit;
      continue;
    }
    if (now < spin_until) {
      relax();
      continue;
    }
    sleep();
  }
  for (auto& [which, one] : links_)
    one->with->close();
  links_.clear();
  listener_.reset();
}

void wire::sleep() {
  sleeping_.store(true, std::memory_order_seq_cst);
  {
    const std::lock_guard lock{mutex_}; // what was handed in before we said that we sleep rang no doorbell
    if (!posted_.empty() || !added_.empty() || !removed_.empty()) {
      sleeping_.store(false);
      return;
    }
  }
  std::vector<pollfd> fds{{doorbell_.get(), POLLIN, 0}};
  if (clients_)
    fds.push_back({clients_.waits_on(), POLLIN, 0});
  if (listener_)
    for (const auto& each : listener_->waitables())
      fds.push_back(each);
  bool ready = false;
  std::vector<lane*> armed;
  for (auto& [which, one] : links_) {
    const lane::interest wanted{.readable = one->held->may_read(), .writable = !one->queue.empty()};
    if (!wanted.readable && !wanted.writable && one->with->flush())
      continue; // `handled` wakes us for it; its peer's end would only keep us awake
    armed.push_back(one->with.get());
    if (!one->with->arm(wanted)) {
      ready = true;
      break;
    }
    const auto set = one->with->waitables(wanted);
    fds.insert(fds.end(), set.fds.begin(), set.fds.begin() + static_cast<std::ptrdiff_t>(set.count));
  }
  auto nap = stopping_.load() ? std::chrono::milliseconds{1} : nap_max;
  if (self_)
    nap = std::clamp(std::chrono::ceil<std::chrono::milliseconds>(beats_.left(base::now())),
                     std::chrono::milliseconds{0}, nap);
  const int timeout_ms = ready ? 0 : static_cast<int>(nap.count());
  ::poll(fds.data(), fds.size(), timeout_ms);
  for (auto* const each : armed)
    each->disarm();
  sleeping_.store(false);
  base::hush(doorbell_);
}

void wire::accept_waiting_clients() {
  for (int taken = 0; taken < protocols::limits::accepts_a_turn; ++taken) {
    auto client = clients_.accept_spare();
    if (!client.socket)
      return;
    on_client_(std::move(client.socket), client.crowded);
  }
}

} // namespace troupe::fabric
