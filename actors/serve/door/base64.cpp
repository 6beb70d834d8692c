#include "actors/serve/door/base64.hpp"

#include <array>
#include <cstdint>

namespace troupe::actors {

namespace {

constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t no_digit = 0x80;

constexpr auto digits = [] {
  std::array<std::uint8_t, 256> made{};
  made.fill(no_digit);
  for (std::size_t i = 0; i < alphabet.size(); ++i)
    made[static_cast<unsigned char>(alphabet[i])] = static_cast<std::uint8_t>(i);
  return made;
}();

} // namespace

std::optional<std::vector<std::byte>> decode_base64(std::string_view text) {
  if (text.size() % 4 != 0)
    return std::nullopt;
  std::size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=')
    ++padding;
  const auto whole = padding > 0 ? text.size() - 4 : text.size();
  std::vector<std::byte> out(whole / 4 * 3 + (padding > 0 ? 3 - padding : 0));
  auto* to = out.data();
  const auto digit = [&](std::size_t i) { return digits[static_cast<unsigned char>(text[i])]; };
  std::uint8_t bad = 0;
  for (std::size_t i = 0; i < whole; i += 4) {
    const auto a = digit(i);
    const auto b = digit(i + 1);
    const auto c = digit(i + 2);
    const auto d = digit(i + 3);
    bad = static_cast<std::uint8_t>(bad | a | b | c | d);
    *to++ = static_cast<std::byte>(a << 2 | b >> 4);
    *to++ = static_cast<std::byte>(b << 4 | c >> 2);
    *to++ = static_cast<std::byte>(c << 6 | d);
  }
  if (padding > 0) {
    const auto a = digit(whole);
    const auto b = digit(whole + 1);
    const auto c = padding == 1 ? digit(whole + 2) : std::uint8_t{0};
    bad = static_cast<std::uint8_t>(bad | a | b | c);
    const auto rest = padding == 1 ? c & 3 : b & 15;
    if (rest != 0) // bits that belong to no byte
      return std::nullopt;
    *to++ = static_cast<std::byte>(a << 2 | b >> 4);
    if (padding == 1)
      *to++ = static_cast<std::byte>(b << 4 | c >> 2);
  }
  if ((bad & no_digit) != 0)
    return std::nullopt;
  return out;
}

} // namespace troupe::actors
