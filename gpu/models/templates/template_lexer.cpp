#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "gpu/models/templates/template_syntax.hpp"
#include "gpu/models/templates/template_value.hpp"
#include "gpu/models/tokenizers/tokenizer_unicode.hpp"

namespace troupe::gpu::models {
namespace {

using kind = template_token::kind;

/// All line ends as \n, less one at the end.
std::string with_one_line_end(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    out.push_back(text[i] == '\r' ? '\n' : text[i]);
    i += text.substr(i).starts_with("\r\n") ? 1 : 0;
  }
  if (out.ends_with('\n'))
    out.pop_back();
  return out;
}

bool begins_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

class lexer {
public:
  explicit lexer(std::string_view source) : source_(with_one_line_end(source)), rest_(source_) {}

  std::vector<template_token> all() {
    while (!rest_.empty())
      read_text();
    add(kind::end, {});
    return std::move(tokens_);
  }

private:
  template_place here() {
    const std::size_t at = source_.size() - rest_.size();
    for (; counted_ < at; ++counted_) {
      const bool line_end = source_[counted_] == '\n';
      place_.line += line_end ? 1 : 0;
      place_.column = line_end ? 1 : place_.column + ((source_[counted_] & 0xC0) == 0x80 ? 0 : 1);
    }
    return place_;
  }
  template_problem bad(const std::string& what) { return {here(), what}; }
  void add(kind is, std::string text) { tokens_.push_back({is, std::move(text), here()}); }

  bool take(std::string_view mark) {
    if (!rest_.starts_with(mark))
      return false;
    rest_.remove_prefix(mark.size());
    return true;
  }
  void skip_blanks() { rest_.remove_prefix(rest_.size() - without_blanks(rest_, true, false).size()); }

  /// Text up to the next mark, and the mark with what is in it.
  void read_text() {
    std::size_t end = 0;
    const auto is_mark = [&](std::string_view at) {
      return at.starts_with("{{") || at.starts_with("{%") || at.starts_with("{#");
    };
    while (end < rest_.size() && !is_mark(rest_.substr(end)))
      ++end;
    std::string_view text = rest_.substr(0, end);
    const std::string_view mark = rest_.substr(end, 2), after = rest_.substr(std::min(end + 2, rest_.size()));
    if (after.starts_with('-'))
      text = without_blanks(text, false, true);
    else if (!mark.empty() && mark != "{{" && !after.starts_with('+'))
      text = without_indent(text);
    if (!text.empty())
      add(kind::text, std::string{text});
    rest_.remove_prefix(end);
    if (!mark.empty())
      read_mark(mark);
  }

  /// lstrip_blocks: white space between the beginning of a line and a block is not text.
  std::string_view without_indent(std::string_view text) const {
    const std::size_t line = text.rfind('\n') + 1; // 0 where there is none
    const bool begins_line = line > 0 || at_line_start_;
    return begins_line && without_blanks(text.substr(line), true, false).empty() ? text.substr(0, line) : text;
  }

  void read_mark(std::string_view mark) {
    if (mark == "{#")
      return read_comment();
    const bool prints = mark == "{{";
    add(prints ? kind::print_begin : kind::block_begin, {});
    rest_.remove_prefix(2);
    if (!take("-"))
      take("+");
    while (!read_mark_end(prints))
      read_token(prints);
  }

  bool read_mark_end(bool prints) {
    if (!open_.empty())
      return false;
    const std::string_view end = prints ? "}}" : "%}";
    const auto stood = rest_;
    const bool strips = take("-");
    const bool keeps = !strips && !prints && take("+");
    if (!rest_.starts_with(end)) {
      rest_ = stood;
      return false;
    }
    rest_ = stood;
    add(prints ? kind::print_end : kind::block_end, {});
    rest_.remove_prefix(strips || keeps ? 3 : 2);
    after_end(strips, keeps || prints);
    return true;
  }

  /// trim_blocks: the line end behind a block is not text.
  void after_end(bool strips, bool keeps) {
    const std::size_t stood = source_.size() - rest_.size();
    if (strips)
      skip_blanks();
    else if (!keeps)
      take("\n");
    const std::size_t at = source_.size() - rest_.size();
    at_line_start_ = at > stood && source_[at - 1] == '\n';
  }

  void read_comment() {
    const auto end = rest_.find("#}", 2);
    if (end == std::string_view::npos)
      throw bad("a comment without an end; understood is \"#}\" behind it");
    const char before = end > 2 ? rest_[end - 1] : ' ';
    rest_.remove_prefix(end + 2);
    after_end(before == '-', before == '+');
  }

  void read_token(bool prints) {
    skip_blanks();
    if (read_mark_ends_here(prints))
      return;
    if (rest_.empty())
      throw bad(fmt::format("the end of the template; understood is \"{}\" before it", prints ? "}}" : "%}"));
    if (begins_name(rest_.front()))
      return read_name();
    if (is_digit(rest_.front()))
      return read_number();
    if (rest_.front() == '\'' || rest_.front() == '"')
      return read_string();
    read_sign();
  }
  /// White space stood before the end mark.
  bool read_mark_ends_here(bool prints) const {
    const std::string_view end = prints ? "}}" : "%}";
    const bool marked = rest_.starts_with('-') || (!prints && rest_.starts_with('+'));
    return open_.empty() && (rest_.starts_with(end) || (marked && rest_.substr(1).starts_with(end)));
  }

