#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "protocols/element_type.hpp"
#include "protocols/ids.hpp"
#include "protocols/serve/message_types.hpp"
#include "protocols/serve/request_messages.hpp"
#include "protocols/transfers/slot_ref.hpp"
#include "protocols/wire/frame.hpp"

/// What leaders, workers and cells say about the memory of one request: reserved, granted, written, returned.
/// A message names its fields once, in `fields` (wire/codec.hpp).
namespace troupe::protocols {

/// Front to decode leader: keep room for the prompt's keys and values and for the answer.
struct reserve_kv {
  static constexpr auto type = serve_type::reserve_kv;
  request_id request;
  room_id room;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t max_tokens = 0;
  sampling_options sampling;
  std::vector<token_id> end_tokens;
  cell_id prefill_cell;
  std::uint32_t deadline_ms = 0;
  std::uint64_t prompt_digest = 0; ///< what the hand-over must say of the prompt (F6); 0: not stated
  request_trace trace = {};
  std::int32_t priority = 0; ///< the lower, the sooner

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.room, self.prompt_tokens, self.max_tokens, self.sampling, self.end_tokens,
                     self.prefill_cell, self.deadline_ms);
    archive.appended(self.prompt_digest, self.sampling.rules, self.trace, self.priority);
  }
  bool operator==(const reserve_kv&) const = default;
};

/// Prefill leader to its workers: grant your rows of this slot to the encode cell.
struct reserve_rows {
  static constexpr auto type = serve_type::reserve_rows;
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
  static constexpr auto type = serve_type::reserve_blocks;
  request_id request;
  room_id room;
  std::uint32_t prompt_tokens = 0;
  std::vector<block_index> blocks;
  generation lease_generation; ///< of the reservation
  cell_id prefill_cell;
  std::uint32_t deadline_ms = 0; ///< what is left of the request's time

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.room, self.prompt_tokens, self.blocks, self.lease_generation,
                     self.prefill_cell);
    archive.appended(self.deadline_ms);
  }
  bool operator==(const reserve_blocks&) const = default;
};

/// Prefill rank to encode leader: write these rows there. A lease (lease.hpp): it holds for `valid_ms` from its
/// arrival, and for the memory of that generation of the rank. Contract: I11, I13, I18, K1.
struct grant_rows {
  static constexpr auto type = serve_type::grant_rows;
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
  static constexpr auto type = serve_type::grant_blocks;
  request_id request;
  room_id room;
  std::uint32_t part = 0;
  std::uint32_t parts = 1;
  std::uint32_t prompt_tokens = 0;
  std::vector<block_index> blocks;
  generation lease_generation;
  element_type dtype = element_type::f32;
  generation born = {}; ///< of the granting rank
  std::uint32_t valid_ms = 0;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.room, self.part, self.parts, self.prompt_tokens, self.blocks,
                     self.lease_generation, self.dtype);
    archive.appended(self.born, self.valid_ms);
  }
  bool operator==(const grant_blocks&) const = default;
};

/// Encode leader to front: these pixel slots are free for you (credits), on every rank of the cell. A lease without an
/// end of its own: it holds until the front has used it, for the memory of that generation of the cell.
/// Contract: K1.
struct grant_pixels {
  static constexpr auto type = serve_type::grant_pixels;
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
struct arrived {
  static constexpr auto type = serve_type::arrived;
  request_id request;
  room_id room;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.room);
  }
  bool operator==(const arrived&) const = default;
};

/// Prefill rank to its leader: my part of the keys and values is delivered (or will never be).
struct kv_sent {
  static constexpr auto type = serve_type::kv_sent;
  request_id request;
  room_id room;
  std::uint16_t code = 0; ///< 0 or a `fault`
  std::string message;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.room, self.code, self.message);
  }
  bool operator==(const kv_sent&) const = default;
};

/// Last prefill stage's leader to decode leader; stored before the room's status flips (F14).
struct handover {
  static constexpr auto type = serve_type::handover;
  request_id request;
  room_id room;
  token_id first_token = 0;
  std::int32_t position_delta = 0;          ///< M-RoPE delta, 0 without pictures (F16)
  std::uint32_t length = 0;                 ///< prompt tokens whose keys and values were sent
  std::uint64_t digest = 0;                 ///< of the prompt, see prompt_digest.hpp
  std::vector<token_logprob> logprobs = {}; ///< of the first token; see `event_logprobs`

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.room, self.first_token, self.position_delta, self.length, self.digest);
    archive.appended(self.logprobs);
  }
  bool operator==(const handover&) const = default;
};

/// Leader to worker: the request has ended; a member answers with `rows_quiet` or `blocks_quiet` (F13).
struct release {
  static constexpr auto type = serve_type::release;
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
using revoke_rows = revoke<serve_type::revoke_rows>;     ///< prefill rank to encode leader
using revoke_blocks = revoke<serve_type::revoke_blocks>; ///< decode rank to prefill rank

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
using pixels_returned = returned<serve_type::pixels_returned>; ///< front to encode leader
using rows_returned = returned<serve_type::rows_returned>;     ///< encode leader to prefill rank
using blocks_returned = returned<serve_type::blocks_returned>; ///< prefill rank to decode rank

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
using rows_quiet = quiet<serve_type::rows_quiet>;     ///< of a prefill cell
using blocks_quiet = quiet<serve_type::blocks_quiet>; ///< of a decode cell

} // namespace troupe::protocols
