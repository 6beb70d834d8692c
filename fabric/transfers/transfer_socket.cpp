// Decides outside protocols: the wait itself, on a socket

#include "fabric/transfers/transfer_socket.hpp"

#include <poll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <type_traits>

#include "fabric/socket_address.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::fabric {

using base::unique_fd;
using protocols::fail;
using protocols::fault;
using protocols::result;

static_assert(std::is_trivially_copyable_v<transfer_note>);

namespace {

constexpr std::chrono::milliseconds look_again_after{100};
constexpr std::size_t files_max = std::tuple_size_v<decltype(received_note::files)>;

std::string in_words(const std::string& what) {
  return what + ": " + std::generic_category().message(errno);
}

unique_fd new_socket() {
  return unique_fd{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
}

/// Room for the descriptors of one note, aligned as the kernel wants it.
union control_room {
  cmsghdr header;
  std::array<char, CMSG_SPACE(files_max * sizeof(int))> bytes;
};

} // namespace

result<void> send_note(int socket, const transfer_note& note, std::span<const int> files) {
  iovec part{const_cast<transfer_note*>(&note), sizeof note};
  control_room room{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!files.empty()) {
    message.msg_control = room.bytes.data();
    message.msg_controllen = CMSG_SPACE(files.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(files.size_bytes());
    std::memcpy(CMSG_DATA(header), files.data(), files.size_bytes());
  }
  if (::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof note))
    return {};
  if (errno == EAGAIN)
    return fail(fault::queue_full, "the peer does not read its notes");
  return fail(fault::peer_gone, in_words("send"));
}

result<std::optional<received_note>> receive_note(int socket) {
  received_note got;
  iovec part{&got.note, sizeof got.note};
  control_room room{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = room.bytes.data();
  message.msg_controllen = sizeof room;
  const auto size = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0 && (errno == EAGAIN || errno == EINTR))
    return std::optional<received_note>{};
  if (size <= 0)
    return fail(fault::peer_gone, size == 0 ? "the peer closed its end" : in_words("receive"));
  // Descriptors are taken into ownership before anything is checked, so that none leaks.
  std::size_t taken = 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
      continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int file = -1;
      std::memcpy(&file, CMSG_DATA(header) + i * sizeof file, sizeof file);
      unique_fd owned{file};
      if (taken < files_max)
        got.files[taken++] = std::move(owned);
    }
  }
  // There is room for all that a note has, so the kernel had no number for a descriptor.
  if ((message.msg_flags & MSG_CTRUNC) != 0 && taken < files_max)
    return fail(fault::no_memory, "this process has too many open files (ulimit -n) to take a peer's");
  if (size != static_cast<ssize_t>(sizeof got.note) || (message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) != 0 ||
      got.note.magic != transfer_note::magic_of_build)
    return fail(fault::bad_magic, "not a note of a transfer engine of this build");
  return std::optional<received_note>{std::move(got)};
}

result<unique_fd> connect_to(const std::string& path) {
  const auto address = unix_address(path);
  if (!address)
    return tl::unexpected{address.error()};
  unique_fd socket = new_socket();
  if (!socket || ::connect(socket.get(), address->get(), address->size) != 0)
    return fail(fault::peer_gone, in_words("cannot connect to " + path));
  return socket;
}

result<unique_fd> connect_when_there(const std::string& path, protocols::time_point deadline) {
  const auto is_settled = [](const result<unique_fd>& tried) {
    return tried || tried.error().code != fault::peer_gone;
  };
  auto socket = connect_to(path);
  if (is_settled(socket))
    return socket;
  // A kernel that has no watch left costs time, not the connection: the look without an event comes soon enough.
  const std::string folder = path.substr(0, path.find_last_of('/') + 1) + ".";
  const unique_fd watch{::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)};
  ::inotify_add_watch(watch.get(), folder.c_str(), IN_MOVED_TO);
  socket = connect_to(path);
  for (auto now = base::now(); !is_settled(socket) && now < deadline; now = base::now()) {
    wait_readable(watch.get(), std::min(deadline, now + look_again_after));
    std::array<char, 4096> events;
    while (::read(watch.get(), events.data(), events.size()) > 0) {
      // only that something came counts
    }
    socket = connect_to(path);
  }
  if (!is_settled(socket))
    return fail(fault::timeout, socket.error().what);
  return socket;
}

bool wait_readable(int socket, protocols::time_point deadline) {
  pollfd watched{socket, POLLIN, 0};
  for (auto now = base::now(); now < deadline; now = base::now()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now);
    if (::poll(&watched, 1, static_cast<int>(std::min<std::int64_t>(left.count(), 60'000))) > 0)
      return true;
  }
  return false;
}

} // namespace troupe::fabric
