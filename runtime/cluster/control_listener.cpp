// Decides outside protocols: a client is a socket that may be anybody's

#include "runtime/cluster/control_listener.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "fabric/lanes/connect.hpp"
#include "fabric/socket_address.hpp"
#include "protocols/wire/codec.hpp"
#include "protocols/wire/decode_frame.hpp"

namespace troupe::cluster {

using namespace protocols;

namespace {

constexpr generation door_generation{1};
constexpr fabric::lane_options door_options{.frame_bytes_max = limits::unauthenticated_frame_bytes_max,
                                            .in_flight_bytes_max = 2 * limits::unauthenticated_frame_bytes_max};

bool is_owner(int socket) {
  ucred who{};
  socklen_t size = sizeof who;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 && (who.uid == ::geteuid() || who.uid == 0);
}

} // namespace

result<void> validate_injection(const cluster_spec& spec, const cluster_plan& plan, const inject& order) {
  if (!spec.drills)
    return fail(fault::invalid_request, "the spec of this job does not say \"drills\": true");
  if (order.rank != supervisor_rank && order.rank.value >= plan.ranks.size())
    return fail(fault::invalid_request,
                fmt::format("there is no rank {}; the last one is {}", order.rank.value, plan.ranks.size() - 1));
  return validate_rule(order.rule);
}

result<control_listener> control_listener::open(const std::string& path) {
  auto socket = fabric::listening_socket::at_unix(path, SOCK_STREAM);
  if (!socket)
    return tl::unexpected<failure>{std::move(socket.error())};
  return control_listener{std::move(*socket)};
}

void control_listener::accept_waiting(time_point now) {
  while (clients_.size() < clients_max) {
    auto socket = listening_.accept();
    if (!socket)
      return;
    if (is_owner(socket.get()))
      clients_.push_back({fabric::make_stream_lane(socket.release(), supervisor_rank, door_generation, client_rank,
                                                   door_generation, door_options),
                          now});
  }
}

/// Reads one client's orders. False: it is let go.
bool control_listener::serve(client& from, const handler& on_inject, time_point now) {
  fabric::lane& lane = *from.lane;
  while (true) { // ends with what the client has sent, which its lane bounds
    const auto frame = lane.peek();
    if (!frame)
      return false;
    if (!*frame)
      return now < from.heard + client_patience;
    from.heard = now;
    inject order;
    result<void> done = fail(fault::unknown_type, "only faults to inject are taken here");
    if ((*frame)->header.type == inject::type) {
      done = decode_frame(**frame, order);
      if (done)
        done = on_inject(order);
    }
    lane.pop();
    const injected answer{.code = done ? std::uint16_t{0} : static_cast<std::uint16_t>(done.error().code),
                          .message = done ? std::string{} : done.error().what};
    std::vector<std::byte> payload;
    encode_payload(answer, payload);
    if (!lane.try_send({.type = injected::type}, payload))
      return false;
  }
}

void control_listener::step(const handler& on_inject, time_point now) {
  accept_waiting(now);
  std::erase_if(clients_, [&](client& each) { return !serve(each, on_inject, now); });
}

std::vector<int> control_listener::waitables() const {
  std::vector<int> fds;
  if (clients_.size() < clients_max)
    fds.push_back(listening_.waits_on());
  for (const auto& each : clients_)
    fds.push_back(each.lane->waitables({}).fds.front().fd);
  return fds;
}

result<void> order_injection(const std::string& path, const inject& order, time_point deadline) {
  base::unique_fd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const auto address = fabric::unix_address(path);
  if (!address)
    return fail(fault::config_invalid, address.error().what);
  if (!socket || ::connect(socket.get(), address->get(), address->size) != 0)
    return fail(fault::peer_gone, fmt::format("{}: {}", path, std::strerror(errno)));
  const auto lane = fabric::make_stream_lane(socket.release(), client_rank, door_generation, supervisor_rank,
                                             door_generation, door_options);
  std::vector<std::byte> payload;
  encode_payload(order, payload);
  if (auto sent = fabric::send(*lane, {.type = inject::type}, payload, deadline); !sent)
    return sent;
  const auto frame = fabric::receive(*lane, deadline);
  if (!frame)
    return tl::unexpected{frame.error()};
  injected answer;
  if (auto read = decode_frame(*frame, answer); !read)
    return read;
  if (answer.code == 0)
    return {};
  return fail(fault_from(answer.code).value_or(fault::invalid_request), answer.message);
}

} // namespace troupe::cluster
