#pragma once

#include "protocols/serve/serve_message.hpp"
#include "runtime/cluster/message_fields.hpp"

/// The fields of the messages of `serve` and of their parts, in wire order, as they are declared
/// (protocols/*/*_messages.hpp). A message with too few or too many fails `tests/cluster/message_text_test.cpp`.
namespace troupe::cluster {

// ---- parts ----
TROUPE_FIELD_NAMES(protocols::sampling_options, "temperature", "top_p", "seed");
TROUPE_FIELD_NAMES(protocols::token_bias, "id", "value");
TROUPE_FIELD_NAMES(protocols::token_logprob, "id", "value");
TROUPE_FIELD_NAMES(protocols::event_logprobs, "event", "values");
TROUPE_FIELD_NAMES(protocols::sampling_rules, "top_k", "min_p", "presence_penalty", "frequency_penalty",
                   "repetition_penalty", "bias", "min_tokens", "stop_ids", "ignore_eos", "logprobs", "top_logprobs",
                   "prompt_ids");
TROUPE_FIELD_NAMES(protocols::request_trace, "name", "trace", "parent");
TROUPE_FIELD_NAMES(protocols::picture_item, "room", "first_token", "tokens", "grid", "content_hash", "encode_cell");
TROUPE_FIELD_NAMES(protocols::slot_ref, "slot", "lease_generation");
TROUPE_FIELD_NAMES(protocols::token_event, "request", "index", "id", "finish");

// ---- messages ----
TROUPE_FIELD_NAMES(protocols::submit, "request", "prompt", "pictures", "sampling", "kv_room", "decode_cell",
                   "deadline_ms", "rules", "trace", "priority");
TROUPE_FIELD_NAMES(protocols::encode, "request", "room", "pixels", "height", "width", "tokens", "content_hash",
                   "prefill_cell", "deadline_ms", "trace");
TROUPE_FIELD_NAMES(protocols::tokens, "events", "logprobs");
TROUPE_FIELD_NAMES(protocols::timing, "request", "part", "began_ns", "ended_ns");
TROUPE_FIELD_NAMES(protocols::reserve_kv, "request", "room", "prompt_tokens", "max_tokens", "sampling", "end_tokens",
                   "prefill_cell", "deadline_ms", "prompt_digest", "rules", "trace", "priority");
TROUPE_FIELD_NAMES(protocols::reserve_rows, "request", "room", "slot", "tokens", "encode_cell", "deadline_ms");
TROUPE_FIELD_NAMES(protocols::reserve_blocks, "request", "room", "prompt_tokens", "blocks", "lease_generation",
                   "prefill_cell", "deadline_ms");
TROUPE_FIELD_NAMES(protocols::grant_rows, "request", "room", "part", "parts", "slot", "first_row", "rows",
                   "row_elements", "dtype", "born", "valid_ms");
TROUPE_FIELD_NAMES(protocols::grant_blocks, "request", "room", "part", "parts", "prompt_tokens", "blocks",
                   "lease_generation", "dtype", "born", "valid_ms");
TROUPE_FIELD_NAMES(protocols::grant_pixels, "slots", "born");
TROUPE_FIELD_NAMES(protocols::arrived, "request", "room");
TROUPE_FIELD_NAMES(protocols::kv_sent, "request", "room", "code", "message");
TROUPE_FIELD_NAMES(protocols::handover, "request", "room", "first_token", "position_delta", "length", "digest",
                   "logprobs");
TROUPE_FIELD_NAMES(protocols::release, "request");
TROUPE_FIELD_NAMES(protocols::revoke_rows, "request", "room");
TROUPE_FIELD_NAMES(protocols::revoke_blocks, "request", "room");
TROUPE_FIELD_NAMES(protocols::pixels_returned, "request", "room", "settled");
TROUPE_FIELD_NAMES(protocols::rows_returned, "request", "room", "settled");
TROUPE_FIELD_NAMES(protocols::blocks_returned, "request", "room", "settled");
TROUPE_FIELD_NAMES(protocols::rows_quiet, "request");
TROUPE_FIELD_NAMES(protocols::blocks_quiet, "request");
TROUPE_FIELD_NAMES(protocols::error, "code", "message", "origin", "call", "where", "request");
TROUPE_FIELD_NAMES(protocols::ack, "request");
TROUPE_FIELD_NAMES(protocols::cancel, "request", "reason");

} // namespace troupe::cluster
