#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "protocols/element_type.hpp"
#include "protocols/fault.hpp"
#include "protocols/frame.hpp"
#include "protocols/ids.hpp"
#include "protocols/injection.hpp"

/// Every message between ranks, with its fields in wire order.
/// A message names its fields once, in `fields`; encoding and decoding walk the same list, so they cannot differ (A26).
/// `required` fields must be there; `appended` ones came later and are empty (zero) when a peer does not send them.
/// Parts of messages have required fields only: nothing marks where a part ends. Every enum has an `is_valid`.
namespace troupe::protocols {

// ---- parts ------------------------------------------------------------------------------------------------------

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

/// Greedy when `temperature` is 0.
struct sampling_options {
  float temperature = 0.0F;
  float top_p = 1.0F;
  std::uint64_t seed = 0;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.temperature, self.top_p, self.seed);
  }
  bool operator==(const sampling_options&) const = default;
};

/// One picture of a request: where its tokens stand in the prompt, who encodes it.
struct picture_item {
  room_id room;
  std::uint32_t first_token = 0;       ///< index in the prompt of its first image token
  std::uint32_t tokens = 0;            ///< after the merge
  std::array<std::uint32_t, 3> grid{}; ///< (t, h, w) in patches
  std::uint64_t content_hash = 0;
  cell_id encode_cell;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.room, self.first_token, self.tokens, self.grid, self.content_hash, self.encode_cell);
  }
  bool operator==(const picture_item&) const = default;
};

/// A slot with the generation that makes a late use of it detectable.
struct slot_ref {
  slot_index slot;
  generation tenancy;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.slot, self.tenancy);
  }
  bool operator==(const slot_ref&) const = default;
};

/// What a lane on another rank needs to write into one registered region.
struct region_card {
  std::uint32_t region = 0; ///< of the owner; stable for its life
  std::uint64_t bytes = 0;
  std::uint64_t slot_bytes = 0; ///< 0: addressed by block, see the hand-over layout
  std::uint64_t base = 0;       ///< remote address, 0 where the provider addresses by offset
  std::uint64_t key = 0;        ///< remote key of the fabric lane

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.region, self.bytes, self.slot_bytes, self.base, self.key);
  }
  bool operator==(const region_card&) const = default;
};

enum class finish_reason : std::uint8_t {
  none = 0,      ///< more tokens follow
  stop = 1,      ///< an end token; it is the last of `ids`
  length = 2,    ///< max_tokens reached
  failed = 3,    ///< a fault, see the message
  cancelled = 4, ///< the client asked for it
};
constexpr bool is_valid(finish_reason reason) noexcept {
  return reason <= finish_reason::cancelled;
}

struct token_event {
  request_id request;
  std::uint32_t index = 0; ///< of the answer, from 0; what the front dedupes by
  token_id id = 0;
  finish_reason finish = finish_reason::none;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.index, self.id, self.finish);
  }
  bool operator==(const token_event&) const = default;
};

// ---- life -------------------------------------------------------------------------------------------------------

/// What an edge is for; each channel has its own lane with one producer and one consumer thread a side.
enum class channel_kind : std::uint8_t {
  control = 1, ///< typed messages between role actors
  group = 2,   ///< plan channel and collectives of one group, driven by the executors
  tokens = 3,  ///< tokens from a decode leader's executor to the front
};
constexpr bool is_valid(channel_kind kind) noexcept {
  return kind >= channel_kind::control && kind <= channel_kind::tokens;
}

/// First frame of an edge, from the side that connects.
/// Contract: A27; fault::wrong_job when the token is another's.
struct hello {
  static constexpr auto type = message_type::hello;
  std::array<std::byte, 32> shown{}; ///< that the sender knows the job's token; covers all but build and capabilities
  std::array<std::byte, 16> nonce{}; ///< chosen by the sender, for the welcome to answer
  channel_kind channel = channel_kind::control;
  group_id group; ///< for channel_kind::group
  std::string build;
  std::vector<std::string> capabilities; ///< negotiated down to what both sides name

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.shown, self.nonce, self.channel, self.group, self.build);
    archive.appended(self.capabilities);
  }
  bool operator==(const hello&) const = default;
};

