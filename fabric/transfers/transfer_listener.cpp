// Decides outside protocols: a stranger is a socket until it has shown the job's token

#include "fabric/transfers/transfer_listener.hpp"

#include <openssl/crypto.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "runtime/base/clock.hpp"

namespace troupe::fabric {

using base::unique_fd;
using protocols::fail;
using protocols::fault;
using protocols::rank_id;
using protocols::result;

namespace {

constexpr int newcomer_look_ms = 100;

std::string who(rank_id rank, protocols::generation born) {
  return "rank " + std::to_string(rank.value) + " of generation " + std::to_string(born.value);
}

/// What a greeting carries: a ring to write into and a doorbell to ring.
result<peer_pointer> make_peer(received_note said, unique_fd socket, transfer_ring incoming) {
  if (!said.files[0] || !said.files[1])
    return fail(fault::bad_value, "a greeting without its descriptors");
  auto outgoing = transfer_ring::map(std::move(said.files[0]));
  if (!outgoing)
    return tl::unexpected{std::move(outgoing.error())};
  auto made = std::make_shared<transfer_peer>();
  made->rank = rank_id{said.note.from};
  made->born = protocols::generation{said.note.from_born};
  made->socket = std::move(socket);
  made->incoming = std::move(incoming);
  made->outgoing = std::move(*outgoing);
  made->doorbell = transfer_doorbell{std::move(said.files[1])};
  return made;
}

} // namespace

transfer_listener::transfer_listener(const shared_memory_options& self, listening_socket listening)
    : self_(self), listening_(std::move(listening)) {}

transfer_note transfer_listener::note_of(note_kind kind, rank_id to, protocols::generation to_born) const {
  return {.kind = kind,
          .from = self_.self.value,
          .from_born = self_.born.value,
          .to = to.value,
          .to_born = to_born.value,
          .job_token = self_.job_token};
}

/// Both sides check: a stranger could listen at a peer's path as well as knock at ours.
result<void> transfer_listener::validate(const transfer_note& said) const {
  if (CRYPTO_memcmp(said.job_token.data(), self_.job_token.data(), self_.job_token.size()) != 0)
    return fail(fault::wrong_job, "the job's token is another one");
  if (said.to != self_.self.value)
    return fail(fault::wrong_rank, "this is rank " + std::to_string(self_.self.value));
  if (said.to_born != self_.born.value)
    return fail(fault::stale_generation, "this is " + who(self_.self, self_.born));
  return {};
}

result<peer_pointer> transfer_listener::connect(const protocols::endpoint& to, const transfer_doorbell& own_doorbell,
                                                protocols::time_point deadline) const {
  auto incoming = transfer_ring::create();
  if (!incoming)
    return tl::unexpected{std::move(incoming.error())};
  auto socket = connect_when_there(to.unix_path, deadline);
  if (!socket)
    return fail(socket.error().code, who(to.rank, to.born) + ": " + socket.error().what);

  const std::array files{incoming->file(), own_doorbell.file()};
  if (auto sent = send_note(socket->get(), note_of(note_kind::hello, to.rank, to.born), files); !sent)
    return tl::unexpected{std::move(sent.error())};
  if (!wait_readable(socket->get(), deadline))
    return fail(fault::timeout, who(to.rank, to.born) + " did not welcome");
  auto heard = receive_note(socket->get());
  if (!heard)
    return tl::unexpected{std::move(heard.error())};
  if (!*heard)
    return fail(fault::timeout, who(to.rank, to.born) + " did not welcome");
  const transfer_note& said = (*heard)->note;
  if (said.kind == note_kind::refuse)
    return fail(protocols::fault_from(static_cast<std::uint16_t>(said.fault_code)).value_or(fault::bad_value),
                who(to.rank, to.born) + " refused");
  if (said.kind != note_kind::welcome)
    return fail(fault::bad_value, who(to.rank, to.born) + " answered something else than a welcome");
  if (auto valid = validate(said); !valid)
    return tl::unexpected{std::move(valid.error())};
  if (said.from != to.rank.value || said.from_born != to.born.value)
    return fail(fault::stale_generation, who(rank_id{said.from}, protocols::generation{said.from_born}) +
                                             " answered for " + who(to.rank, to.born));
  return make_peer(std::move(**heard), std::move(*socket), std::move(*incoming));
}

void transfer_listener::watch(std::vector<pollfd>& watched) const {
  for (const newcomer& from : newcomers_)
    watched.push_back({from.socket.get(), POLLIN, 0});
  watched.push_back({newcomers_.size() < newcomers_max ? listening_.waits_on() : -1, POLLIN, 0});
}

int transfer_listener::patience_ms(int otherwise) const noexcept {
  return newcomers_.empty() ? otherwise : std::min(otherwise, newcomer_look_ms);
}

std::vector<peer_pointer> transfer_listener::step(std::span<const pollfd> watched,
                                                  const transfer_doorbell& own_doorbell,
                                                  const generation_of& attached) {
  std::vector<peer_pointer> welcomed;
  for (std::size_t i = 0; i < newcomers_.size(); ++i) {
    if (watched[i].revents == 0)
      continue;
    if (auto made = read_hello(newcomers_[i], own_doorbell, attached))
      welcomed.push_back(std::move(*made));
    newcomers_[i].socket.reset(); // the peer's now, or refused
  }
  if (!newcomers_.empty()) {
    const auto now = base::now();
    std::erase_if(newcomers_, [&](const newcomer& from) { return !from.socket || now >= from.until; });
  }
  if (watched.back().revents != 0)
    accept();
  return welcomed;
}

void transfer_listener::accept() {
  if (auto socket = listening_.accept())
    newcomers_.push_back({std::move(socket), base::now() + note_patience});
}

result<peer_pointer> transfer_listener::read_hello(newcomer& from, const transfer_doorbell& own_doorbell,
                                                   const generation_of& attached) const {
  auto heard = receive_note(from.socket.get());
  if (!heard)
    return tl::unexpected{std::move(heard.error())};
  if (!*heard || (*heard)->note.kind != note_kind::hello)
    return fail(fault::bad_value, "not a hello");
  const transfer_note& said = (*heard)->note;
  const rank_id rank{said.from};
  const protocols::generation born{said.from_born};
  const auto valid = validate(said).and_then([&]() -> result<void> {
    if (rank >= self_.self)
      return fail(fault::wrong_rank, "the lower rank connects");
    if (born < attached(rank))
      return fail(fault::stale_generation, who(rank, attached(rank)) + " is attached");
    return {};
  });
  if (!valid) {
    // A refusal names no token: the one who knocks may be a stranger. It also sees the end of the connection.
    (void)send_note(from.socket.get(),
                    {.kind = note_kind::refuse, .fault_code = static_cast<std::uint32_t>(valid.error().code)});
    return tl::unexpected{valid.error()};
  }
  auto incoming = transfer_ring::create();
  if (!incoming)
    return tl::unexpected{std::move(incoming.error())};
  const std::array files{incoming->file(), own_doorbell.file()};
  auto made = make_peer(std::move(**heard), std::move(from.socket), std::move(*incoming));
  if (!made)
    return made;
  if (auto sent = send_note((*made)->socket.get(), note_of(note_kind::welcome, rank, born), files); !sent)
    return tl::unexpected{std::move(sent.error())};
  return made;
}

void transfer_listener::close() noexcept {
  newcomers_.clear();
  if (!listening_)
    return; // the path may be another engine's by now
  ::unlink(self_.unix_path.c_str());
  listening_.close();
}

} // namespace troupe::fabric
