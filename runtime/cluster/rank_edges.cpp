// Decides outside protocols: the wait itself, for the wire's thread; clients are sockets

#include <sys/resource.h>
#include <sys/socket.h>

#include <filesystem>

#include "actors/link_actor.hpp"
#include "fabric/lanes/drilled_lane.hpp"
#include "protocols/wire/codec.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/fault_point.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/base/log.hpp"
#include "runtime/cluster/rank_runtime.hpp"

/// The lanes of a rank: how they come to be, where their frames go. Which ones, and whose, is `edge_machine`'s.
namespace troupe::cluster {

using namespace protocols;

namespace {

flight_record edge_to(const lane_name& which) noexcept {
  return {.peer = which.peer,
          .group = which.group,
          .operation = static_cast<std::uint16_t>(which.channel),
          .action = flight_action::edge,
          .phase = flight_phase::start};
}

} // namespace

result<void> rank_runtime::validate_hello(const fabric::edge& between, const hello& said) const {
  const std::lock_guard lock{mutex_};
  return edges_.validate_hello(between.peer, between.peer_born, between.epoch, said);
}

void rank_runtime::note_begun(const fabric::edge& between, const hello& said) {
  const std::lock_guard lock{mutex_};
  edges_.on_begun({between.peer, said.channel, said.group}, between.peer_born);
}

void rank_runtime::on_incoming(fabric::incoming lane) {
  TROUPE_FAULT_POINT("listener.accepted");
  {
    const std::lock_guard lock{mutex_};
    lanes_[{lane.peer, lane.channel, lane.group}] = fabric::drilled(std::move(lane.with), lane.peer, lane.channel);
  }
  arrived_.notify_all();
}

result<void> rank_runtime::await(std::unique_lock<std::mutex>& lock, time_point deadline,
                                 const std::function<bool()>& urgent, const std::function<bool()>& here) {
  constexpr std::chrono::milliseconds look{10}; // at what `urgent` watches
  while (!here()) {
    const auto now = base::now();
    if (now >= deadline)
      return fail(fault::timeout);
    if (urgent) {
      lock.unlock(); // it may obey an order
      const bool leave = urgent();
      lock.lock();
      if (leave)
        return fail(fault::cancelled);
      if (here())
        return {};
    }
    arrived_.wait_until(lock, urgent ? std::min<time_point>(deadline, now + look) : deadline);
  }
  return {};
}

result<std::unique_ptr<fabric::lane>> rank_runtime::take_lane(const lane_name& which, time_point deadline,
                                                              const std::function<bool()>& urgent) {
  base::flight_span waiting{edge_to(which)};
  std::unique_lock lock{mutex_};
  if (auto arrived = await(lock, deadline, urgent, [&] { return lanes_.contains(which); }); !arrived)
    return waiting.ends(result<std::unique_ptr<fabric::lane>>{
        fail(arrived.error().code, "no edge from " + context_.plan.rank(which.peer).label)});
  auto lane = std::move(lanes_.at(which));
  lanes_.erase(which);
  return lane;
}

failure rank_runtime::at_edge_with(rank_id peer, failure cause) {
  const std::lock_guard lock{mutex_};
  edges_.on_unmade(peer, cause.code);
  return cause;
}

std::optional<rank_id> rank_runtime::unreached() const {
  const std::lock_guard lock{mutex_};
  return edges_.unreached();
}

time_point rank_runtime::edge_deadline(rank_id peer, time_point deadline) const {
  const std::lock_guard lock{mutex_};
  return edges_.deadline_with(peer, deadline, base::now());
}

bool rank_runtime::begins(const lane_name& which) const {
  const std::lock_guard lock{mutex_};
  return edges_.begins(which);
}

result<void> rank_runtime::make_lanes(const roster& everybody, time_point deadline) {
  {
    const std::lock_guard lock{mutex_};
    if (auto good = edges_.on_roster(everybody); !good)
      return good;
  }
  everybody_ = everybody.ranks;
  const auto kind =
      context_.spec.lanes.control == control_lane::tcp ? fabric::lane_kind::tcp : fabric::lane_kind::shared_memory;
  const fabric::lane_options options{.frame_bytes_max = context_.spec.limits.frame_bytes_max,
                                     .in_flight_bytes_max = 2 * std::size_t{context_.spec.limits.frame_bytes_max}};
  for (const auto& which : edges_.planned()) {
    const auto& [peer, channel, group] = which;
    if (!begins(which))
      continue;
    base::flight_span waiting{edge_to(which)};
    auto lane = fabric::connect(
        kind, everybody_[peer.value], identity_,
        hello{
            .shown = {}, .nonce = {}, .channel = channel, .group = group, .build = identity_.build, .capabilities = {}},
        options, edge_deadline(peer, deadline));
    if (!lane)
      return waiting.ends(result<void>{tl::unexpected<failure>{at_edge_with(
          peer, {lane.error().code, "edge to " + context_.plan.rank(peer).label + ": " + lane.error().what})}});
    const std::lock_guard lock{mutex_};
    lanes_[which] = fabric::drilled(*std::move(lane), peer, channel);
  }
  for (const auto& which : edges_.planned()) {
    if (which.channel == channel_kind::group)
      continue; // taken by the executor of the group's cell
    auto lane = take_lane(which, deadline);
    if (!lane)
      return tl::unexpected<failure>{at_edge_with(which.peer, lane.error())};
    adopt(which, *std::move(lane));
  }
  return {};
}

void rank_runtime::adopt(const lane_name& which, std::unique_ptr<fabric::lane> lane) {
  const auto& [peer, channel, group] = which;
  if (edges_.driver_of(which) == edge_machine::driver::executor) {
    token_lane_ = std::move(lane);
    return;
  }
  const auto born = everybody_[peer.value].born;
  if (channel == channel_kind::control)
    signs_[peer.value].born.store(born.value);
  const auto key =
      wire_.add(std::move(lane),
                {.on_frame = [this, from = peer](const frame_view& frame) { return on_control_frame(from, frame); },
                 .on_gone =
                     [this, from = peer, born](const failure& cause) {
                       const std::lock_guard lock{mutex_}; // or a loss between the two would make it a successor's end
                       if (edges_.is_news(from, born))
                         calls_.on_peer_gone(from, cause);
                     },
                 .peer = peer},
                channel == channel_kind::control ? &signs_[peer.value] : nullptr);
  wired_[which] = key;
  if (channel != channel_kind::control)
    return;
  caf::anon_send(context_.links.at(peer), actors::relink{key});
}

/// A link is there before any lane is driven, since what a frame is answered with goes by links; until it is told of a
/// lane, what it is given is dropped as what is sent to the dead.
void rank_runtime::make_links() {
  for (const auto& [peer, channel, group] : edges_.planned())
    if (channel == channel_kind::control)
      context_.links[peer] = system_->spawn<actors::link_actor>(context_, peer);
}

result<void> rank_runtime::on_control_frame(rank_id peer, const frame_view& frame) {
  TROUPE_FAULT_POINT("link.received");
  if (frame.header.type != message_type::region)
    return program_->accept_frame(frame);
  region told;
  if (auto read = decode_payload(frame.payload, told); !read)
    return read;
  const auto expected = written_by_me();
  if (std::ranges::find(expected, std::pair{peer, told.purpose}) == expected.end())
    return fail(fault::bad_value, "region " + told.purpose + " is none that this rank writes");
  {
    const std::lock_guard lock{mutex_};
    if (const auto holds = edges_.validate_word(peer, frame.header.epoch); !holds) {
      base::log_warning("region {} of rank {} dropped: {}", told.purpose, peer.value, to_string(holds.error()));
      return {};
    }
    announced_[{peer, told.purpose}] = told.card;
  }
  arrived_.notify_all();
  return {};
}

// ---- clients of the front -------------------------------------------------------------------------------------------

namespace {

/// A client's place among those that the front takes, for as long as its link lives.
class client_place {
public:
  explicit client_place(std::atomic<std::size_t>& taken) : taken_(taken) { ++taken_; }
  ~client_place() { --taken_; }
  client_place(const client_place&) = delete;
  client_place& operator=(const client_place&) = delete;

private:
  std::atomic<std::size_t>& taken_;
};

std::size_t open_descriptors() {
  std::error_code unknown;
  const std::filesystem::directory_iterator files{"/proc/self/fd", unknown};
  return unknown ? 0 : static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

} // namespace

/// So many clients that the descriptors of a recovery are left: it makes every edge anew before the old one is closed.
/// Raises the process's own limit as far as it may. Contract: C20, K9.
std::size_t rank_runtime::find_room_for_clients() const {
  const auto kept = 2 * open_descriptors() + limits::descriptors_spare;
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0)
    return limits::clients_max;
  if (files.rlim_cur < kept + limits::clients_max && files.rlim_cur < files.rlim_max) {
    const auto before = std::exchange(files.rlim_cur, std::min<rlim_t>(files.rlim_max, kept + limits::clients_max));
    if (::setrlimit(RLIMIT_NOFILE, &files) != 0)
      files.rlim_cur = before;
  }
  const auto room = files.rlim_cur > kept ? static_cast<std::size_t>(files.rlim_cur - kept) : std::size_t{1};
  if (room < limits::clients_max)
    base::log_warning("takes at most {} clients: it may open {} files (ulimit -n) and keeps {} for its ranks", room,
                      files.rlim_cur, kept);
  return std::min(room, limits::clients_max);
}

void rank_runtime::on_client(base::unique_fd socket, bool crowded) {
  ucred who{};
  socklen_t size = sizeof who;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0 ||
      (who.uid != ::geteuid() && who.uid != 0)) {
    base::log_warning("client of user {} refused", who.uid);
    return;
  }
  auto lane = fabric::make_stream_lane(
      socket.release(), context_.self, generation{1}, client_rank, generation{1},
      {.frame_bytes_max = limits::frame_bytes_max_default, .in_flight_bytes_max = limits::frame_bytes_max_default * 2});
  // Says why as far as the socket takes it at once, and lets go.
  const auto refuse_client = [&](const std::string& why) {
    base::log_warning("client refused: {}", why);
    const auto [type, payload] = program_->refusal({fault::queue_full, why});
    [[maybe_unused]] const auto told = lane->try_send({.type = type}, payload);
  };
  if (crowded)
    return refuse_client("no descriptor is left for it (ulimit -n)");
  if (clients_ >= clients_max_)
    return refuse_client(std::to_string(clients_max_) +
                         " clients are connected, the most that this front takes (limits::clients_max, or "
                         "what ulimit -n leaves)");
  // The handlers need the key that `add` is about to give.
  const auto key = std::make_shared<fabric::wire::key>(0);
  const auto place = std::make_shared<client_place>(clients_);
  *key = wire_.add(
      std::move(lane),
      {.on_frame = [this, key, place](const frame_view& frame) { return program_->accept_client_frame(*key, frame); },
       .on_gone =
           [this, key](const failure& cause) {
             if (cause.code != fault::peer_gone)
               base::log_warning("client refused: {}", to_string(cause));
             program_->client_gone(*key);
           }},
      nullptr,
      {.queue_bytes_max = limits::client_queue_bytes_max,
       .unhandled_max = limits::client_frames_max,
       .frame_within = limits::client_frame_deadline});
}

} // namespace troupe::cluster
