// Decides outside protocols: a stranger is a socket until it has shown the job's token

#include "fabric/ofi/fabric_listener.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>

#include "fabric/transfers/transfer_pieces.hpp"
#include "runtime/base/random.hpp"

namespace troupe::fabric {

using base::unique_fd;
using protocols::fail;
using protocols::failure;
using protocols::fault;
using protocols::rank_id;
using protocols::result;

static_assert(std::is_trivially_copyable_v<knock_note>);
static_assert(sizeof(knock_note) == 88, "no padding: a proof is over all of its bytes");

namespace {

/// The kernel keeps a connection on which nothing was said for about so long before it hands it to the door.
constexpr int silent_seconds = 2;

std::span<const std::byte> bytes_of(const knock_note& note) {
  return std::as_bytes(std::span{&note, 1});
}

/// Over everything in a note but the proof; an answer's covers the knock's number too, so that it answers this one.
proof proof_of(const std::array<std::byte, 32>& token, knock_note note, const std::array<std::byte, 16>& asked = {}) {
  note.shown = {};
  const auto words = bytes_of(note);
  std::vector<std::byte> all{words.begin(), words.end()};
  all.insert(all.end(), asked.begin(), asked.end());
  return prove(token, all);
}

/// What a guest says to libfabric's endpoint: both numbers in another order than any note has.
proof word_of(const std::array<std::byte, 32>& token, const knock_note& knock, const knock_note& come) {
  std::vector<std::byte> all{come.nonce.begin(), come.nonce.end()};
  const auto words = bytes_of(knock);
  all.insert(all.end(), words.begin(), words.end());
  return prove(token, all);
}

unique_fd new_socket(const socket_address& like) {
  unique_fd socket{::socket(like.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  const int on = 1;
  if (socket)
    ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  return socket;
}

/// Takes what is there of one note. Errors: peer_gone.
result<bool> read_note(int socket, std::span<std::byte> bytes, std::size_t& filled) {
  while (filled < bytes.size()) { // ends with the note, or with what has come
    const auto got = ::recv(socket, bytes.data() + filled, bytes.size() - filled, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
      return false;
    if (got <= 0)
      return fail(fault::peer_gone, got == 0 ? "it closed the connection" : std::strerror(errno));
    filled += static_cast<std::size_t>(got);
  }
  return true;
}

knock_note note_in(std::span<const std::byte, sizeof(knock_note)> bytes) {
  knock_note note;
  std::memcpy(&note, bytes.data(), sizeof note);
  return note;
}

/// A fresh socket takes a note at once; who has made it otherwise is not waited for.
bool send_note(int socket, const knock_note& note) {
  return ::send(socket, &note, sizeof note, MSG_NOSIGNAL | MSG_DONTWAIT) == static_cast<ssize_t>(sizeof note);
}

} // namespace

// ---- the door ------------------------------------------------------------------------------------------------------

fabric_listener::fabric_listener(fabric_identity self, socket_address address, std::uint16_t endpoint_port,
                                 listening_socket listening)
    : self_(self), address_(std::move(address)), endpoint_port_(endpoint_port), listening_(std::move(listening)) {
  newcomers_.reserve(newcomers_max);
}

result<fabric_listener> fabric_listener::open(fabric_identity self, socket_address at, std::uint16_t endpoint_port) {
  set_port(at, 0);
  auto socket = listening_socket::at_network(at, "");
  if (!socket)
    return tl::unexpected{std::move(socket.error())};
  // Who says nothing is not even accepted, where the kernel can keep it.
  ::setsockopt(socket->file(), IPPROTO_TCP, TCP_DEFER_ACCEPT, &silent_seconds, sizeof silent_seconds);
  auto bound = own_address(socket->file());
  if (!bound)
    return tl::unexpected{std::move(bound.error())};
  return fabric_listener{self, *std::move(bound), endpoint_port, *std::move(socket)};
}

void fabric_listener::watch(std::vector<pollfd>& watched) const {
  if (newcomers_.size() < newcomers_max)
    watched.push_back({listening_.waits_on(), POLLIN, 0});
  for (const newcomer& from : newcomers_)
    watched.push_back({from.socket.get(), POLLIN, 0});
}

void fabric_listener::step(protocols::time_point now, const generation_of& lowest,
                           const std::function<result<void>(fabric_guest)>& admit) {
  accept(now);
  const auto patience = newcomers_.size() == newcomers_max ? crowded_patience : newcomer_patience;
  std::erase_if(newcomers_, [&](newcomer& from) {
    const auto whole = read_note(from.socket.get(), from.bytes, from.filled);
    if (whole && *whole)
      answer(from, lowest, admit);
    return !whole || *whole || now >= from.since + patience;
  });
}

void fabric_listener::accept(protocols::time_point now) {
  while (newcomers_.size() < newcomers_max) {
    auto socket = listening_.accept();
    if (!socket)
      return;
    newcomers_.push_back({std::move(socket), now, {}, 0});
  }
}

/// Nothing but the proof is looked at before the proof is right.
result<void> fabric_listener::validate(const knock_note& said, const generation_of& lowest) const {
  if (said.magic != knock_note::magic_of_build || said.kind != knock_kind::knock)
    return fail(fault::bad_magic);
  if (!is_same(said.shown, proof_of(self_.job_token, said)))
    return fail(fault::wrong_job);
  if (said.to != self_.self.value || said.from > writer_rank_max || said.from == said.to)
    return fail(fault::wrong_rank);
  if (said.to_born != self_.born.value || protocols::generation{said.from_born} < lowest(rank_id{said.from}))
    return fail(fault::stale_generation);
  return {};
}

void fabric_listener::answer(const newcomer& to, const generation_of& lowest,
                             const std::function<result<void>(fabric_guest)>& admit) const {
  const knock_note said = note_in(to.bytes);
  auto valid = validate(said, lowest);
  if (!valid && valid.error().code == fault::bad_magic)
    return; // it does not speak our notes
  knock_note come{.kind = knock_kind::come,
                  .from = self_.self.value,
                  .from_born = self_.born.value,
                  .to = said.from,
                  .to_born = said.from_born,
                  .port = endpoint_port_};
  if (valid) {
    base::fill_random(come.nonce);
    come.shown = proof_of(self_.job_token, come, said.nonce);
    valid = peer_address(to.socket.get()).and_then([&](const socket_address& from) {
      return admit({.rank = rank_id{said.from},
                    .born = protocols::generation{said.from_born},
                    .from = from,
                    .says = word_of(self_.job_token, said, come)});
    });
  }
  if (valid)
    send_note(to.socket.get(), come);
  else
    send_note(to.socket.get(), {.kind = knock_kind::refuse, .code = static_cast<std::uint32_t>(valid.error().code)});
}

// ---- the knock -----------------------------------------------------------------------------------------------------

result<fabric_knock> fabric_knock::begin(const fabric_identity& self, const protocols::endpoint& at,
                                         const socket_address& own, const socket_address& door) {
  fabric_knock made;
  made.door_ = door;
  made.socket_ = new_socket(door);
  if (!made.socket_)
    return fail(fault::no_memory, std::strerror(errno));
  socket_address bound = own;
  set_port(bound, 0);
  if (own.family() == door.family() && ::bind(made.socket_.get(), bound.get(), bound.size) != 0)
    return fail(fault::no_memory, std::string{"bind: "} + std::strerror(errno));
  if (::connect(made.socket_.get(), door.get(), door.size) != 0 && errno != EINPROGRESS)
    return fail(errno == ECONNREFUSED ? fault::peer_gone : fault::timeout, door.text + ": " + std::strerror(errno));
  made.said_ = {.kind = knock_kind::knock,
                .from = self.self.value,
                .from_born = self.born.value,
                .to = at.rank.value,
                .to_born = at.born.value};
  base::fill_random(made.said_.nonce);
  made.said_.shown = proof_of(self.job_token, made.said_);
  return made;
}

pollfd fabric_knock::waits_for() const noexcept {
  return {socket_.get(), static_cast<short>(is_sent_ ? POLLIN : POLLOUT), 0};
}

result<void> fabric_knock::send() {
  pollfd ready = waits_for();
  if (::poll(&ready, 1, 0) <= 0)
    return {};
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0)
    return fail(error == ECONNREFUSED ? fault::peer_gone : fault::timeout, door_.text + ": " + std::strerror(error));
  if (!send_note(socket_.get(), said_))
    return fail(fault::timeout, door_.text + " takes no note");
  is_sent_ = true;
  return {};
}

result<std::optional<fabric_knock::admission>> fabric_knock::step(const fabric_identity& self) {
  if (!is_sent_)
    if (auto sent = send(); !sent)
      return tl::unexpected{std::move(sent.error())};
  if (!is_sent_)
    return std::optional<admission>{};
  const auto whole = read_note(socket_.get(), bytes_, filled_);
  if (!whole)
    return fail(fault::timeout, door_.text + ": " + whole.error().what);
  if (!*whole)
    return std::optional<admission>{};
  return validate(self);
}

result<std::optional<fabric_knock::admission>> fabric_knock::validate(const fabric_identity& self) const {
  const knock_note heard = note_in(bytes_);
  if (heard.magic == knock_note::magic_of_build && heard.kind == knock_kind::refuse)
    return fail(protocols::fault_from(static_cast<std::uint16_t>(heard.code)).value_or(fault::bad_value),
                door_.text + " refused");
  if (heard.kind != knock_kind::come || !is_same(heard.shown, proof_of(self.job_token, heard, said_.nonce)) ||
      heard.from != said_.to || heard.from_born != said_.to_born || heard.to != said_.from ||
      heard.to_born != said_.from_born)
    return fail(fault::wrong_job, "who listens at " + door_.text + " is not the peer");
  auto from = own_address(socket_.get());
  if (!from)
    return tl::unexpected{std::move(from.error())};
  socket_address to = door_;
  set_port(to, static_cast<std::uint16_t>(heard.port));
  return admission{.from = *std::move(from), .to = std::move(to), .says = word_of(self.job_token, said_, heard)};
}

} // namespace troupe::fabric
