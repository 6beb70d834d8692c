#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"

/// Faults on order: what a drill asks of one rank, as data. Drills run against the production binary, so a rule goes
/// over the same wire as everything else, and a rank takes it only when its launch says that drills are on.
namespace troupe::protocols {

/// What strikes. Wire ordinals.
enum class drill_action : std::uint8_t {
  // the process
  kill = 1,        ///< SIGKILL
  stop = 2,        ///< SIGSTOP: silent, its sockets stay open
  segfault = 3,    ///< a write to no memory
  abort = 4,       ///< a broken invariant (TROUPE_ASSERT)
  throw_error = 5, ///< std::runtime_error from the fault point
  bad_alloc = 6,   ///< std::bad_alloc from the fault point
  wedge = 7,       ///< the thread never returns; the others live
  slow = 8,        ///< the thread waits `ms` at each hit
  // the device of the rank
  hang_device = 10,  ///< a kernel fills it and does not end, for `ms` at most
  break_device = 11, ///< a kernel fails, and with it everything that the process does there
  no_capture = 12,   ///< the rank captures nothing from now on
  // frames on an edge of the rank
  drop = 20,      ///< a frame that goes out is lost
  delay = 21,     ///< a frame that goes out waits `ms`, and what follows it waits too
  duplicate = 22, ///< a frame goes out twice
  reorder = 23,   ///< a frame goes out after the one that follows it
  corrupt = 24,   ///< a byte of a frame changes after its checksum was made
  cut = 25,       ///< nothing goes out or comes in any more, and nobody is told
  one_way = 26,   ///< nothing goes out any more, what comes in is read
  unread = 27,    ///< what comes in is not read any more: a slow consumer, for `ms` or for ever
  // one-sided writes of the rank
  lose_completion = 40,  ///< its end is never told here
  delay_completion = 41, ///< its end is told `ms` later
  lose_arrival = 42,     ///< that a peer's bytes are here is never told
  repeat_write = 43,     ///< an earlier write is made again: a grant that has moved on is used
  shift_write = 44,      ///< a write's bytes are taken from a little beyond where they stand
  // messages
  deliver = 60, ///< a message reaches the rank's actors as if `source` had sent it
};
bool is_valid(drill_action action) noexcept;
std::string_view name(drill_action action) noexcept;
std::vector<std::string_view> drill_action_names();

/// What an action strikes, and so what its `skip` and `times` count.
enum class drill_target {
  process, ///< hits of the fault point
  frame,   ///< frames of the edge
  write,   ///< writes, arrivals
  message  ///< one delivery
};
drill_target target_of(drill_action action) noexcept;

/// `injection_rule::peer` that is every peer.
inline constexpr rank_id any_rank{0xffff'ffffu};

/// One fault. With a `point`, process actions strike there and all others count from its first hit on; without one,
/// they do from now on. A process action without a point strikes at once.
struct injection_rule {
  std::string point; ///< see injection_points.hpp
  drill_action action = drill_action::kill;
  std::uint32_t skip = 0;  ///< so many pass untouched first
  std::uint32_t times = 1; ///< then so many are struck; 0: all that follow
  std::uint32_t ms = 0;    ///< of slow, hang_device, delay, delay_completion, unread

  // of frames and writes
  rank_id peer = any_rank;
  std::uint8_t channel = 0;  ///< a `channel_kind`; 0: every channel
  std::uint16_t message = 0; ///< a `message_type`; 0: every type. deliver: which

  // of deliver
  rank_id source;
  std::vector<std::byte> payload;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.point, self.action, self.skip, self.times, self.ms, self.peer, self.channel, self.message,
                     self.source, self.payload);
  }
  bool operator==(const injection_rule&) const = default;
};

/// Errors: invalid_request in one line: an unknown point with the nearest one, a channel or message that is none,
/// what the action cannot do without.
result<void> validate_rule(const injection_rule& rule);

/// "kill at group.entered, after 40": how a drill's lines call it.
std::string in_words(const injection_rule& rule);

} // namespace troupe::protocols
