#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "gpu/models/templates/template_value.hpp"
#include "gpu/models/tokenizers/tokenizer_unicode.hpp"

/// Values as texts, in the three ways of Python: str, repr and json.dumps. A byte of a user's text stays a user's.
namespace troupe::gpu::models {
namespace {

/// As repr(): the shortest digits that read back, with an exponent below 1e-4 and from 1e16 on.
std::string python_number(double value) {
  if (std::isnan(value))
    return "nan";
  if (std::isinf(value))
    return value < 0 ? "-inf" : "inf";
  std::array<char, 40> room{};
  const auto end = std::to_chars(room.data(), room.data() + room.size(), value, std::chars_format::scientific).ptr;
  const std::string_view all{room.data(), static_cast<std::size_t>(end - room.data())};
  const auto mark = all.find('e');
  int exponent = 0;
  std::from_chars(all.data() + mark + (all[mark + 1] == '+' ? 2 : 1), end, exponent);
  if (exponent < -4 || exponent >= 16)
    return std::string{all};
  const auto plain = std::to_chars(room.data(), room.data() + room.size(), value, std::chars_format::fixed).ptr;
  std::string out{room.data(), plain};
  return out.find('.') == std::string::npos ? out + ".0" : out;
}

/// The code points of a text, each with the place of its first byte.
template <class Each>
void over_points(const marked_text& text, Each each) {
  std::size_t at = 0;
  for (const unicode::code_point one : unicode::decode(text.bytes())) {
    each(one, at);
    at += unicode::utf8_bytes(one);
  }
}

class writer {
public:
  explicit writer(template_place at) : at_(at) {}

  void template_text(std::string_view text) { out_ += marked_text::of_template(text); }
  [[noreturn]] void refuse(const template_value& value, std::string_view what) const {
    throw template_problem(at_, fmt::format("{} {}", kind_of(value), what));
  }
  /// A number, true, false and none; false for other kinds.
  bool plain(const template_value& value, const std::array<std::string_view, 3>& names) {
    if (const auto* number = value.as<std::int64_t>())
      template_text(std::to_string(*number));
    else if (const auto* fraction = value.as<double>())
      template_text(python_number(*fraction));
    else if (const bool* flag = value.as<bool>())
      template_text(names[*flag ? 1 : 0]);
    else if (value.as<template_value::none>())
      template_text(names[2]);
    else
      return false;
    return true;
  }

  template_place at_;
  marked_text out_;
};

constexpr std::array<std::string_view, 3> python_names{"False", "True", "None"};
constexpr std::array<std::string_view, 3> json_names{"false", "true", "null"};

class speller : public writer {
public:
  using writer::writer;

  void value(const template_value& one) {
    if (plain(one, python_names))
      return;
    if (one.text())
      text(*one.text());
    else if (one.list())
      list(*one.list(), one.as<template_value::tuple>() != nullptr);
    else if (const auto* map = one.as<template_value::map_box>())
      members(*map);
    else if (!one.defined())
      template_text("Undefined");
    else
      refuse(one, "written out; understood are texts, numbers, lists and maps");
  }

private:
  void list(const value_list& all, bool is_tuple) {
    template_text(is_tuple ? "(" : "[");
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (i > 0)
        template_text(", ");
      value(all[i]);
    }
    template_text(is_tuple ? (all.size() == 1 ? ",)" : ")") : "]");
  }
  void members(const template_value::map_box& map) {
    template_text("{");
    for (std::size_t i = 0; i < map.box->all.size(); ++i) {
      if (i > 0)
        template_text(", ");
      value(template_value::key_of(map, map.box->all[i].first));
      template_text(": ");
      value(map.box->all[i].second);
    }
    template_text("}");
  }
  void text(const marked_text& of) {
    const bool doubled = of.bytes().find('\'') != std::string::npos && of.bytes().find('"') == std::string::npos;
    const char quote = doubled ? '"' : '\'';
    template_text({&quote, 1});
    over_points(
        of, [&](unicode::code_point c, std::size_t at) { out_ += marked_text::marked_as(escaped(c, quote), of, at); });
    template_text({&quote, 1});
  }
  std::string escaped(unicode::code_point c, char quote) const {
    switch (c) {
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\\':
      return "\\\\";
    default:
      break;
    }
    if (c == static_cast<unicode::code_point>(quote))
      return {'\\', quote};
    if (c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0xAD)
      return fmt::format("\\x{:02x}", static_cast<std::uint32_t>(c));
    std::string out;
    unicode::append_utf8(out, c);
    if (c >= 0x80 && !unicode::is_letter(c) && !unicode::is_number(c) && !is_mark_of_text(c))
      throw template_problem(at_, fmt::format("\"{}\" in a list or map written out; understood there are letters, "
                                              "numbers and the signs of ASCII, Latin and CJK",
                                              out));
    return out;
  }
  /// Blocks without a hole, a blank or a control in them.
  static bool is_mark_of_text(unicode::code_point c) {
    return (c > 0xA0 && c < 0x100) || (c >= 0x2010 && c <= 0x2027) || (c >= 0x2030 && c <= 0x205E) ||
           (c >= 0x2190 && c <= 0x23FF) || (c >= 0x2500 && c <= 0x2B73) || (c >= 0x3001 && c <= 0x3029) ||
           (c >= 0xFF01 && c <= 0xFF65) || (c >= 0x1F300 && c <= 0x1F64F);
  }
};

class json_writer : public writer {
public:
  json_writer(const json_style& how, template_place at) : writer(at), how_(how) {}

