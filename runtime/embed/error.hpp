#pragma once

#include <cstdint>
#include <string>

#include <tl/expected.hpp>

namespace troupe::embed {

/// Why a call, or a question, came to nothing; what a caller can do about it differs.
enum class reason : std::uint8_t {
  invalid,       ///< it cannot be asked like this; asking again does not help
  overloaded,    ///< too much is asked at once; ask again when something has ended
  shutting_down, ///< the cluster takes nothing new
  timeout,       ///< the deadline passed; the connection stays good
  cancelled,     ///< by `client::interrupt`, or the question by its client
  gone,          ///< nobody listens there, or the connection has ended
  bad_reply,     ///< the other end sent what is no reply; the connection has ended
  resources,     ///< this process has no descriptor or memory left
  other,         ///< see the words
};

struct error {
  reason why = reason::other;
  std::string what;  ///< the particulars: which path, how many bytes, what would be valid
  std::string words; ///< the whole line: "queue_full: a bounded queue is full (256 clients)"

  bool operator==(const error&) const = default;
};

template <class T>
using result = tl::expected<T, error>;

} // namespace troupe::embed
