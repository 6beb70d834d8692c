#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

#include "protocols/serve/client_messages.hpp"

namespace troupe::actors {

enum class body_form : std::uint8_t { chat, completion };

/// What a request's body asks for: one question or several that differ in their seeds alone.
struct chat_request {
  std::string model;                         ///< empty: not stated
  protocols::ask asked;                      ///< without a tag; pictures are announced
  std::vector<std::vector<std::byte>> files; ///< of its pictures, in order
  std::uint32_t n = 1;
  bool stream = false;
  bool includes_usage = false;
  std::vector<std::string> stops;
};

/// What is wrong with a body: an answer of 400 with this code.
struct body_problem {
  std::string code;
  std::string message; ///< what, where, what would be valid
  std::string param;   ///< "messages[2].content[1]"; empty: the whole body
};

struct body_bounds {
  std::uint64_t picture_bytes_max = 0;
  std::uint32_t vocabulary = 0;
};

inline constexpr std::uint32_t answers_max = 16; ///< `n`
inline constexpr std::size_t stops_max = 16;
inline constexpr std::size_t stop_bytes_max = 256;

/// Reads the body of a chat completion or a completion, as OpenAI's clients write it, with the settings that vLLM adds.
/// Every key is honoured, taken without effect by name, or refused. Contract: K10. Threads: any.
tl::expected<chat_request, body_problem> read_body(body_form form, std::string_view body, const body_bounds& bounds);

} // namespace troupe::actors
