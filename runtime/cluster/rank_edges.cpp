#include <sys/socket.h>

#include "actors/front_actor.hpp"
#include "actors/link_actor.hpp"
#include "protocols/codec.hpp"
#include "runtime/base/log.hpp"
#include "runtime/cluster/rank_world.hpp"

/// The lanes of a rank: which the plan wants, how they come to be, where their frames go.
namespace troupe::cluster {

using namespace protocols;

/// Lanes that this rank begins (`connecting`), or those that its peers do.
std::set<rank_world::lane_name> rank_world::lanes_here(bool connecting) const {
  std::set<lane_name> out;
  const auto add = [&](const edge_plan& edge, channel_kind channel, group_id group) {
    if (connecting && edge.connects == context_.self)
      out.emplace(edge.accepts, channel, group);
    if (!connecting && edge.accepts == context_.self)
      out.emplace(edge.connects, channel, group);
  };
  for (const auto& edge : context_.plan.edges)
    add(edge, channel_kind::control, group_id{});
  for (const auto& edge : context_.plan.token_edges)
    add(edge, channel_kind::tokens, group_id{});
  for (const auto& group : context_.plan.groups)
    for (std::size_t i = 0; i < group.members.size(); ++i)
      for (std::size_t j = i + 1; j < group.members.size(); ++j)
        add({group.members[i], group.members[j]}, channel_kind::group, group.id);
  return out;
}

void rank_world::on_incoming(fabric::incoming lane) {
  {
    const std::lock_guard lock{mutex_};
    lanes_[{lane.peer, lane.channel, lane.group}] = std::move(lane.with);
  }
  arrived_.notify_all();
}

result<std::unique_ptr<fabric::lane>> rank_world::take_lane(const lane_name& which, time_point deadline) {
  std::unique_lock lock{mutex_};
  if (!arrived_.wait_until(lock, deadline, [&] { return lanes_.contains(which); }))
    return fail(fault::timeout, "no edge from " + context_.plan.rank(std::get<0>(which)).label);
  auto lane = std::move(lanes_.at(which));
  lanes_.erase(which);
  return lane;
}

result<void> rank_world::make_lanes(const roster& everybody, time_point deadline) {
  everybody_ = everybody.ranks;
  if (everybody_.size() != context_.plan.ranks.size())
    return fail(fault::bad_value, "roster of " + std::to_string(everybody_.size()) + " ranks");
  const auto kind =
      context_.spec.lanes.control == control_lane::tcp ? fabric::lane_kind::tcp : fabric::lane_kind::shared_memory;
  const fabric::lane_options options{.frame_bytes_max = context_.spec.limits.frame_bytes_max,
                                     .in_flight_bytes_max = 2 * std::size_t{context_.spec.limits.frame_bytes_max}};
  const auto connecting = lanes_here(true);
  for (const auto& which : connecting) {
    const auto& [peer, channel, group] = which;
    auto lane = fabric::connect(kind, everybody_[peer.value], identity_,
                                hello{.job_token = identity_.job_token,
                                      .channel = channel,
                                      .group = group,
                                      .build = identity_.build,
                                      .capabilities = {}},
                                options, deadline);
    if (!lane)
      return fail(lane.error().code, "edge to " + context_.plan.rank(peer).label + ": " + lane.error().what);
    const std::lock_guard lock{mutex_};
    lanes_[which] = *std::move(lane);
  }
  auto all = connecting;
  all.merge(lanes_here(false));
  for (const auto& which : all) {
    const auto& [peer, channel, group] = which;
    if (channel == channel_kind::group)
      continue; // taken by the executor of the group's cell
    auto lane = take_lane(which, deadline);
    if (!lane)
      return tl::unexpected<failure>{lane.error()};
    if (channel == channel_kind::tokens && !is_front()) {
      token_lane_ = *std::move(lane);
      continue;
    }
    const auto key = wire_.add(
        *std::move(lane), {.on_frame = [this, from = peer](const frame_view& frame) { on_control_frame(from, frame); },
                           .on_gone = [this, from = peer](const failure& cause) { calls_.on_peer_gone(from, cause); }});
    if (channel == channel_kind::control) {
      control_[peer] = key;
      context_.links[peer] = system_->spawn<actors::link_actor>(context_, peer, key);
    }
  }
  return {};
}

void rank_world::on_control_frame(rank_id peer, const frame_view& frame) {
  if (frame.header.type == message_type::region) {
    region told;
    if (auto read = decode_payload(frame.payload, told); !read)
      return calls_.on_failure(read.error(), "region of " + context_.plan.rank(peer).label);
    {
      const std::lock_guard lock{mutex_};
      announced_[{peer, told.purpose}] = told.card;
    }
    arrived_.notify_all();
    return;
  }
  if (auto taken = actors::accept_frame(context_, frame); !taken)
    calls_.on_failure(taken.error(), "frame of " + context_.plan.rank(peer).label);
}

// ---- clients of the front -------------------------------------------------------------------------------------------

void rank_world::on_client(base::unique_fd socket) {
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
  // The handlers need the key that `add` is about to give.
  const auto key = std::make_shared<fabric::wire::key>(0);
  *key =
      wire_.add(std::move(lane), {.on_frame = [this, key](const frame_view& frame) { on_client_frame(*key, frame); },
                                  .on_gone =
                                      [this, key](const failure&) {
                                        caf::anon_send(context_.roles.at(role_kind::front), actors::client_gone{*key});
                                      }});
}

void rank_world::on_client_frame(fabric::wire::key client, const frame_view& frame) {
  const auto& front = context_.roles.at(role_kind::front);
  const auto take = [&]<class Message>(Message body) -> result<void> {
    if (auto read = decode_payload(frame.payload, body); !read)
      return read;
    caf::anon_send(front, actors::from_client<Message>{client, std::move(body)});
    return {};
  };
  result<void> taken = fail(fault::unknown_type, std::string{name(frame.header.type)} + " from a client");
  if (frame.header.type == ask::type)
    taken = take(ask{});
  else if (frame.header.type == picture_chunk::type)
    taken = take(picture_chunk{});
  else if (frame.header.type == cancel::type)
    taken = take(cancel{});
  if (taken)
    return;
  base::log_warning("client refused: {}", to_string(taken.error()));
  wire_.remove(client);
  caf::anon_send(front, actors::client_gone{client});
}

} // namespace troupe::cluster
