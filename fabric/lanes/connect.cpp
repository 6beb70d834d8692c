// Decides outside protocols: the kernel's answer decides

#include "fabric/lanes/connect.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "fabric/lanes/handshake.hpp"
#include "fabric/lanes/shared_memory_lane.hpp"
#include "fabric/lanes/stream_lane.hpp"
#include "fabric/socket_address.hpp"
#include "protocols/wire/decode_frame.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/random.hpp"

namespace troupe::fabric {

using namespace protocols;

namespace {

/// Between two attempts while the peer's queue of connections is full: a unix socket gives nothing to poll for.
constexpr std::chrono::milliseconds full_backlog_pause{1};

/// Errors with the peer's address, in words.
template <class T>
result<T> named(result<T> outcome, const std::string& address) {
  if (!outcome)
    outcome.error().what =
        "connecting to " + address + (outcome.error().what.empty() ? std::string{} : ": " + outcome.error().what);
  return outcome;
}

result<base::unique_fd> connect_socket(const socket_address& to, time_point deadline) {
  base::unique_fd socket{::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!socket)
    return fail(fault::no_memory, std::strerror(errno));
  while (::connect(socket.get(), to.get(), to.size) != 0) {
    if (errno == EAGAIN) {
      if (base::now() >= deadline)
        return fail(fault::timeout, "its queue of connections is full");
      ::poll(nullptr, 0, static_cast<int>(full_backlog_pause.count()));
      continue;
    }
    if (errno != EINPROGRESS && errno != EINTR)
      return fail(fault::peer_gone, std::strerror(errno));
    if (const auto writable = wait_socket(socket.get(), POLLOUT, deadline); !writable)
      return tl::unexpected<failure>{writable.error()};
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0)
      return fail(fault::peer_gone, std::strerror(error));
    break;
  }
  return socket;
}

/// Errors: timeout, peer_gone, the fault of a refuse, those of a frame that is neither.
result<void> await_welcome(int socket, const edge& between, const identity& self, const hello& said,
                           time_point deadline) {
  handshake_reader reader;
  auto reply = reader.step(socket);
  for (; reply && !*reply; reply = reader.step(socket))
    if (auto readable = wait_socket(socket, POLLIN, deadline); !readable)
      return readable;
  if (!reply)
    return tl::unexpected<failure>{reply.error()};
  const frame_view& frame = **reply;
  if (frame.header.type == refuse::type) {
    refuse why;
    if (const auto read = decode_frame(frame, why); !read)
      return read;
    return fail(fault_from(why.code).value_or(fault::bad_value), "refused: " + why.message);
  }
  if (frame.header.type != welcome::type)
    return fail(fault::bad_value, std::string{name(frame.header.type)} + " where a welcome was expected");
  welcome answer;
  if (const auto read = decode_frame(frame, answer); !read)
    return read;
  if (!is_same(answer.shown, proof_of_welcome(self.job_token, sender_of(frame.header), said.nonce)))
    return fail(fault::wrong_job, "who listens there does not know the job's token");
  return between.judge(frame.header, 0);
}

} // namespace

result<std::unique_ptr<lane>> connect(lane_kind kind, const endpoint& to, const identity& self, const hello& say,
                                      lane_options options, time_point deadline) {
  const auto address =
      kind == lane_kind::shared_memory ? unix_address(to.unix_path) : tcp_address(to.tcp_address, to.tcp_port);
  if (!address)
    return tl::unexpected<failure>{address.error()};
  auto socket = named(connect_socket(*address, deadline), address->text);
  if (!socket)
    return tl::unexpected<failure>{std::move(socket.error())};

  const edge between{.self = self.rank,
                     .self_born = self.born,
                     .peer = to.rank,
                     .peer_born = to.born,
                     .epoch = self.epoch,
                     .spans_epochs = spans_epochs(say.channel)};
  hello said = say;
  said.build = self.build;
  base::fill_random(said.nonce);
  said.shown = proof_of_hello(self.job_token, between, said);

  shared_memory_kit kit;
  std::vector<int> descriptors;
  if (kind == lane_kind::shared_memory) {
    auto made = make_shared_memory_kit(options);
    if (!made)
      return tl::unexpected<failure>{std::move(made.error())};
    kit = std::move(*made);
    descriptors = {kit.memory.get(), kit.connects_doorbell.get(), kit.accepts_doorbell.get()};
  }
  if (auto sent =
          named(send_handshake(socket->get(), handshake_frame(between, said), descriptors, deadline), address->text);
      !sent)
    return tl::unexpected<failure>{std::move(sent.error())};
  if (auto welcomed = named(await_welcome(socket->get(), between, self, said, deadline), address->text); !welcomed)
    return tl::unexpected<failure>{std::move(welcomed.error())};

  switch (kind) {
  case lane_kind::shared_memory:
    return make_shared_memory_lane(std::move(kit), std::move(*socket), lane_side::connects, between, options);
  case lane_kind::tcp:
    return std::make_unique<stream_lane>(std::move(*socket), between, options);
  }
  return fail(fault::bad_value, "no such lane");
}

} // namespace troupe::fabric