  void value(const template_value& one, unsigned depth) {
    if (const double* number = one.as<double>(); number && !std::isfinite(*number))
      return template_text(std::isnan(*number) ? "NaN" : *number < 0 ? "-Infinity" : "Infinity");
    if (plain(one, json_names))
      return;
    if (const auto* safe = one.as<template_value::markup>())
      text(*safe->text);
    else if (one.text())
      text(*one.text());
    else if (one.list())
      list(*one.list(), depth);
    else if (const auto* map = one.as<template_value::map_box>())
      members(*map, depth);
    else
      refuse(one, "as JSON; understood are texts, numbers, true and false, none, lists and maps");
  }

private:
  void line(unsigned depth) {
    if (!how_.indent)
      return;
    std::string out = "\n";
    for (unsigned i = 0; i < depth; ++i)
      out += *how_.indent;
    template_text(out);
  }
  void list(const value_list& all, unsigned depth) {
    template_text("[");
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (i > 0)
        template_text(how_.between);
      line(depth + 1);
      value(all[i], depth + 1);
    }
    if (!all.empty())
      line(depth);
    template_text("]");
  }
  void members(const template_value::map_box& map, unsigned depth) {
    std::vector<const value_map::value_type*> all;
    for (const auto& each : map.box->all)
      all.push_back(&each);
    if (how_.sort_keys)
      std::ranges::sort(all, {}, [](const auto* each) -> const std::string& { return each->first; });
    template_text("{");
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (i > 0)
        template_text(how_.between);
      line(depth + 1);
      text(*template_value::key_of(map, all[i]->first).text());
      template_text(how_.behind_key);
      value(all[i]->second, depth + 1);
    }
    if (!all.empty())
      line(depth);
    template_text("}");
  }
  void text(const marked_text& of) {
    template_text("\"");
    over_points(of, [&](unicode::code_point c, std::size_t at) { out_ += marked_text::marked_as(escaped(c), of, at); });
    template_text("\"");
  }
  std::string escaped(unicode::code_point c) const {
    constexpr std::string_view known = "\"\\\n\r\t\f\b", meant = "\"\\nrtfb";
    if (const auto at = c < 0x80 ? known.find(static_cast<char>(c)) : std::string_view::npos;
        at != std::string_view::npos)
      return {'\\', meant[at]};
    if (c < 0x20 || (how_.ensure_ascii && c >= 0x7F && c < 0x10000))
      return fmt::format("\\u{:04x}", static_cast<std::uint32_t>(c));
    if (how_.ensure_ascii && c >= 0x10000 && c < unicode::stray) {
      const auto rest = static_cast<std::uint32_t>(c) - 0x10000;
      return fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
    }
    std::string out;
    unicode::append_utf8(out, c);
    return out;
  }

  const json_style& how_;
};

} // namespace

marked_text written(const template_value& value, template_place at) {
  if (value.text())
    return *value.text();
  if (const auto* safe = value.as<template_value::markup>())
    return *safe->text;
  return value.defined() ? spelled(value, at) : marked_text{};
}

marked_text spelled(const template_value& value, template_place at) {
  speller out{at};
  out.value(value);
  return std::move(out.out_);
}

marked_text json_of(const template_value& value, const json_style& how, template_place at) {
  json_writer out{how, at};
  out.value(value, 0);
  return std::move(out.out_);
}

} // namespace troupe::gpu::models
