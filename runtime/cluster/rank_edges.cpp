// Decides outside protocols: the wait itself, for the wire's thread

#include "runtime/cluster/rank_edges.hpp"

#include <algorithm>

#include "actors/link_actor.hpp"
#include "fabric/lanes/drilled_lane.hpp"
#include "protocols/wire/decode_frame.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/fault_point.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/base/log.hpp"
#include "runtime/cluster/build_id.hpp"

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

rank_edges::rank_edges(actors::rank_context& rank, const launch& start, events calls)
    : rank_(rank), calls_(std::move(calls)), self_{.rank = rank.self,
                                                   .born = start.born,
                                                   .job_token = start.job_token,
                                                   .build = build_id(),
                                                   .epoch = start.epoch},
      signs_(rank.plan.ranks.size()),
      machine_(rank.plan, rank.self, start.born, start.epoch, recovery_deadlines{rank.spec.timeouts}) {}

fabric::lane_options rank_edges::lane_bounds() const {
  const std::size_t frame = rank_.spec.limits.frame_bytes_max;
  return {.frame_bytes_max = frame, .in_flight_bytes_max = 2 * frame};
}

result<endpoint> rank_edges::listen(const std::string& run_directory) {
  const auto& lanes = rank_.spec.lanes;
  const bool over_tcp = lanes.control == control_lane::tcp;
  endpoint here{.rank = rank_.self,
                .born = self_.born,
                .unix_path =
                    over_tcp ? std::string{} : run_directory + "/r" + std::to_string(rank_.self.value) + ".sock",
                .tcp_address = over_tcp ? "127.0.0.1" : "",
                .tcp_port = 0,
                .fabric_address = {}};
  auto opened = fabric::listener::open(
      here.unix_path, here.tcp_address,
      lanes.tcp_port == 0 ? std::uint16_t{0} : static_cast<std::uint16_t>(lanes.tcp_port + rank_.self.value), self_,
      lane_bounds(), [this](const fabric::edge& between, const hello& said) { return validate_hello(between, said); },
      [this](const fabric::edge& between, const hello& said) { note_begun(between, said); });
  if (!opened)
    return tl::unexpected<failure>{opened.error()};
  here.tcp_port = (*opened)->tcp_port();
  wire_.listen(
      *std::move(opened), [this](fabric::incoming lane) { on_incoming(std::move(lane)); },
      [](const std::string& line) { base::log_warning("refused: {}", line); });
  return here;
}

void rank_edges::start() {
  wire_.beat(std::chrono::milliseconds{rank_.spec.timeouts.heartbeat_ms}, [] {
    const auto here = base::flight().live();
    const auto active = here.activities();
    return heartbeat{.completed = here.progress(), .busy = std::ranges::any_of(active, [](const auto& thread) {
                                                     return thread.what.action == flight_action::step;
                                                   })};
  });
  wire_.start();
}

result<void> rank_edges::validate_hello(const fabric::edge& between, const hello& said) const {
  const std::lock_guard lock{mutex_};
  return machine_.validate_hello(between.peer, between.peer_born, between.epoch, said);
}

void rank_edges::note_begun(const fabric::edge& between, const hello& said) {
  const std::lock_guard lock{mutex_};
  machine_.on_begun({between.peer, said.channel, said.group}, between.peer_born);
}

void rank_edges::on_incoming(fabric::incoming lane) {
  TROUPE_FAULT_POINT("listener.accepted");
  {
    const std::lock_guard lock{mutex_};
    lanes_[{lane.peer, lane.channel, lane.group}] = fabric::drilled(std::move(lane.with), lane.peer, lane.channel);
  }
  arrived_.notify_all();
}

result<void> rank_edges::await(std::unique_lock<std::mutex>& lock, time_point deadline, const urgency& urgent,
                               const std::function<bool()>& here) {
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

result<std::unique_ptr<fabric::lane>> rank_edges::take_lane(const lane_name& which, time_point deadline,
                                                            const urgency& urgent) {
  base::flight_span waiting{edge_to(which)};
  std::unique_lock lock{mutex_};
  if (auto arrived = await(lock, deadline, urgent, [&] { return lanes_.contains(which); }); !arrived)
    return waiting.ends(result<std::unique_ptr<fabric::lane>>{
        fail(arrived.error().code, "no edge from " + rank_.plan.rank(which.peer).label)});
  auto lane = std::move(lanes_.at(which));
  lanes_.erase(which);
  return lane;
}

result<void> rank_edges::connect(const lane_name& which, time_point deadline) {
  const auto& [peer, channel, group] = which;
  const auto kind =
      rank_.spec.lanes.control == control_lane::tcp ? fabric::lane_kind::tcp : fabric::lane_kind::shared_memory;
  base::flight_span waiting{edge_to(which)};
  auto lane = fabric::connect(
      kind, everybody_[peer.value], self_,
      hello{.shown = {}, .nonce = {}, .channel = channel, .group = group, .build = self_.build, .capabilities = {}},
      lane_bounds(), deadline_with(peer, deadline));
  if (!lane)
    return waiting.ends(result<void>{tl::unexpected<failure>{
        unmade(peer, {lane.error().code, "edge to " + rank_.plan.rank(peer).label + ": " + lane.error().what})}});
  const std::lock_guard lock{mutex_};
  lanes_[which] = fabric::drilled(*std::move(lane), peer, channel);
  return {};
}

result<void> rank_edges::make(const roster& everybody, time_point deadline) {
  {
    const std::lock_guard lock{mutex_};
    if (auto good = machine_.on_roster(everybody); !good)
      return good;
  }
  everybody_ = everybody.ranks;
  for (const auto& which : planned())
    if (begins(which))
      if (auto connected = connect(which, deadline); !connected)
        return connected;
  for (const auto& which : planned()) {
    if (which.channel == channel_kind::group)
      continue; // taken by the executor of the group's cell
    auto lane = take_lane(which, deadline);
    if (!lane)
      return tl::unexpected<failure>{unmade(which.peer, lane.error())};
    adopt(which, *std::move(lane));
  }
  return {};
}

void rank_edges::adopt(const lane_name& which, std::unique_ptr<fabric::lane> lane) {
  const auto& [peer, channel, group] = which;
  if (machine_.driver_of(which) == edge_machine::driver::executor) {
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
                       if (machine_.is_news(from, born))
                         calls_.on_peer_gone(from, cause);
                     },
                 .peer = peer},
                channel == channel_kind::control ? &signs_[peer.value] : nullptr);
  wired_[which] = key;
  if (channel != channel_kind::control)
    return;
  caf::anon_send(rank_.links.at(peer), actors::relink{key});
}