struct welcome {
  static constexpr auto type = message_type::welcome;
  std::array<std::byte, 32> shown{}; ///< that the sender knows the job's token, in answer to the hello's nonce
  std::vector<std::string> capabilities;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.shown);
    archive.appended(self.capabilities);
  }
  bool operator==(const welcome&) const = default;
};

struct refuse {
  static constexpr auto type = message_type::refuse;
  std::uint16_t code = 0; ///< a `fault`
  std::string message;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.code, self.message);
  }
  bool operator==(const refuse&) const = default;
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

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.job_token, self.job, self.run_directory, self.spec_json, self.born, self.drills);
    archive.appended(self.rules);
  }
  bool operator==(const launch&) const = default;
};

/// Rank to supervisor: here is how to reach me.
struct joined {
  static constexpr auto type = message_type::joined;
  endpoint at;
  std::uint32_t pid = 0;
  std::string device = {}; ///< that the rank computes on: "cpu", "cuda:1"; empty: on none

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.at, self.pid);
    archive.appended(self.device);
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
  std::string cause; ///< of the first that failed, for the requests that end with it

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.ranks, self.next, self.cause);
  }
  bool operator==(const lost&) const = default;
};

/// Supervisor to a rank that stayed: a new generation of these ranks is making its edges; make yours.
struct readmit {
  static constexpr auto type = message_type::readmit;
  std::vector<endpoint> ranks;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.ranks);
  }
  bool operator==(const readmit&) const = default;
};

/// Rank to supervisor: edges to the ranks of that generation are made; or the order to make them has been taken, which
/// tells a rank that waits for a newcomer from one that stands still.
struct readmitted {
  static constexpr auto type = message_type::readmitted;
  generation born;
  std::uint32_t begun = 0; ///< 1: the order has been taken

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.born);
    archive.appended(self.begun);
  }
  bool operator==(const readmitted&) const = default;
};

/// Supervisor to the front: these ranks are ready and reachable for everybody; their cells serve again.
struct regained {
  static constexpr auto type = message_type::regained;
  std::vector<rank_id> ranks;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.ranks);
  }
  bool operator==(const regained&) const = default;
};

/// Owner to writer: a region that you may write to once you hold a grant for a part of it (I23, I25).
struct region {
  static constexpr auto type = message_type::region;
  std::string purpose; ///< "pixels", "rows", "kv"
  region_card card;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.purpose, self.card);
  }
  bool operator==(const region&) const = default;
};

// ---- liveness ---------------------------------------------------------------------------------------------------

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

// ---- work -------------------------------------------------------------------------------------------------------

/// Front to prefill leader.
struct submit {
  static constexpr auto type = message_type::submit;
  request_id request;
  std::vector<token_id> prompt; ///< with image tokens already repeated
  std::vector<picture_item> pictures;
  sampling_options sampling;
  room_id kv_room;
  cell_id decode_cell;
  std::uint32_t deadline_ms = 0;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.prompt, self.pictures, self.sampling, self.kv_room, self.decode_cell,
                     self.deadline_ms);
  }
  bool operator==(const submit&) const = default;
};

/// Front to encode leader: the pixels are (or will be) in `pixels` of every rank of the cell, RGB u8 [height, width,
/// 3].
struct encode {
  static constexpr auto type = message_type::encode;
  request_id request;
  room_id room;
  slot_ref pixels;
  std::uint32_t height = 0;
  std::uint32_t width = 0;
  std::uint32_t tokens = 0;
  std::uint64_t content_hash = 0;
  cell_id prefill_cell;
  std::uint32_t deadline_ms = 0;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.room, self.pixels, self.height, self.width, self.tokens, self.content_hash,
                     self.prefill_cell, self.deadline_ms);
  }
  bool operator==(const encode&) const = default;
};

/// Decode leader to front, a step at a time.
struct tokens {
  static constexpr auto type = message_type::tokens;
  std::vector<token_event> events;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.events);
  }
  bool operator==(const tokens&) const = default;
};

