#pragma once

#include <poll.h>

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "fabric/listening_socket.hpp"
#include "fabric/proof.hpp"
#include "fabric/socket_address.hpp"
#include "fabric/transfers/transfer.hpp"
#include "protocols/ids.hpp"
#include "protocols/time.hpp"
#include "runtime/base/unique_fd.hpp"

/// How fabric engines authenticate each other: on a TCP socket of ours, a writer proves that it knows the job's token
/// before it may connect to libfabric's endpoint.
///
/// 1. The writer sends a knock: sender, receiver, a nonce.
/// 2. The door answers with the port of libfabric's endpoint and a nonce of its own.
/// 3. The writer connects to that port from the address and port of its knock. The connection request carries a proof
///    over both nonces.
/// Knock and answer carry a proof too, so neither side believes a stranger, and what was overheard cannot be replayed.
/// Contract: K5.
namespace troupe::fabric {

enum class knock_kind : std::uint32_t {
  knock = 1, ///< let me connect
  come = 2,  ///< connect to `port`
  refuse = 3 ///< `code` tells why; carries no proof, since the sender of the knock may be a stranger
};

/// Knock, answer and refusal have this one layout. Both ends run the same build on little-endian hosts, so a note is
/// sent as it lies in memory.
struct knock_note {
  static constexpr std::uint64_t magic_of_build = 0x5452'4f55'464e'0001; // "TROUFN", form 1

  std::uint64_t magic = magic_of_build;
  knock_kind kind{};
  std::uint32_t code = 0; ///< a `fault`
  std::uint32_t from = 0, from_born = 0;
  std::uint32_t to = 0, to_born = 0;
  std::uint32_t port = 0;
  std::uint32_t unused = 0;
  std::array<std::byte, 16> nonce{};
  proof shown{};
};

/// Who an engine is, as each of its notes states it, and the token that its proofs are made with.
struct fabric_identity {
  protocols::rank_id self;
  protocols::generation born;
  std::array<std::byte, 32> job_token{};
};

/// A peer that may connect: from where, and with which proof.
struct fabric_guest {
  protocols::rank_id rank;
  protocols::generation born;
  socket_address from;
  proof says{};
};

/// The side that is written to. A newcomer (a connection that has not sent its whole note) costs one descriptor and the
/// bytes of a note, for `newcomer_patience`. There are at most `newcomers_max` newcomers; while there are that many,
/// each has only `crowded_patience`.
/// Threads: the engine's. Never blocks.
class fabric_listener {
public:
  static constexpr std::size_t newcomers_max = 64;
  static constexpr protocols::duration newcomer_patience = std::chrono::seconds{2};
  static constexpr protocols::duration crowded_patience = std::chrono::milliseconds{100};

  /// The lowest generation of that rank that may come; 0: any.
  using generation_of = std::function<protocols::generation(protocols::rank_id)>;

  /// Listens on a free port of the host in `at`, and sends guests to `endpoint_port`. Errors: config_invalid.
  static protocols::result<fabric_listener> open(fabric_identity self, socket_address at, std::uint16_t endpoint_port);

  const socket_address& address() const noexcept { return address_; }

  void watch(std::vector<pollfd>& watched) const;
  /// Accepts, reads and answers without waiting. Calls `admit` for each peer that may connect, before it answers it.
  void step(protocols::time_point now, const generation_of& lowest,
            const std::function<protocols::result<void>(fabric_guest)>& admit);

private:
  struct newcomer {
    base::unique_fd socket;
    protocols::time_point since;
    std::array<std::byte, sizeof(knock_note)> bytes{};
    std::size_t filled = 0;
  };

  fabric_listener(fabric_identity self, socket_address address, std::uint16_t endpoint_port,
                  listening_socket listening);

  void accept(protocols::time_point now);
  protocols::result<void> validate(const knock_note& said, const generation_of& lowest) const;
  void answer(const newcomer& to, const generation_of& lowest,
              const std::function<protocols::result<void>(fabric_guest)>& admit) const;

  fabric_identity self_;
  socket_address address_;
  std::uint16_t endpoint_port_;
  listening_socket listening_;
  std::vector<newcomer> newcomers_;
};

/// The side that writes: one knock at one door.
/// Threads: the engine's. Never blocks.
class fabric_knock {
public:
  /// What to connect with. libfabric's endpoint is bound to `from`, the address of the knock's own socket, which keeps
  /// others from taking the port meanwhile.
  struct admission {
    socket_address from;
    socket_address to;
    proof says{};
  };

  /// `own`: the address of the interface; its port is not used. Errors: peer_gone (nobody listens), no_memory
  /// (no descriptor or port), timeout (any other error of connect: it may be tried again).
  static protocols::result<fabric_knock> begin(const fabric_identity& self, const protocols::endpoint& at,
                                               const socket_address& own, const socket_address& door);

  pollfd waits_for() const noexcept;
  /// Nothing: not yet. Errors: peer_gone (nobody listens there any more), the fault that a refusal names, wrong_job
  /// (who answers is not the peer), timeout (closed without an answer: it may be tried again).
  protocols::result<std::optional<admission>> step(const fabric_identity& self);

private:
  fabric_knock() = default;

  protocols::result<void> send();
  protocols::result<std::optional<admission>> validate(const fabric_identity& self) const;

  base::unique_fd socket_;
  socket_address door_;
  knock_note said_;
  bool is_sent_ = false;
  std::array<std::byte, sizeof(knock_note)> bytes_{};
  std::size_t filled_ = 0;
};

} // namespace troupe::fabric
