#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/ids.hpp"
#include "protocols/serve/message_types.hpp"
#include "protocols/serve/sampling_options.hpp"
#include "protocols/time.hpp"
#include "protocols/transfers/slot_ref.hpp"
#include "protocols/wire/frame.hpp"

/// A request on its way through the cells, its tokens and its end.
/// A message names its fields once, in `fields` (wire/codec.hpp).
namespace troupe::protocols {

/// By what names others follow a request, on its way through every rank.
struct request_trace {
  std::string name;                     ///< X-Request-Id; at most `limits::request_name_bytes_max`, printable ASCII
  std::array<std::uint8_t, 16> trace{}; ///< W3C traceparent; all zero: none
  std::array<std::uint8_t, 8> parent{}; ///< the span that caused the request

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.name, self.trace, self.parent);
  }
  bool operator==(const request_trace&) const = default;
};
/// What is wrong with it, in words.
std::optional<std::string> find_invalid(const request_trace& trace);

/// How long a request has that asks for `timeout_ms`, or for 0: what all may have, at most.
inline duration time_of(std::uint32_t timeout_ms, duration most) {
  return timeout_ms == 0 ? most : std::min<duration>(most, std::chrono::milliseconds{timeout_ms});
}

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

/// Front to prefill leader.
struct submit {
  static constexpr auto type = serve_type::submit;
  request_id request;
  std::vector<token_id> prompt; ///< with image tokens already repeated
  std::vector<picture_item> pictures;
  sampling_options sampling;
  room_id kv_room;
  cell_id decode_cell;
  std::uint32_t deadline_ms = 0;
  request_trace trace = {};
  std::int32_t priority = 0; ///< the lower, the sooner

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.prompt, self.pictures, self.sampling, self.kv_room, self.decode_cell,
                     self.deadline_ms);
    archive.appended(self.sampling.rules, self.trace, self.priority);
  }
  bool operator==(const submit&) const = default;
};

/// Front to encode leader: the pixels are (or will be) in `pixels` of every rank of the cell, RGB u8 [height, width,
/// 3].
struct encode {
  static constexpr auto type = serve_type::encode;
  request_id request;
  room_id room;
  slot_ref pixels;
  std::uint32_t height = 0;
  std::uint32_t width = 0;
  std::uint32_t tokens = 0;
  std::uint64_t content_hash = 0;
  cell_id prefill_cell;
  std::uint32_t deadline_ms = 0;
  request_trace trace = {};

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.room, self.pixels, self.height, self.width, self.tokens, self.content_hash,
                     self.prefill_cell, self.deadline_ms);
    archive.appended(self.trace);
  }
  bool operator==(const encode&) const = default;
};

/// The log-probability of an event's token, and those of the likeliest tokens in its place, the likeliest first.
struct event_logprobs {
  std::uint32_t event = 0; ///< index in the message
  std::vector<token_logprob> values;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.event, self.values);
  }
  bool operator==(const event_logprobs&) const = default;
};

/// Decode leader to front, a step at a time.
struct tokens {
  static constexpr auto type = serve_type::tokens;
  std::vector<token_event> events;
  std::vector<event_logprobs> logprobs = {}; ///< of those events whose requests ask for them, in order

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.events);
    archive.appended(self.logprobs);
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
  static constexpr auto type = serve_type::timing;
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

struct ack {
  static constexpr auto type = serve_type::ack;
  request_id request;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request);
  }
  bool operator==(const ack&) const = default;
};

struct nack {
  static constexpr auto type = serve_type::nack;
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
  static constexpr auto type = serve_type::cancel;
  request_id request;
  std::string reason;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.request, self.reason);
  }
  bool operator==(const cancel&) const = default;
};

} // namespace troupe::protocols