enum class phase : std::uint8_t {
  ingest = 1,  ///< picture decoded, resized; prompt tokenised
  queue = 2,   ///< waiting for a slot or a turn
  encode = 3,  ///< vision tower
  rows = 4,    ///< embeddings on their way
  prefill = 5, ///< text model over the prompt
  kv = 6,      ///< keys and values on their way
  decode = 7,  ///< token by token
};
constexpr bool is_valid(phase part) noexcept {
  return part >= phase::ingest && part <= phase::decode;
}
std::string_view name(phase part) noexcept;

/// Any rank to the front: how long a phase of a request took (steady clock of that host).
struct timing {
  static constexpr auto type = message_type::timing;
  request_id request;
  phase part = phase::ingest;
  std::int64_t began_ns = 0;
  std::int64_t ended_ns = 0;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.part, self.began_ns, self.ended_ns);
  }
  bool operator==(const timing&) const = default;
};

// ---- rooms ------------------------------------------------------------------------------------------------------

/// Front to decode leader: keep room for the prompt's keys and values and for the answer.
struct reserve_kv {
  static constexpr auto type = message_type::reserve_kv;
  request_id request;
  room_id room;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t max_tokens = 0;
  sampling_options sampling;
  std::vector<token_id> end_tokens;
  cell_id prefill_cell;
  std::uint32_t deadline_ms = 0;
  std::uint64_t prompt_digest = 0; ///< what the hand-over must say of the prompt (F6); 0: not stated

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.room, self.prompt_tokens, self.max_tokens, self.sampling, self.end_tokens,
                     self.prefill_cell, self.deadline_ms);
    archive.appended(self.prompt_digest);
  }
  bool operator==(const reserve_kv&) const = default;
};

/// Prefill leader to its workers: grant your rows of this slot to the encode cell.
struct reserve_rows {
  static constexpr auto type = message_type::reserve_rows;
  request_id request;
  room_id room;
  slot_ref slot;
  std::uint32_t tokens = 0;
  cell_id encode_cell;
  std::uint32_t deadline_ms = 0; ///< what is left of the request's time

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.room, self.slot, self.tokens, self.encode_cell);
    archive.appended(self.deadline_ms);
  }
  bool operator==(const reserve_rows&) const = default;
};

/// Decode leader to its workers: these blocks are the request's; grant them to the prefill cell.
struct reserve_blocks {
  static constexpr auto type = message_type::reserve_blocks;
  request_id request;
  room_id room;
  std::uint32_t prompt_tokens = 0;
  std::vector<block_index> blocks;
  generation tenancy; ///< of the reservation
  cell_id prefill_cell;
  std::uint32_t deadline_ms = 0; ///< what is left of the request's time

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.room, self.prompt_tokens, self.blocks, self.tenancy, self.prefill_cell);
    archive.appended(self.deadline_ms);
  }
  bool operator==(const reserve_blocks&) const = default;
};

/// Prefill rank to encode leader: write these rows there. A lease (lease.hpp): it holds for `valid_ms` from its
/// arrival, and for the memory of that generation of the rank. Contract: I11, I13, I18, K1.
struct grant_rows {
  static constexpr auto type = message_type::grant_rows;
  request_id request;
  room_id room;
  std::uint32_t part = 0;  ///< place of the granting rank in its cell
  std::uint32_t parts = 1; ///< ranks of the cell
  slot_ref slot;
  std::uint32_t first_row = 0;
  std::uint32_t rows = 0;
  std::uint32_t row_elements = 0; ///< hidden width times (1 + deepstack levels)
  element_type dtype = element_type::f32;
  generation born = {}; ///< of the granting rank
  std::uint32_t valid_ms = 0;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.room, self.part, self.parts, self.slot, self.first_row, self.rows,
                     self.row_elements, self.dtype);
    archive.appended(self.born, self.valid_ms);
  }
  bool operator==(const grant_rows&) const = default;
};

