#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/drill/injection.hpp"
#include "protocols/ids.hpp"
#include "protocols/wire/frame.hpp"

/// What supervisor and ranks tell each other from spawn to end, and the heartbeat between ranks.
/// A message names its fields once, in `fields` (wire/codec.hpp).
namespace troupe::protocols {

/// How a rank can be reached.
struct endpoint {
  rank_id rank;
  generation born;
  std::string unix_path;   ///< shared-memory lanes begin here; empty: other host
  std::string tcp_address; ///< "127.0.0.1"
  std::uint16_t tcp_port = 0;
  std::vector<std::byte> fabric_address; ///< libfabric endpoint name; empty: not offered

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.rank, self.born, self.unix_path, self.tcp_address, self.tcp_port, self.fabric_address);
  }
  bool operator==(const endpoint&) const = default;
};

/// One thing that ranks must agree on: every rank that states `key` must state the same `value`.
struct parity_fact {
  std::string key;   ///< "build", "spec", "model.text", "groups"
  std::string value; ///< printed in the diff, so readable

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.key, self.value);
  }
  bool operator==(const parity_fact&) const = default;
};

/// Supervisor to rank, the first frame of its control socket: all that a rank needs to start.
/// Neither arguments nor environment carry it: another user of the machine can read the former.
struct launch {
  static constexpr auto type = message_type::launch;
  std::array<std::byte, 32> job_token{};
  std::string job;
  std::string run_directory; ///< absolute; where this rank's sockets go
  std::string spec_json;     ///< the effective spec, with an absolute model path
  generation born;
  std::uint32_t drills = 0;          ///< 1: fault injection is accepted
  std::vector<injection_rule> rules; ///< armed before anything is made, so that a start can be drilled
  cache_epoch epoch = {};            ///< of the job when the rank is started

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.job_token, self.job, self.run_directory, self.spec_json, self.born, self.drills);
    archive.appended(self.rules, self.epoch);
  }
  bool operator==(const launch&) const = default;
};

/// Rank to supervisor: here is how to reach me.
struct joined {
  static constexpr auto type = message_type::joined;
  endpoint at;
  std::uint32_t pid = 0;
  std::string device = {}; ///< that the rank computes on: "cpu", "cuda:1"; empty: on none
  std::string http = {};   ///< where its door listens: "127.0.0.1:8000"; empty: it has none

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.at, self.pid);
    archive.appended(self.device, self.http);
  }
  bool operator==(const joined&) const = default;
};

/// Supervisor to rank: everybody has joined.
struct roster {
  static constexpr auto type = message_type::roster;
  std::vector<endpoint> ranks;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.ranks);
  }
  bool operator==(const roster&) const = default;
};

struct agree {
  static constexpr auto type = message_type::agree;
  std::vector<parity_fact> facts;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.facts);
  }
  bool operator==(const agree&) const = default;
};

struct verdict {
  static constexpr auto type = message_type::verdict;
  bool agreed = false;
  std::string difference; ///< the first one, as a diff

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.agreed, self.difference);
  }
  bool operator==(const verdict&) const = default;
};

/// Where a rank is in its life (DESIGN: spawned -> joined -> ... -> left). Wire ordinals.
enum class life_state : std::uint8_t {
  spawned = 0,  ///< the process exists
  joined = 1,   ///< it can be reached
  agreed = 2,   ///< parity holds over all ranks
  grouped = 3,  ///< every edge and group of the plan is made
  warm = 4,     ///< every collective and shape has run once, in step
  ready = 5,    ///< serves
  draining = 6, ///< finishes what it has, takes nothing new
  left = 7,     ///< said goodbye
  failed = 8,   ///< final; the first cause is known to the supervisor
};
constexpr bool is_valid(life_state state) noexcept {
  return state <= life_state::failed;
}
std::string_view name(life_state state) noexcept;

/// Supervisor to rank: everybody has reached what comes before `next`; go there.
struct proceed {
  static constexpr auto type = message_type::proceed;
  life_state next = life_state::spawned;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.next);
  }
  bool operator==(const proceed&) const = default;
};

/// Rank to supervisor: I am there (or on the way, with a line for the person who waits).
struct progress {
  static constexpr auto type = message_type::progress;
  life_state state = life_state::spawned;
  std::string detail;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.state, self.detail);
  }
  bool operator==(const progress&) const = default;
};

struct leave {
  static constexpr auto type = message_type::leave;
  std::string reason;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.reason);
  }
  bool operator==(const leave&) const = default;
};

/// Supervisor to rank: these ranks have died or are about to; everything of theirs is to be dropped (D4).
/// `next` is the generation that will take their place; 0: none will.
struct lost {
  static constexpr auto type = message_type::lost;
  std::vector<rank_id> ranks;
  generation next;
  std::string cause;      ///< of the first that failed, for the requests that end with it
  cache_epoch epoch = {}; ///< that begins with this loss

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.ranks, self.next, self.cause);
    archive.appended(self.epoch);
  }
  bool operator==(const lost&) const = default;
};

/// Supervisor to a rank that stayed: a new generation of these ranks is making its edges; make yours.
struct rejoin {
  static constexpr auto type = message_type::rejoin;
  std::vector<endpoint> ranks;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.ranks);
  }
  bool operator==(const rejoin&) const = default;
};

/// Rank to supervisor: edges to the ranks of that generation are made; or the order to make them has been taken, which
/// tells a rank that waits for a newcomer from one that stands still.
struct rejoined {
  static constexpr auto type = message_type::rejoined;
  generation born;
  std::uint32_t begun = 0; ///< 1: the order has been taken

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.born);
    archive.appended(self.begun);
  }
  bool operator==(const rejoined&) const = default;
};

/// Supervisor to the front: these ranks are ready and reachable for everybody; their cells serve again.
struct recovered {
  static constexpr auto type = message_type::recovered;
  std::vector<rank_id> ranks;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.ranks);
  }
  bool operator==(const recovered&) const = default;
};

struct heartbeat {
  static constexpr auto type = message_type::heartbeat;
  std::uint64_t completed = 0; ///< calls and steps since the rank was started
  bool busy = false;           ///< inside a call

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.completed, self.busy);
  }
  bool operator==(const heartbeat&) const = default;
};

/// Contract: C2, C3.
struct shutdown {
  static constexpr auto type = message_type::shutdown;
  bool drain = true; ///< false: abort
  std::string reason;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.drain, self.reason);
  }
  bool operator==(const shutdown&) const = default;
};

/// A terminal action: of one request when `request` is not 0, of the sender otherwise (A11).
struct error {
  static constexpr auto type = message_type::error;
  std::uint16_t code = 0;
  std::string message;
  rank_id origin;
  call_id call;
  std::string where; ///< phase or action in words
  request_id request;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.code, self.message, self.origin, self.call, self.where, self.request);
  }
  bool operator==(const error&) const = default;
};

} // namespace troupe::protocols
