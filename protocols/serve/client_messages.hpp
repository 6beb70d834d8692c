#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "protocols/ids.hpp"
#include "protocols/serve/conversation.hpp"
#include "protocols/serve/message_types.hpp"
#include "protocols/serve/request_messages.hpp"
#include "protocols/wire/frame.hpp"

/// Between a client and the front.
/// A message names its fields once, in `fields` (wire/codec.hpp).
namespace troupe::protocols {

/// Client to front; then `picture_chunk` frames until `picture_bytes` of each picture have been sent.
struct ask {
  static constexpr auto type = serve_type::ask;
  std::uint64_t tag = 0; ///< the client's own, from 1; stands in every reply
  std::string prompt;
  std::vector<std::string> picture_names; ///< for error lines
  std::vector<std::uint64_t> picture_bytes;
  std::uint32_t max_tokens = 0; ///< 0: as many as there is room for
  sampling_options sampling;
  bool draws_seed = false;      ///< `sampling.seed` says nothing: the front draws one
  std::uint32_t timeout_ms = 0; ///< from this frame to the last token; 0: the spec's `timeouts.request_ms`, the most
  std::int32_t priority = 0;    ///< the lower, the sooner
  request_trace trace = {};
  conversation said = {}; ///< not empty: asked in place of `prompt`, its picture parts being the files in their order

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.tag, self.prompt, self.picture_names, self.picture_bytes, self.max_tokens, self.sampling);
    archive.appended(self.sampling.rules, self.draws_seed, self.timeout_ms, self.priority, self.trace, self.said);
  }
  bool operator==(const ask&) const = default;
};

struct picture_chunk {
  static constexpr auto type = serve_type::picture_chunk;
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
  static constexpr auto type = serve_type::accepted;
  std::uint64_t tag = 0;
  request_id request;
  std::uint32_t prompt_tokens = 0;
  std::uint64_t seed = 0;       ///< of the choices: the question's, or the one that the front has drawn
  std::uint32_t max_tokens = 0; ///< of the answer

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.tag, self.request, self.prompt_tokens);
    archive.appended(self.seed, self.max_tokens);
  }
  bool operator==(const accepted&) const = default;
};

/// One of a token's log-probabilities.
struct shown_logprob {
  token_id id = 0;
  float value = 0.0F;
  std::string bytes; ///< the token's own, which may be a part of a code point; none of a special token

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.id, self.value, self.bytes);
  }
  bool operator==(const shown_logprob&) const = default;
};

struct answer {
  static constexpr auto type = serve_type::answer;
  std::uint64_t tag = 0;
  std::uint32_t index = 0;
  token_id id = 0;
  std::string text; ///< what this token adds; whole code points only; nothing of a token that ends the answer
  std::vector<shown_logprob> logprobs = {}; ///< this token's, then those of the likeliest, the likeliest first

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.tag, self.index, self.id, self.text);
    archive.appended(self.logprobs);
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
  static constexpr auto type = serve_type::finished;
  std::uint64_t tag = 0;
  finish_reason reason = finish_reason::none;
  std::string message; ///< first cause when failed
  std::int64_t time_to_first_token_ns = 0;
  std::int64_t total_ns = 0;
  std::vector<phase_time> phases;
  std::string text; ///< the end of the answer: what no token completed
  std::uint32_t prompt_tokens = 0;
  std::uint32_t answer_tokens = 0; ///< that were handed on

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.tag, self.reason, self.message, self.time_to_first_token_ns, self.total_ns, self.phases);
    archive.appended(self.text, self.prompt_tokens, self.answer_tokens);
  }
  bool operator==(const finished&) const = default;
};

struct refused {
  static constexpr auto type = serve_type::refused;
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
  static constexpr auto type = serve_type::withdraw;
  std::uint64_t tag = 0;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.tag);
  }
  bool operator==(const withdraw&) const = default;
};

} // namespace troupe::protocols
