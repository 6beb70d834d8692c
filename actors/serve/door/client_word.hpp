#pragma once

#include <cstdint>
#include <memory>
#include <variant>
#include <vector>

#include <caf/all.hpp>

#include "fabric/lanes/link_queues.hpp"
#include "protocols/serve/client_messages.hpp"

/// Messages between the front and the door of its process.
namespace troupe::actors {

/// A message of the front to a client of the door. Clients of `front.sock` get the same messages in frames.
using client_word = std::variant<protocols::accepted, protocols::answer, protocols::finished, protocols::refused>;

/// The key of a client of the door. Its highest bit is set, which no key of the wire's clients has.
constexpr fabric::link_queues::key door_client(std::uint64_t number) noexcept {
  return (std::uint64_t{1} << 63) | number;
}
constexpr bool is_door_client(fabric::link_queues::key client) noexcept {
  return (client >> 63) != 0;
}

/// A question that came through the door, with its pictures whole.
struct door_question {
  fabric::link_queues::key client = 0;
  protocols::ask asked;
  std::shared_ptr<const std::vector<std::vector<std::byte>>> files; ///< shared by all questions of the client
  bool as_it_is = false; ///< `asked.prompt` is the whole prompt; no chat template is applied
};

} // namespace troupe::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::door_question)
