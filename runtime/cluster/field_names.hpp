#pragma once

#include <array>
#include <string_view>

#include "protocols/serve/serve_message.hpp"

/// How people call the fields of the messages between role actors, and of their parts: in wire order, as they are
/// declared (protocols/*/*_messages.hpp). C++ cannot tell the names; a message without its line here does not compile
/// where one is read from text, and one with too few or too many fails `tests/cluster/message_text_test.cpp`.
namespace troupe::cluster {

template <class Message>
struct field_names_of;
template <class Message>
inline constexpr const auto& field_names = field_names_of<Message>::value;

#define TROUPE_FIELD_NAMES(message, ...)                                                                               \
  template <>                                                                                                          \
  struct field_names_of<protocols::message> {                                                                          \
    static constexpr auto value = std::to_array<std::string_view>({__VA_ARGS__});                                      \
  }

// ---- parts ----
TROUPE_FIELD_NAMES(sampling_options, "temperature", "top_p", "seed");
TROUPE_FIELD_NAMES(picture_item, "room", "first_token", "tokens", "grid", "content_hash", "encode_cell");
TROUPE_FIELD_NAMES(slot_ref, "slot", "lease_generation");
TROUPE_FIELD_NAMES(token_event, "request", "index", "id", "finish");

// ---- messages ----
TROUPE_FIELD_NAMES(submit, "request", "prompt", "pictures", "sampling", "kv_room", "decode_cell", "deadline_ms");
TROUPE_FIELD_NAMES(encode, "request", "room", "pixels", "height", "width", "tokens", "content_hash", "prefill_cell",
                   "deadline_ms");
TROUPE_FIELD_NAMES(tokens, "events");
TROUPE_FIELD_NAMES(timing, "request", "part", "began_ns", "ended_ns");
TROUPE_FIELD_NAMES(reserve_kv, "request", "room", "prompt_tokens", "max_tokens", "sampling", "end_tokens",
                   "prefill_cell", "deadline_ms", "prompt_digest");
TROUPE_FIELD_NAMES(reserve_rows, "request", "room", "slot", "tokens", "encode_cell", "deadline_ms");
TROUPE_FIELD_NAMES(reserve_blocks, "request", "room", "prompt_tokens", "blocks", "lease_generation", "prefill_cell",
                   "deadline_ms");
TROUPE_FIELD_NAMES(grant_rows, "request", "room", "part", "parts", "slot", "first_row", "rows", "row_elements", "dtype",
                   "born", "valid_ms");
TROUPE_FIELD_NAMES(grant_blocks, "request", "room", "part", "parts", "prompt_tokens", "blocks", "lease_generation",
                   "dtype", "born", "valid_ms");
TROUPE_FIELD_NAMES(grant_pixels, "slots", "born");
TROUPE_FIELD_NAMES(arrived, "request", "room");
TROUPE_FIELD_NAMES(kv_sent, "request", "room", "code", "message");
TROUPE_FIELD_NAMES(handover, "request", "room", "first_token", "position_delta", "length", "digest");
TROUPE_FIELD_NAMES(release, "request");
TROUPE_FIELD_NAMES(revoke_rows, "request", "room");
TROUPE_FIELD_NAMES(revoke_blocks, "request", "room");
TROUPE_FIELD_NAMES(pixels_returned, "request", "room", "settled");
TROUPE_FIELD_NAMES(rows_returned, "request", "room", "settled");
TROUPE_FIELD_NAMES(blocks_returned, "request", "room", "settled");
TROUPE_FIELD_NAMES(rows_quiet, "request");
TROUPE_FIELD_NAMES(blocks_quiet, "request");
TROUPE_FIELD_NAMES(error, "code", "message", "origin", "call", "where", "request");
TROUPE_FIELD_NAMES(ack, "request");
TROUPE_FIELD_NAMES(cancel, "request", "reason");

#undef TROUPE_FIELD_NAMES

} // namespace troupe::cluster
