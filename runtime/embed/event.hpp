#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "runtime/embed/error.hpp"

namespace troupe::embed {

/// The question was taken. Its `tag` is the one that `client::ask` gave it, here as in every event.
struct accepted {
  std::uint64_t tag = 0;
  std::uint64_t request = 0; ///< its number in logs and flight records
  std::uint32_t prompt_tokens = 0;
  std::uint64_t seed = 0; ///< of the choices: the question's, or the one that the front has drawn
};

/// The natural logarithm of a token's probability, by the model's own logits.
struct logprob {
  std::int32_t id = 0;
  float value = 0.0F;
  std::string bytes; ///< the token's own, which may be a part of a code point; none of a special token
};

/// One token of an answer.
struct token {
  std::uint64_t tag = 0;
  std::uint32_t index = 0; ///< of the answer, from 0
  std::int32_t id = 0;
  std::string text; ///< what this token adds; whole code points only
  std::vector<logprob> logprobs; ///< where asked for: this token's, then those of the likeliest, the likeliest first
};

enum class ending : std::uint8_t {
  stop,      ///< an end token
  length,    ///< `max_tokens` were given
  failed,    ///< a fault; see the message
  cancelled, ///< the client asked for it
};

/// How long a part of the work took on one rank, by that host's steady clock.
struct timing {
  std::string part; ///< "prefill": as the program calls it
  std::chrono::nanoseconds began{};
  std::chrono::nanoseconds ended{};
};

/// The question has ended. The whole text is that of all its tokens and then of this.
struct finished {
  std::uint64_t tag = 0;
  ending how = ending::failed;
  std::string message; ///< first cause when failed
  std::chrono::nanoseconds to_first_token{};
  std::chrono::nanoseconds total{};
  std::vector<timing> timings;
  std::string text; ///< the end of the answer: what no token completed

  bool is_answer() const noexcept { return how == ending::stop || how == ending::length; }
};

/// The question was not taken, and has ended.
struct refused {
  std::uint64_t tag = 0;
  error why;
};

/// What the front says of a question: `accepted`, a `token` each, then `finished`; or `refused` alone.
using event = std::variant<accepted, token, finished, refused>;

} // namespace troupe::embed
