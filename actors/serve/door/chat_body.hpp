#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

#include "protocols/serve/client_messages.hpp"

namespace troupe::actors {

/// Which of the two requests a body belongs to.
enum class body_form : std::uint8_t { chat, completion };

/// What a request's body asks for: `n` questions that differ only in their seeds.
struct chat_request {
  std::string model;                         ///< empty: not stated
  protocols::ask asked;                      ///< without a tag; it announces the pictures of `files`
  std::vector<std::vector<std::byte>> files; ///< the picture files, in order
  std::uint32_t n = 1;
  bool stream = false;
  bool includes_usage = false;
  std::vector<std::string> stops;
};

/// Why a body is refused with status 400.
struct body_problem {
  std::string code;
  std::string message; ///< what is wrong, where, and what would be valid
  std::string param;   ///< "messages[2].content[1]"; empty: the whole body
};

struct body_bounds {
  std::uint64_t picture_bytes_max = 0;
  std::uint32_t vocabulary = 0;
};

inline constexpr std::uint32_t answers_max = 16; ///< `n`
inline constexpr std::size_t stops_max = 16;
inline constexpr std::size_t stop_bytes_max = 256;

/// Reads the body of a chat completion or of a completion in the form of OpenAI's API, with the settings that vLLM
/// adds. A key is obeyed, ignored because a list says so, or refused: no key is ignored silently. Contract: K10.
/// Threads: any.
tl::expected<chat_request, body_problem> read_body(body_form form, std::string_view body, const body_bounds& bounds);

} // namespace troupe::actors
