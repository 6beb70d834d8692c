// Decides outside protocols: a stranger is a socket until it has shown the job's token

#include "fabric/lanes/connect.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <list>
#include <utility>

#include "fabric/lanes/handshake.hpp"
#include "fabric/lanes/shared_memory_lane.hpp"
#include "fabric/lanes/stream_lane.hpp"
#include "fabric/listening_socket.hpp"
#include "fabric/socket_address.hpp"
#include "protocols/wire/decode_frame.hpp"

namespace troupe::fabric {

using namespace protocols;

namespace {

/// Refusals kept between two `take_refusals`: a peer that is refused in a loop must not fill our memory.
constexpr std::size_t refusals_max = 256;

std::string describe_peer(int socket, lane_kind kind) {
  if (kind == lane_kind::shared_memory)
    return "a unix socket";
  const auto from = peer_address(socket);
  return from ? from->text : "an unknown address";
}

class socket_listener final : public listener {
public:
  socket_listener(identity self, lane_options options, hello_check expects, notice begun)
      : self_(std::move(self)), options_(options), expects_(std::move(expects)), begun_(std::move(begun)) {}
  ~socket_listener() override {
    if (unix_socket_)
      ::unlink(unix_path_.c_str());
  }

  result<void> open_unix(const std::string& path);
  result<void> open_tcp(const std::string& address, std::uint16_t port);

  std::uint16_t tcp_port() const noexcept override { return tcp_port_; }
  std::vector<pollfd> waitables() const override;
  std::vector<incoming> step(time_point now) override;
  std::vector<std::string> take_refusals() override;

private:
  struct handshake {
    base::unique_fd socket;
    lane_kind kind;
    std::string peer;
    time_point accepted;
    handshake_reader reader;
  };

  void accept_from(listening_socket& socket, lane_kind kind, time_point now);
  result<incoming> welcome_peer(handshake& with, const frame_view& first);
  void refuse_peer(handshake& with, const failure& why);

