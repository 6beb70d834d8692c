#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "runtime/embed/error.hpp"

namespace troupe::embed {

/// The front has accepted the question. In every event `tag` is what `client::ask` returned for it.
struct accepted {
  std::uint64_t tag = 0;
  std::uint64_t request = 0; ///< the question's number in logs and flight records
  std::uint32_t prompt_tokens = 0;
  std::uint64_t seed = 0; ///< with which tokens are drawn: the question's, or the front's if `draws_seed`
};

/// The natural logarithm of a token's probability, from the model's own logits, before rules and temperature.
struct logprob {
  std::int32_t id = 0;
  float value = 0.0F;
  std::string bytes; ///< of the token, which may be part of a code point; empty: a special token
};

/// One token of an answer.
struct token {
  std::uint64_t tag = 0;
  std::uint32_t index = 0; ///< place in the answer, from 0
  std::int32_t id = 0;
  std::string text;              ///< what this token adds to the text; whole code points only
  std::vector<logprob> logprobs; ///< if asked for: this token's, then those of the likeliest, in order
};

/// How a question ended.
enum class ending : std::uint8_t {
  stop,      ///< the model chose an end token
  length,    ///< the answer has `max_tokens`
  failed,    ///< a fault; see `finished::message`
  cancelled, ///< the client asked for it
};

/// How long a part of the work took on one rank, by that host's steady clock.
struct timing {
  std::string part; ///< the program's name for it, such as "prefill"
  std::chrono::nanoseconds began{};
  std::chrono::nanoseconds ended{};
};

/// The question has ended. Its whole text is that of all its tokens, followed by `text`.
struct finished {
  std::uint64_t tag = 0;
  ending how = ending::failed;
  std::string message; ///< the first cause, if it failed
  std::chrono::nanoseconds to_first_token{};
  std::chrono::nanoseconds total{};
  std::vector<timing> timings;
  std::string text; ///< the last part of the answer, which no token has completed

  bool is_answer() const noexcept { return how == ending::stop || how == ending::length; }
};

/// The front has refused the question; no other event follows for it.
struct refused {
  std::uint64_t tag = 0;
  error why;
};

/// The events of a question: `accepted`, one `token` for each token, then `finished`; or only `refused`.
using event = std::variant<accepted, token, finished, refused>;

} // namespace troupe::embed