/// Decode rank to each prefill rank whose heads or layers it holds. A lease, as `grant_rows`.
/// Contract: K1.
struct grant_blocks {
  static constexpr auto type = message_type::grant_blocks;
  request_id request;
  room_id room;
  std::uint32_t part = 0;
  std::uint32_t parts = 1;
  std::uint32_t prompt_tokens = 0;
  std::vector<block_index> blocks;
  generation tenancy;
  element_type dtype = element_type::f32;
  generation born = {}; ///< of the granting rank
  std::uint32_t valid_ms = 0;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.room, self.part, self.parts, self.prompt_tokens, self.blocks, self.tenancy,
                     self.dtype);
    archive.appended(self.born, self.valid_ms);
  }
  bool operator==(const grant_blocks&) const = default;
};

/// Encode leader to front: these pixel slots are free for you (credits), on every rank of the cell. A lease without an
/// end of its own: it holds until the front has used it, for the memory of that generation of the cell.
/// Contract: K1.
struct grant_pixels {
  static constexpr auto type = message_type::grant_pixels;
  std::vector<slot_ref> slots;
  generation born = {}; ///< of the cell's ranks, which are of one generation

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.slots);
    archive.appended(self.born);
  }
  bool operator==(const grant_pixels&) const = default;
};

/// Mesh worker to its leader: all bytes of this room are here.
struct landed {
  static constexpr auto type = message_type::landed;
  request_id request;
  room_id room;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.room);
  }
  bool operator==(const landed&) const = default;
};

/// Prefill rank to its leader: my part of the keys and values is delivered (or will never be).
struct shipped {
  static constexpr auto type = message_type::shipped;
  request_id request;
  room_id room;
  std::uint16_t code = 0; ///< 0 or a `fault`
  std::string message;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.room, self.code, self.message);
  }
  bool operator==(const shipped&) const = default;
};

/// Last prefill stage's leader to decode leader; stored before the room's status flips (F14).
struct handover {
  static constexpr auto type = message_type::handover;
  request_id request;
  room_id room;
  token_id first_token = 0;
  std::int32_t position_delta = 0; ///< M-RoPE delta, 0 without pictures (F16)
  std::uint32_t length = 0;        ///< prompt tokens whose keys and values were sent
  std::uint64_t digest = 0;        ///< of the prompt, see prompt_digest.hpp

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.room, self.first_token, self.position_delta, self.length, self.digest);
  }
  bool operator==(const handover&) const = default;
};

/// Leader to worker: the request has ended; a member answers with `rows_quiet` or `blocks_quiet` (F13).
struct release {
  static constexpr auto type = message_type::release;
  request_id request;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request);
  }
  bool operator==(const release&) const = default;
};

/// Owner of lent memory to its writer: the room is over here. The writer begins nothing more and answers `returned`.
/// Contract: K2.
template <message_type Type>
struct revoke {
  static constexpr auto type = Type;
  request_id request;
  room_id room;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.room);
  }
  bool operator==(const revoke&) const = default;
};
using revoke_rows = revoke<message_type::revoke_rows>;     ///< prefill rank to encode leader
using revoke_blocks = revoke<message_type::revoke_blocks>; ///< decode rank to prefill rank

/// Writer to owner of lent memory: nothing more of this room will be begun. Said when asked (`revoke`), and unasked
/// when a grant will not be used or a write under it has failed. The first of one room counts. Contract: K2.
template <message_type Type>
struct returned {
  static constexpr auto type = Type;
  request_id request;
  room_id room;
  bool settled = true; ///< false: bytes that were under way may still arrive (`may_still_arrive`)

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.room, self.settled);
  }
  bool operator==(const returned&) const = default;
};
using pixels_returned = returned<message_type::pixels_returned>; ///< front to encode leader
using rows_returned = returned<message_type::rows_returned>;     ///< encode leader to prefill rank
using blocks_returned = returned<message_type::blocks_returned>; ///< prefill rank to decode rank

/// Member to its leader: the request has ended here, and nobody can write any more into what this rank lent for it.
/// Contract: K2.
template <message_type Type>
struct quiet {
  static constexpr auto type = Type;
  request_id request;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request);
  }
  bool operator==(const quiet&) const = default;
};
using rows_quiet = quiet<message_type::rows_quiet>;     ///< of a prefill cell
using blocks_quiet = quiet<message_type::blocks_quiet>; ///< of a decode cell

// ---- ends -------------------------------------------------------------------------------------------------------

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