  void read_name() {
    std::size_t end = 1;
    while (end < rest_.size() && (begins_name(rest_[end]) || is_digit(rest_[end])))
      ++end;
    if (end < rest_.size() && static_cast<unsigned char>(rest_[end]) >= 0x80)
      throw bad("a name with a letter beyond ASCII; understood are a to z, A to Z, 0 to 9 and _");
    add(kind::name, std::string{rest_.substr(0, end)});
    rest_.remove_prefix(end);
  }

  void read_number() {
    std::size_t end = digits_from(0);
    const bool fraction = rest_.substr(end).starts_with('.') && digits_from(end + 1) > end + 1;
    const bool zeros = end > 1 && rest_.front() == '0';
    if (fraction)
      end = digits_from(end + 1);
    if (end > 15 || zeros || (end < rest_.size() && begins_name(rest_[end])))
      throw bad("a number of another form; understood are decimal ones of at most 15 digits");
    add(fraction ? kind::fraction : kind::integer, std::string{rest_.substr(0, end)});
    rest_.remove_prefix(end);
  }
  std::size_t digits_from(std::size_t at) const {
    while (at < rest_.size() && is_digit(rest_[at]))
      ++at;
    return at;
  }

  void read_string() {
    const char quote = rest_.front();
    std::size_t end = 1;
    while (end < rest_.size() && rest_[end] != quote)
      end += rest_[end] == '\\' ? 2 : 1;
    if (end >= rest_.size())
      throw bad("a text without its closing quote");
    add(kind::string, unescaped(rest_.substr(1, end - 1)));
    rest_.remove_prefix(end + 1);
  }

  std::string unescaped(std::string_view text) {
    constexpr std::string_view known = "\\'\"abfnrtv", meant = "\\'\"\a\b\f\n\r\t\v";
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\') {
        out.push_back(text[i]);
        continue;
      }
      const char next = text[++i]; // there is one: read_string went over it
      if (const auto at = known.find(next); at != std::string_view::npos)
        out.push_back(meant[at]);
      else if (next == 'x' || next == 'u')
        i += append_code_point(out, text.substr(i + 1), next == 'x' ? 2 : 4);
      else if (next == 'N' || next == 'U' || next == '\n' || is_digit(next) || static_cast<unsigned char>(next) >= 0x80)
        throw bad("an escape of another form; understood are \\n, \\t, \\', \\\", \\\\, \\xHH and \\uHHHH");
      else
        out.append({'\\', next});
    }
    return out;
  }

  std::size_t append_code_point(std::string& out, std::string_view digits, std::size_t length) {
    unicode::code_point value = 0;
    std::uint32_t number = 0;
    const char* const end = digits.data() + std::min(length, digits.size());
    const auto read = std::from_chars(digits.data(), end, number, 16);
    value = number;
    const bool surrogate = value >= 0xD800 && value < 0xE000;
    if (digits.size() < length || read.ptr != end || surrogate)
      throw bad("an escape that is no character; understood are \\xHH and \\uHHHH");
    unicode::append_utf8(out, value);
    return length;
  }

  void read_sign() {
    constexpr std::array<std::string_view, 27> signs{"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                     "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                     ">",  "<",  "=",  ".",  ":",  "|",  ",", ";", "!"};
    const auto sign = std::ranges::find_if(signs, [&](std::string_view each) { return rest_.starts_with(each); });
    if (sign == signs.end() || *sign == "!" || *sign == ";")
      throw bad(fmt::format("\"{}\", which no expression of Jinja has", utf8_prefix(rest_)));
    if (*sign == "(" || *sign == "[" || *sign == "{") {
      open_.push_back(*sign == "(" ? ')' : *sign == "[" ? ']' : '}');
    } else if (*sign == ")" || *sign == "]" || *sign == "}") {
      if (open_.empty() || open_.back() != sign->front())
        throw bad(fmt::format("\"{}\" that closes nothing", *sign));
      open_.pop_back();
    }
    add(kind::sign, std::string{*sign});
    rest_.remove_prefix(sign->size());
  }
  static std::string utf8_prefix(std::string_view text) {
    std::string out;
    const auto front = unicode::front_of(text);
    unicode::append_utf8(out, front.is == unicode::utf8_front::kind::whole ? front.value : unicode::replacement);
    return out;
  }

  std::string source_;
  std::string_view rest_;
  std::vector<template_token> tokens_;
  std::string open_; ///< closing brackets that are due
  bool at_line_start_ = true;
  template_place place_{1, 1};
  std::size_t counted_ = 0; ///< bytes of the source that `place_` is behind
};

} // namespace

std::vector<template_token> template_tokens(std::string_view source) {
  return lexer{source}.all();
}

} // namespace troupe::gpu::models