result<void> rank_edges::lose(const lost& news) {
  {
    const std::lock_guard lock{mutex_};
    if (auto good = machine_.on_lost(news); !good)
      return good;
    std::erase_if(lanes_, [&](const auto& each) { return machine_.is_dropped(each.first, news); });
    for (const auto rank : news.ranks)
      std::erase_if(announced_, [&](const auto& each) { return each.first.first == rank; });
  }
  for (const auto rank : news.ranks) {
    signs_[rank.value].linked.store(false);
    std::erase_if(wired_, [&](const auto& each) {
      if (each.first.peer != rank)
        return false;
      wire_.remove(each.second);
      return true;
    });
  }
  return {};
}

result<edge_machine::admission> rank_edges::rejoin(const protocols::rejoin& order, const urgency& urgent) {
  result<edge_machine::admission> begun;
  {
    const std::lock_guard lock{mutex_};
    begun = machine_.on_rejoin(order, base::now());
  }
  if (!begun)
    return begun;
  for (const auto& peer : order.ranks)
    everybody_[peer.rank.value] = peer;
  for (const auto& which : begun->lanes) {
    auto lane = take_lane(which, begun->by, urgent);
    if (!lane)
      return tl::unexpected<failure>{unmade(which.peer, lane.error())};
    adopt(which, *std::move(lane));
  }
  return begun;
}

result<void> rank_edges::announce(rank_id writer, const region& what) {
  if (writer == rank_.self) {
    const std::lock_guard lock{mutex_};
    announced_[{writer, what.purpose}] = what.card;
    return {};
  }
  std::vector<std::byte> payload;
  encode_payload(what, payload);
  return wire_.post(wired_.at({writer, channel_kind::control, group_id{}}), {.type = region::type}, std::move(payload));
}

result<region_card> rank_edges::await_region(rank_id owner, const std::string& purpose, time_point deadline,
                                             const urgency& urgent) {
  std::unique_lock lock{mutex_};
  const std::pair wanted{owner, purpose};
  const auto told = await(lock, deadline, urgent, [&] { return announced_.contains(wanted); });
  if (told)
    return announced_.at(wanted);
  lock.unlock();
  return tl::unexpected<failure>{
      unmade(owner, {told.error().code, "no word of region " + purpose + " from " + rank_.plan.rank(owner).label})};
}

result<void> rank_edges::on_control_frame(rank_id peer, const frame_view& frame) {
  TROUPE_FAULT_POINT("link.received");
  if (frame.header.type != message_type::region)
    return calls_.on_frame(frame);
  region told;
  if (auto read = decode_frame(frame, told); !read)
    return read;
  if (!calls_.writes(peer, told.purpose))
    return fail(fault::bad_value, "region " + told.purpose + " is none that this rank writes");
  {
    const std::lock_guard lock{mutex_};
    if (const auto holds = machine_.validate_word(peer, frame.header.epoch); !holds) {
      base::log_warning("region {} of rank {} dropped: {}", told.purpose, peer.value, to_string(holds.error()));
      return {};
    }
    announced_[{peer, told.purpose}] = told.card;
  }
  arrived_.notify_all();
  return {};
}

failure rank_edges::unmade(rank_id peer, failure cause) {
  const std::lock_guard lock{mutex_};
  machine_.on_unmade(peer, cause.code);
  return cause;
}

std::optional<rank_id> rank_edges::unreached() const {
  const std::lock_guard lock{mutex_};
  return machine_.unreached();
}

time_point rank_edges::deadline_with(rank_id peer, time_point deadline) const {
  const std::lock_guard lock{mutex_};
  return machine_.deadline_with(peer, deadline, base::now());
}

bool rank_edges::begins(const lane_name& which) const {
  const std::lock_guard lock{mutex_};
  return machine_.begins(which);
}

} // namespace troupe::cluster
