#pragma once

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "tests/protocols/every_message.hpp"

/// The bytes of every message, written out by hand from the README's rules: little-endian, a 32-bit count before a text
/// or a list, fields in order. A blank stands between fields. A mismatch means that the wire has changed: peers of
/// another build would misread it, so append a field or raise `wire_version` instead of editing a line here.
namespace troupe::protocols::testing {

inline std::string hex_of(std::span<const std::byte> bytes) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (const auto byte : bytes) {
    text += digits[std::to_integer<std::size_t>(byte) / 16];
    text += digits[std::to_integer<std::size_t>(byte) % 16];
  }
  return text;
}

template <class Message>
void check_golden(const Message& message, std::string_view golden) {
  CAPTURE(name(Message::type));
  std::string packed{golden};
  std::erase(packed, ' ');
  const auto bytes = bytes_of(message);
  CHECK(hex_of(bytes) == packed);

  Message read;
  REQUIRE(decode_payload(bytes, read, true));
  CHECK(read == message);
}

} // namespace troupe::protocols::testing
