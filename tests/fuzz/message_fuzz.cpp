#include "inputs.hpp"
#include "target.hpp"
#include "tests/protocols/every_message.hpp"

using namespace troupe;
using namespace troupe::protocols;

namespace {

template <class Message>
void decode(Message message, std::span<const std::byte> payload) {
  if (!decode_payload(payload, message))
    return;
  const auto first = testing::bytes_of(message);
  Message again;
  TROUPE_ASSERT("A26", decode_payload(first, again, true));
  TROUPE_ASSERT("A18", testing::bytes_of(again) == first);
  if (decode_payload(payload, message, true)) // what is not there was appended later and has its default
    TROUPE_ASSERT("A18", first.size() >= payload.size() && std::equal(payload.begin(), payload.end(), first.begin()));
}

} // namespace

/// The payload of every message; the first byte says of which one.
TROUPE_FUZZ_TARGET(message) {
  if (input.empty())
    return;
  std::size_t number = std::to_integer<std::size_t>(input.front());
  testing::for_each_message([&](auto message) {
    if (number-- == 0)
      decode(std::move(message), input.subspan(1));
  });
}
