#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <caf/all.hpp>

#include "protocols/cluster/life_messages.hpp"
#include "protocols/cluster/program.hpp"
#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/wire/codec.hpp"

/// What actors of one rank say to each other. CAF never serialises any of it: between ranks go frames.
namespace troupe::actors {

/// A typed message with its sender: what a role actor receives, whether the sender sits in this rank or in another.
template <class Message>
struct envelope {
  protocols::rank_id source;
  Message body;
  protocols::cache_epoch epoch = {}; ///< in which its sender decided to send it; 0: the sender is of no role
};

/// A message for a rank elsewhere, as its link takes it: a program's own types end here.
struct outgoing {
  protocols::message_type type{};
  protocols::cache_epoch epoch; ///< as in `envelope`
  std::vector<std::byte> payload;
};
template <class Message>
outgoing outgoing_of(const Message& body, protocols::cache_epoch decided_in) {
  outgoing letter{Message::type, decided_in, {}};
  protocols::encode_payload(body, letter.payload);
  return letter;
}

using protocols::transfer_kind;

/// The low two bits of a write's completion data are its transfer kind, so that the bytes find their actor.
inline std::uint64_t completion_data(transfer_kind what, protocols::room_id room) noexcept {
  return room.value << 2 | static_cast<std::uint64_t>(what);
}
inline std::pair<transfer_kind, protocols::room_id> from_completion_data(std::uint64_t data) noexcept {
  return {static_cast<transfer_kind>(data & 3), protocols::room_id{data >> 2}};
}

/// A peer's write to this rank is complete and visible.
struct write_arrived {
  transfer_kind what;
  protocols::rank_id from;
  protocols::room_id room;
};
/// A write of this rank has ended.
struct write_completed {
  transfer_kind what;
  protocols::room_id room;
  std::uint32_t part = 0;
  protocols::result<void> outcome;
};

/// The processes that these ranks were have been reaped.
struct writers_gone {
  std::vector<protocols::rank_id> ranks;
  bool bytes_may_arrive = false; ///< of what they had handed to a network card
};

using start_atom = caf::atom_constant<caf::atom("start")>;
using tick_atom = caf::atom_constant<caf::atom("tick")>;
using run_atom = caf::atom_constant<caf::atom("run")>;
using stop_atom = caf::atom_constant<caf::atom("stop")>;

} // namespace troupe::actors

namespace caf {
template <class Message>
struct allowed_unsafe_message_type<troupe::actors::envelope<Message>> : std::true_type {};
} // namespace caf
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::write_arrived)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::write_completed)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::writers_gone)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::outgoing)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::protocols::lost)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::protocols::recovered)
