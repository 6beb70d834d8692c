#pragma once

#include <cstdint>
#include <string>

#include <tl/expected.hpp>

namespace troupe::embed {

/// Why a call or a question failed. Reasons differ in what a caller can do.
enum class reason : std::uint8_t {
  invalid,       ///< the question is wrong; the same one will fail again
  overloaded,    ///< too many questions at once; ask again when one has ended
  shutting_down, ///< the cluster takes no new questions
  timeout,       ///< the deadline passed; the connection stays good
  cancelled,     ///< `client::interrupt` was called, or the client cancelled the question
  gone,          ///< nobody listens at the socket, or the connection has ended
  bad_reply,     ///< the front sent something that is no valid reply; the connection has ended
  resources,     ///< this process has no descriptor or memory left
  other,         ///< see `words`
};

/// A failure: a reason for code, and text for people.
struct error {
  reason why = reason::other;
  std::string what;  ///< details: which path, how many bytes, what would be valid
  std::string words; ///< a whole line for a log: "queue_full: a bounded queue is full (256 clients)"

  bool operator==(const error&) const = default;
};

template <class T>
using result = tl::expected<T, error>;

} // namespace troupe::embed
