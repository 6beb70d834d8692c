#include "gpu/models/tokenizers/tokenizer_split.hpp"

#include <algorithm>
#include <span>

#include "gpu/models/tokenizers/tokenizer_unicode.hpp"

namespace troupe::gpu::models {
namespace {

using unicode::code_point;
using code_points = std::span<const code_point>;

constexpr std::string_view gpt2_regex = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen2_regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view llama3_regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

bool is_line_end(code_point c) {
  return c == '\r' || c == '\n';
}
bool is_other(code_point c) {
  return !unicode::is_space(c) && !unicode::is_letter(c) && !unicode::is_number(c);
}

/// First place from `from` on where `is` does not hold.
template <class Predicate>
std::size_t run_end(code_points text, std::size_t from, Predicate is) {
  while (from < text.size() && is(text[from]))
    ++from;
  return from;
}

code_point lower(code_point c) {
  constexpr code_point long_s = 0x17F; // folds to s, so that the published patterns take it for one
  if (c == long_s)
    return 's';
  return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
}

/// 's 't 're 've 'm 'll 'd; returns `from` where none stands there.
std::size_t contraction_end(code_points text, std::size_t from, bool any_case) {
  if (text[from] != '\'')
    return from;
  const auto at = [&](std::size_t i) -> code_point {
    if (i >= text.size())
      return 0;
    return any_case ? lower(text[i]) : text[i];
  };
  const code_point first = at(from + 1), second = at(from + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd')
    return from + 2;
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l'))
    return from + 3;
  return from;
}

/// The alternatives \s+(?!\S) and \s+: white space, less its last character where a word follows.
std::size_t space_end(code_points text, std::size_t from) {
  const std::size_t end = run_end(text, from, unicode::is_space);
  return end < text.size() && end - from > 1 ? end - 1 : end;
}

std::size_t gpt2_end(code_points text, std::size_t from) {
  if (const std::size_t end = contraction_end(text, from, false); end > from)
    return end;
  const std::size_t word = text[from] == ' ' && from + 1 < text.size() ? from + 1 : from;
  if (unicode::is_letter(text[word]))
    return run_end(text, word, unicode::is_letter);
  if (unicode::is_number(text[word]))
    return run_end(text, word, unicode::is_number);
  if (is_other(text[word]))
    return run_end(text, word, is_other);
  return space_end(text, from);
}

std::size_t gpt4_end(code_points text, std::size_t from, std::size_t digits_max) {
  if (const std::size_t end = contraction_end(text, from, true); end > from)
    return end;

  const code_point first = text[from];
  const bool has_next = from + 1 < text.size();
  if (unicode::is_letter(first))
    return run_end(text, from, unicode::is_letter);
  if (unicode::is_number(first))
    return run_end(text.first(std::min(text.size(), from + digits_max)), from, unicode::is_number);
  if (!is_line_end(first) && has_next && unicode::is_letter(text[from + 1]))
    return run_end(text, from + 1, unicode::is_letter);

  const std::size_t word = first == ' ' && has_next ? from + 1 : from;
  if (is_other(text[word]))
    return run_end(text, run_end(text, word, is_other), is_line_end);

  const std::size_t spaces = run_end(text, from, unicode::is_space);
  for (std::size_t end = spaces; end > from; --end)
    if (is_line_end(text[end - 1]))
      return end;
  return space_end(text, from);
}

/// Above `from`, at most text.size().
std::size_t piece_end(const split_pattern& pattern, code_points text, std::size_t from) {
  switch (pattern.of) {
  case split_pattern::family::gpt2:
    return gpt2_end(text, from);
  case split_pattern::family::gpt4:
    return gpt4_end(text, from, pattern.digits_max);
  }
  return text.size();
}

} // namespace

std::optional<split_pattern> pattern_of(std::string_view regex) {
  if (regex == gpt2_regex)
    return gpt2_pattern;
  if (regex == qwen2_regex)
    return qwen2_pattern;
  if (regex == llama3_regex)
    return llama3_pattern;
  return std::nullopt;
}

std::vector<std::string_view> split(const split_pattern& pattern, std::string_view text) {
  const std::vector<code_point> points = unicode::decode(text);
  std::vector<std::string_view> pieces;
  for (std::size_t from = 0; from < points.size();) {
    const std::size_t end = piece_end(pattern, points, from);
    std::size_t bytes = 0;
    for (; from < end; ++from)
      bytes += unicode::utf8_bytes(points[from]);
    pieces.push_back(text.substr(0, bytes));
    text.remove_prefix(bytes);
  }
  return pieces;
}

} // namespace troupe::gpu::models
