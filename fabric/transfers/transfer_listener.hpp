#pragma once

#include <poll.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "fabric/listening_socket.hpp"
#include "fabric/transfers/shared_region.hpp"
#include "fabric/transfers/transfer.hpp"
#include "fabric/transfers/transfer_doorbell.hpp"
#include "fabric/transfers/transfer_ring.hpp"
#include "fabric/transfers/transfer_socket.hpp"

namespace troupe::fabric {

/// How long an engine waits for a newcomer's hello.
inline constexpr protocols::duration note_patience = std::chrono::seconds{2};

/// Another shared-memory engine that this one shares memory with.
/// Ownership: shared by the engine and every write into the peer's memory, so a mapping outlives its last copy.
/// Threads: rings, doorbell and socket belong to the engine's thread; the maps and `gone` to the engine's lock, and
/// only the engine's thread sets `gone`.
struct transfer_peer {
  protocols::rank_id rank;
  protocols::generation born;
  base::unique_fd socket;
  transfer_ring incoming;
  transfer_ring outgoing;
  transfer_doorbell doorbell;
  std::map<std::uint32_t, shared_region> regions;                    ///< attached
  std::map<std::uint32_t, protocols::result<shared_region>> fetched; ///< answers that `attach_region` waits for
  std::optional<protocols::failure> gone;
};
using peer_pointer = std::shared_ptr<transfer_peer>;

/// Where shared-memory engines meet: a unix socket, and a hello that is answered by a welcome or a refusal.
/// Each side hands over the completion ring that it reads and its doorbell. Only who shows the job's token is welcomed;
/// who has not, costs one descriptor for `note_patience`, and there are at most `newcomers_max` of them.
/// The lower rank connects, so that two ranks that want each other make one socket and not two.
/// Threads: `connect` any; the rest the engine's.
class transfer_listener {
public:
  static constexpr std::size_t newcomers_max = 64;
  /// The generation of a rank that is attached already; 0: none is.
  using generation_of = std::function<protocols::generation(protocols::rank_id)>;

  transfer_listener(const shared_memory_options& self, listening_socket listening);

  /// Waits for the peer to listen and to welcome, so that it does not matter who starts first (C35). Errors: timeout,
  /// peer_gone, what it refused with, config_invalid.
  protocols::result<peer_pointer> connect(const protocols::endpoint& to, const transfer_doorbell& own_doorbell,
                                          protocols::time_point deadline) const;

  /// Adds what to poll for.
  void watch(std::vector<pollfd>& watched) const;
  /// At most `otherwise`; less while a newcomer's time runs.
  int patience_ms(int otherwise) const noexcept;
  /// Accepts and hears; `watched` is what `watch` added, polled. Returns who was welcomed. Never blocks.
  std::vector<peer_pointer> step(std::span<const pollfd> watched, const transfer_doorbell& own_doorbell,
                                 const generation_of& attached);
  /// Takes the path away too. Idempotent.
  void close() noexcept;

private:
  /// Connected, and has said nothing yet.
  struct newcomer {
    base::unique_fd socket;
    protocols::time_point until;
  };

  transfer_note note_of(note_kind kind, protocols::rank_id to, protocols::generation to_born) const;
  protocols::result<void> validate(const transfer_note& said) const;
  protocols::result<peer_pointer> read_hello(newcomer& from, const transfer_doorbell& own_doorbell,
                                             const generation_of& attached) const;
  void accept();

  const shared_memory_options& self_;
  listening_socket listening_;
  std::vector<newcomer> newcomers_;
};

} // namespace troupe::fabric
