// Decides outside protocols: a client is a socket that may be anybody's

#include "runtime/cluster/rank_clients.hpp"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "fabric/lanes/lane.hpp"
#include "fabric/listening_socket.hpp"
#include "runtime/base/log.hpp"

namespace troupe::cluster {

using namespace protocols;

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
std::size_t rank_clients::find_room() const {
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

result<void> rank_clients::accept(const std::string& socket) {
  auto clients = fabric::listening_socket::at_unix(socket, SOCK_STREAM);
  if (!clients)
    return tl::unexpected<failure>{clients.error()};
  taken_max_ = find_room();
  wire_.accept_clients(*std::move(clients),
                       [this](base::unique_fd client, bool crowded) { on_client(std::move(client), crowded); });
  return {};
}

void rank_clients::on_client(base::unique_fd socket, bool crowded) {
  ucred who{};
  socklen_t size = sizeof who;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0 ||
      (who.uid != ::geteuid() && who.uid != 0)) {
    base::log_warning("client of user {} refused", who.uid);
    return;
  }
  auto lane = fabric::make_stream_lane(
      socket.release(), self_, generation{1}, client_rank, generation{1},
      {.frame_bytes_max = limits::frame_bytes_max_default, .in_flight_bytes_max = limits::frame_bytes_max_default * 2});
  const auto refuse_client = [&](const std::string& why) {
    base::log_warning("client refused: {}", why);
    const auto [type, payload] = program_.refusal({fault::queue_full, why});
    // What the socket does not take at once is not told: the connection ends either way.
    [[maybe_unused]] const auto told = lane->try_send({.type = type}, payload);
  };
  if (crowded)
    return refuse_client("no descriptor is left for it (ulimit -n)");
  if (taken_ >= taken_max_)
    return refuse_client(std::to_string(taken_max_) +
                         " clients are connected, the most that this front takes (limits::clients_max, or "
                         "what ulimit -n leaves)");
  // The handlers need the key that `add` is about to give.
  const auto key = std::make_shared<fabric::wire::key>(0);
  const auto place = std::make_shared<client_place>(taken_);
  *key = wire_.add(
      std::move(lane),
      {.on_frame = [this, key, place](const frame_view& frame) { return program_.accept_client_frame(*key, frame); },
       .on_gone =
           [this, key](const failure& cause) {
             if (cause.code != fault::peer_gone)
               base::log_warning("client refused: {}", to_string(cause));
             program_.client_gone(*key);
           }},
      nullptr,
      {.queue_bytes_max = limits::client_queue_bytes_max,
       .unhandled_max = limits::client_frames_max,
       .frame_within = limits::client_frame_deadline});
}

} // namespace troupe::cluster