  identity self_;
  lane_options options_;
  hello_check expects_;
  notice begun_;
  std::string unix_path_;
  listening_socket unix_socket_;
  listening_socket tcp_socket_;
  std::uint16_t tcp_port_ = 0;
  std::list<handshake> pending_; ///< at most pending_handshakes_max
  std::vector<std::string> refusals_;
  std::size_t refusals_dropped_ = 0;
};

result<void> socket_listener::open_unix(const std::string& path) {
  auto socket = listening_socket::at_unix(path, SOCK_STREAM);
  if (!socket)
    return tl::unexpected<failure>{std::move(socket.error())};
  unix_path_ = path;
  unix_socket_ = std::move(*socket);
  return {};
}

result<void> socket_listener::open_tcp(const std::string& address, std::uint16_t port) {
  const auto at = tcp_address(address, port);
  if (!at)
    return tl::unexpected<failure>{at.error()};
  auto socket = listening_socket::at_network(*at, "; set lanes.tcp_port to a free port or 0");
  if (!socket)
    return tl::unexpected<failure>{std::move(socket.error())};
  const auto bound = own_address(socket->file());
  if (!bound)
    return fail(fault::config_invalid, "cannot listen on " + at->text + ": the bound port cannot be read");
  tcp_port_ = port_of(*bound);
  tcp_socket_ = std::move(*socket);
  return {};
}

std::vector<pollfd> socket_listener::waitables() const {
  std::vector<pollfd> fds;
  for (const auto& each : pending_)
    fds.push_back({each.socket.get(), POLLIN, 0});
  if (pending_.size() < pending_handshakes_max)
    for (const auto* socket : {&unix_socket_, &tcp_socket_})
      if (*socket)
        fds.push_back({socket->waits_on(), POLLIN, 0});
  return fds;
}

void socket_listener::accept_from(listening_socket& socket, lane_kind kind, time_point now) {
  while (pending_.size() < pending_handshakes_max) {
    auto accepted = socket.accept();
    if (!accepted)
      return; // nobody, or somebody who has left again
    auto from = describe_peer(accepted.get(), kind);
    pending_.push_back({std::move(accepted), kind, std::move(from), now, {}});
  }
}

std::vector<incoming> socket_listener::step(time_point now) {
  accept_from(unix_socket_, lane_kind::shared_memory, now);
  accept_from(tcp_socket_, lane_kind::tcp, now);

  const bool crowded = pending_.size() == pending_handshakes_max;
  const auto patience = crowded ? crowded_handshake_deadline : handshake_deadline;
  std::vector<incoming> arrived;
  for (auto it = pending_.begin(); it != pending_.end();) {
    const auto first = it->reader.step(it->socket.get());
    if (first && !*first && now < it->accepted + patience) {
      ++it;
      continue;
    }
    if (!first) {
      refuse_peer(*it, first.error());
    } else if (!*first) {
      refuse_peer(*it, {fault::timeout, crowded ? "no whole hello, and others wait" : "no whole hello within 2 s"});
    } else if (auto welcomed = welcome_peer(*it, **first)) {
      arrived.push_back(std::move(*welcomed));
    } else {
      refuse_peer(*it, welcomed.error());
    }
    it = pending_.erase(it);
  }
  return arrived;
}

/// Judges the hello; nothing but the proof is looked at before the proof is right.
/// Contract: K5.
result<incoming> socket_listener::welcome_peer(handshake& with, const frame_view& first) {
  const auto refused = [](const failure& why) { return tl::unexpected<failure>{why}; };
  if (first.header.type != hello::type)
    return fail(fault::bad_value, std::string{name(first.header.type)} + " where a hello was expected");
  hello opening;
  payload_reader before{first.payload}; // of the first fields; the lists behind may take more memory than the frame
  before.required(opening.shown, opening.nonce, opening.channel, opening.group);
  if (const auto problem = before.problem())
    return refused(*problem);
  if (!is_same(opening.shown, proof_of_hello(self_.job_token, sender_of(first.header), opening)))
    return fail(fault::wrong_job);
  hello said;
  if (const auto read = decode_frame(first, said); !read)
    return refused(read.error());

  const edge between{.self = self_.rank,
                     .self_born = self_.born,
                     .peer = first.header.source,
                     .peer_born = first.header.source_generation,
                     .epoch = first.header.epoch,
                     .spans_epochs = spans_epochs(said.channel)};
  if (const auto ours = between.judge(first.header, 0); !ours)
    return refused(ours.error());
  if (const auto expected = expects_(between, said); !expected)
    return refused(expected.error());

  auto descriptors = with.reader.take_descriptors();
  const bool memory = with.kind == lane_kind::shared_memory;
  if (descriptors.size() != (memory ? handshake_descriptors_max : 0))
    return fail(fault::bad_value, std::to_string(descriptors.size()) + " descriptors with the hello");

  // The lane is made before the welcome, so that a welcome is a promise; the socket stays ours until both are done.
  std::unique_ptr<lane> made;
  base::unique_fd socket{::fcntl(with.socket.get(), F_DUPFD_CLOEXEC, 0)};
  if (!socket) // a lane without its socket would never learn of its peer's end
    return fail(fault::no_memory, std::string{"a second descriptor of the connection: "} + std::strerror(errno));
  if (memory) {
    auto lane =
        make_shared_memory_lane({std::move(descriptors[0]), std::move(descriptors[1]), std::move(descriptors[2])},
                                std::move(socket), lane_side::accepts, between, options_);
    if (!lane)
      return refused(lane.error());
    made = std::move(*lane);
  } else {
    made = std::make_unique<stream_lane>(std::move(socket), between, options_);
  }
  const welcome answer{.shown = proof_of_welcome(self_.job_token, between, said.nonce), .capabilities = {}};
  // A fresh socket takes these few bytes at once; a peer that made it otherwise is not waited for.
  if (const auto sent = send_handshake(with.socket.get(), handshake_frame(between, answer), {}, time_point{}); !sent)
    return refused(sent.error());
  if (begun_)
    begun_(between, said);
  return incoming{.with = std::move(made),
                  .peer = between.peer,
                  .peer_born = between.peer_born,
                  .channel = said.channel,
                  .group = said.group,
                  .capabilities = std::move(said.capabilities)};
}

/// Says why, if the peer speaks our wire at all, and lets go. What it still sends is discarded, because closing with
/// unread bytes would reset the connection and take the reason with it.
void socket_listener::refuse_peer(handshake& with, const failure& why) {
  if (refusals_.size() < refusals_max)
    refusals_.push_back("refused " + with.peer + ": " + to_string(why));
  else
    ++refusals_dropped_;
  if (why.code == fault::bad_magic || why.code == fault::peer_gone)
    return;
  const edge unknown{.self = self_.rank, .self_born = self_.born, .peer = {}, .peer_born = {}};
  const refuse reason{.code = static_cast<std::uint16_t>(why.code), .message = why.what};
  // A stranger that does not take it at once learns of it by the end of the connection.
  [[maybe_unused]] const auto told =
      send_handshake(with.socket.get(), handshake_frame(unknown, reason), {}, time_point{});
  std::array<std::byte, 4096> discarded;
  for (std::size_t read = 0; read < limits::unauthenticated_frame_bytes_max;) {
    const auto got = ::recv(with.socket.get(), discarded.data(), discarded.size(), MSG_DONTWAIT);
    if (got <= 0)
      break;
    read += static_cast<std::size_t>(got);
  }
}

std::vector<std::string> socket_listener::take_refusals() {
  if (refusals_dropped_ != 0)
    refusals_.push_back("refused " + std::to_string(std::exchange(refusals_dropped_, 0)) + " more");
  return std::exchange(refusals_, {});
}

} // namespace

result<std::unique_ptr<listener>> listener::open(const std::string& unix_path, const std::string& tcp_address,
                                                 std::uint16_t tcp_port, identity self, lane_options options,
                                                 hello_check expects, notice begun) {
  prepare_proofs();
  auto made = std::make_unique<socket_listener>(std::move(self), options, std::move(expects), std::move(begun));
  if (!unix_path.empty())
    if (const auto opened = made->open_unix(unix_path); !opened)
      return tl::unexpected<failure>{opened.error()};
  if (!tcp_address.empty())
    if (const auto opened = made->open_tcp(tcp_address, tcp_port); !opened)
      return tl::unexpected<failure>{opened.error()};
  return made;
}

} // namespace troupe::fabric