struct ack {
  static constexpr auto type = message_type::ack;
  request_id request;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request);
  }
  bool operator==(const ack&) const = default;
};

struct nack {
  static constexpr auto type = message_type::nack;
  request_id request;
  std::uint16_t code = 0;
  std::string message;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.code, self.message);
  }
  bool operator==(const nack&) const = default;
};

struct cancel {
  static constexpr auto type = message_type::cancel;
  request_id request;
  std::string reason;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.reason);
  }
  bool operator==(const cancel&) const = default;
};

// ---- clients of the front ---------------------------------------------------------------------------------------

/// Client to front; then `picture_chunk` frames until `picture_bytes` of each picture have been sent.
struct ask {
  static constexpr auto type = message_type::ask;
  std::uint64_t tag = 0; ///< the client's own, from 1; stands in every reply
  std::string prompt;
  std::vector<std::string> picture_names; ///< for error lines
  std::vector<std::uint64_t> picture_bytes;
  std::uint32_t max_tokens = 0;
  sampling_options sampling;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.tag, self.prompt, self.picture_names, self.picture_bytes, self.max_tokens, self.sampling);
  }
  bool operator==(const ask&) const = default;
};

struct picture_chunk {
  static constexpr auto type = message_type::picture_chunk;
  std::uint64_t tag = 0;
  std::uint32_t picture = 0;
  std::vector<std::byte> bytes;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.tag, self.picture, self.bytes);
  }
  bool operator==(const picture_chunk&) const = default;
};

struct accepted {
  static constexpr auto type = message_type::accepted;
  std::uint64_t tag = 0;
  request_id request;
  std::uint32_t prompt_tokens = 0;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.tag, self.request, self.prompt_tokens);
  }
  bool operator==(const accepted&) const = default;
};

struct answer {
  static constexpr auto type = message_type::answer;
  std::uint64_t tag = 0;
  std::uint32_t index = 0;
  token_id id = 0;
  std::string text; ///< what this token adds; whole code points only

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.tag, self.index, self.id, self.text);
  }
  bool operator==(const answer&) const = default;
};

struct phase_time {
  phase part = phase::ingest;
  std::int64_t began_ns = 0;
  std::int64_t ended_ns = 0;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.part, self.began_ns, self.ended_ns);
  }
  bool operator==(const phase_time&) const = default;
};

struct finished {
  static constexpr auto type = message_type::finished;
  std::uint64_t tag = 0;
  finish_reason reason = finish_reason::none;
  std::string message; ///< first cause when failed
  std::int64_t time_to_first_token_ns = 0;
  std::int64_t total_ns = 0;
  std::vector<phase_time> phases;
  std::string text; ///< the end of the answer: what no token completed

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.tag, self.reason, self.message, self.time_to_first_token_ns, self.total_ns, self.phases);
    archive.appended(self.text);
  }
  bool operator==(const finished&) const = default;
};

struct refused {
  static constexpr auto type = message_type::refused;
  std::uint64_t tag = 0; ///< 0: the connection, which ends; clients count from 1
  std::uint16_t code = 0;
  std::string message;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.tag, self.code, self.message);
  }
  bool operator==(const refused&) const = default;
};

/// Client to front: the question of that tag is not wanted any more, whatever has become of it by now. It is answered
/// with `finished`, or has ended before. Contract: C15, K9.
struct withdraw {
  static constexpr auto type = message_type::withdraw;
  std::uint64_t tag = 0;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.tag);
  }
  bool operator==(const withdraw&) const = default;
};

// ---- drills -----------------------------------------------------------------------------------------------------

/// To the supervisor from whoever drills a job, and on to the rank: strike there. Refused where drills are off.
struct inject {
  static constexpr auto type = message_type::inject;
  rank_id rank;
  injection_rule rule;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.rank, self.rule);
  }
  bool operator==(const inject&) const = default;
};

/// The supervisor's answer: the rule is on its way to the rank, or why it is not.
struct injected {
  static constexpr auto type = message_type::injected;
  std::uint16_t code = 0; ///< 0 or a `fault`
  std::string message;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.code, self.message);
  }
  bool operator==(const injected&) const = default;
};

} // namespace troupe::protocols
