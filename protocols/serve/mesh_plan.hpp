#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "protocols/serve/request_messages.hpp"

/// What the leader of a cell announces to its members before each step, on the plan channel.
/// A member does what the plan says and decides nothing of its own (B11); the plan names the collectives that the step
/// will issue, so that a member that would issue others fails before it enters one (A24, A25).
namespace troupe::protocols {

enum class plan_kind : std::uint8_t {
  warm = 1,    ///< every collective once, in step (B20)
  vote = 2,    ///< MIN over what each rank knows of these rooms (B15)
  encode = 3,  ///< vision tower over pictures
  prefill = 4, ///< text model over a piece of one prompt
  decode = 5,  ///< one token for every active sequence
  stop = 6,    ///< leave the loop
};
constexpr bool is_valid(plan_kind kind) noexcept {
  return kind >= plan_kind::warm && kind <= plan_kind::stop;
}

/// What a rank knows of a room; the minimum over the mesh holds.
enum class admission : std::int32_t {
  failed = 0,  ///< it will never be whole here
  pending = 1, ///< bytes are missing
  done = 2,    ///< all bytes of this rank are here
};

struct tower_item {
  room_id room;
  slot_index pixels;
  std::uint32_t height = 0;
  std::uint32_t width = 0;
  slot_index rows; ///< where the leader puts the embedding

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.room, self.pixels, self.height, self.width, self.rows);
  }
  bool operator==(const tower_item&) const = default;
};

struct prefill_picture {
  std::uint32_t first_token = 0; ///< in the prompt
  std::uint32_t tokens = 0;
  slot_index rows;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.first_token, self.tokens, self.rows);
  }
  bool operator==(const prefill_picture&) const = default;
};

/// Tokens [begin, begin + ids) of one prompt; `last` when they end it, and then a token is chosen.
struct prefill_step {
  request_id request;
  room_id kv_room;
  std::vector<token_id> ids;
  std::vector<std::array<std::int32_t, 3>> positions;
  std::uint32_t begin = 0;
  bool last = false;
  std::vector<block_index> blocks;
  std::vector<prefill_picture> pictures; ///< those that touch this piece
  cell_id decode_cell;                   ///< to which the keys and values go
  sampling_options sampling;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.kv_room, self.ids, self.positions, self.begin, self.last, self.blocks,
                     self.pictures, self.decode_cell, self.sampling);
  }
  bool operator==(const prefill_step&) const = default;
};

/// A sequence enters the batch: everything that the steps after this one need.
struct sequence_join {
  request_id request;
  std::uint32_t context = 0; ///< tokens whose keys and values were handed over
  std::int32_t position_delta = 0;
  std::vector<block_index> blocks; ///< for context and answer
  sampling_options sampling;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.context, self.position_delta, self.blocks, self.sampling);
  }
  bool operator==(const sequence_join&) const = default;
};

/// Leaves first, then joins, then one token for each row of the batch, in the order in which they joined.
struct decode_step {
  std::vector<request_id> leaves;
  std::vector<sequence_join> joins;
  std::vector<token_id> ids; ///< the newest token of each row, not yet in its context

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.leaves, self.joins, self.ids);
  }
  bool operator==(const decode_step&) const = default;
};

/// One announcement. Only the part of its kind is sent. Parts take no new fields, so the rules of a prompt's last piece
/// and those of each join, in order, stand at the end.
struct mesh_plan {
  static constexpr auto type = message_type::mesh_plan;
  plan_kind kind = plan_kind::warm;
  call_id call;
  std::vector<room_id> rooms;
  std::vector<tower_item> pictures;
  prefill_step prefill;
  decode_step decode;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.kind, self.call);
    switch (self.kind) {
    case plan_kind::warm:
    case plan_kind::stop:
      break;
    case plan_kind::vote:
      archive.required(self.rooms);
      break;
    case plan_kind::encode:
      archive.required(self.pictures);
      break;
    case plan_kind::prefill:
      archive.required(self.prefill);
      archive.appended(self.prefill.sampling.rules);
      break;
    case plan_kind::decode:
      archive.required(self.decode);
      for (auto& join : self.decode.joins)
        archive.appended(join.sampling.rules);
      break;
    }
  }
  bool operator==(const mesh_plan&) const = default;
};

} // namespace troupe::protocols
