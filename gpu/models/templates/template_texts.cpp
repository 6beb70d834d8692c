#include <fmt/format.h>

#include <algorithm>

#include "gpu/models/templates/template_call.hpp"
#include "gpu/models/templates/template_case.hpp"

namespace troupe::gpu::models {
namespace {

using call = template_call;
using unicode::code_point;

enum class text_ends { both, front, back };

/// Python's strip: of white space, or of all characters that `which` has.
marked_text stripped(const marked_text& text, const marked_text* which, text_ends ends) {
  const bool front = ends != text_ends::back, back = ends != text_ends::front;
  if (!which) {
    const std::string_view kept = without_blanks(text.bytes(), front, back);
    return text.part(static_cast<std::size_t>(kept.data() - text.bytes().data()), kept.size());
  }
  const auto unwanted = unicode::decode(which->bytes());
  const auto goes = [&](code_point c) { return std::ranges::find(unwanted, c) != unwanted.end(); };
  const auto points = unicode::decode(text.bytes());
  std::size_t from = 0, length = text.bytes().size();
  std::size_t first = 0, last = points.size();
  for (; front && first < last && goes(points[first]); ++first) {
    from += unicode::utf8_bytes(points[first]);
    length -= unicode::utf8_bytes(points[first]);
  }
  for (; back && first < last && goes(points[last - 1]); --last)
    length -= unicode::utf8_bytes(points[last - 1]);
  return text.part(from, length);
}
template_value strip_of(const call& one, text_ends ends) {
  one.takes(0, 1);
  const bool blanks = one.others.empty() || one.others[0].as<template_value::none>();
  return text_value(stripped(one.text(), blanks ? nullptr : &one.text_at(0), ends));
}

/// `change` appends what a code point becomes, given its place among them.
template <class Change>
marked_text changed(const call& one, const marked_text& text, Change change) {
  marked_text out;
  std::size_t at = 0, place = 0;
  std::string room;
  for (const code_point c : unicode::decode(text.bytes())) {
    if (c == unicode::capital_sigma)
      one.refuse("a capital sigma in another case", "text without one");
    room.clear();
    change(room, c, place++);
    out += marked_text::marked_as(room, text, at);
    at += unicode::utf8_bytes(c);
  }
  return out;
}
marked_text raised(const call& one, const marked_text& text) {
  return changed(one, text, [](std::string& out, code_point c, std::size_t) { unicode::append_upper(out, c); });
}
marked_text capitalised(const call& one, const marked_text& text) {
  return changed(one, text, [](std::string& out, code_point c, std::size_t place) {
    place == 0 ? unicode::append_title(out, c) : unicode::append_lower(out, c);
  });
}

/// A method of a text that takes nothing, from a change of it.
template <marked_text (*Change)(const call&, const marked_text&)>
template_value method_of(const call& one) {
  one.takes(0, 0);
  return text_value(Change(one, one.text()));
}
template <marked_text (*Change)(const call&, const marked_text&)>
template_value filter_of(const call& one) {
  one.takes(0, 0);
  return text_value(Change(one, one.any_text()));
}

/// The title method: letters behind letters are small. Of ASCII, where a letter is one that has a case.
marked_text titled(const call& one, const marked_text& text) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (std::ranges::any_of(text.bytes(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; }))
    one.bad("a text of ASCII");
  return changed(one, text, [&](std::string& out, code_point c, std::size_t place) {
    place > 0 && is_letter(text.bytes()[place - 1]) ? unicode::append_lower(out, c) : unicode::append_upper(out, c);
  });
}
/// The title filter of Jinja, which takes other ends of words than Python: white space, a hyphen, an opening bracket.
marked_text words_titled(const call& one, const marked_text& text) {
  bool begins = true;
  return changed(one, text, [&](std::string& out, code_point c, std::size_t) {
    const bool ends =
        unicode::is_space(c) || (c >= 0x1C && c <= 0x1F) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    begins ? unicode::append_upper(out, c) : unicode::append_lower(out, c);
    begins = ends;
  });
}

// pieces

bool is_line_end(code_point c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}
std::vector<marked_text> lines_of(const marked_text& text, bool keep_ends) {
  std::vector<marked_text> out;
  std::size_t from = 0, at = 0;
  const auto points = unicode::decode(text.bytes());
  for (std::size_t i = 0; i < points.size(); ++i) {
    const std::size_t end = at;
    at += unicode::utf8_bytes(points[i]);
    if (!is_line_end(points[i]))
      continue;
    if (points[i] == '\r' && i + 1 < points.size() && points[i + 1] == '\n')
      at += 1, ++i;
    out.push_back(text.part(from, (keep_ends ? at : end) - from));
    from = at;
  }
  if (from < text.bytes().size())
    out.push_back(text.part(from));
  return out;
}
value_list values_of(std::vector<marked_text> texts) {
  value_list out;
  for (marked_text& each : texts)
    out.push_back(text_value(std::move(each)));
  return out;
}

std::vector<marked_text> split_by(const marked_text& text, const std::string& by, std::int64_t most) {
  std::vector<marked_text> out;
  std::size_t from = 0;
  for (std::size_t at; most-- != 0 && (at = text.bytes().find(by, from)) != std::string::npos; from = at + by.size())
    out.push_back(text.part(from, at - from));
  out.push_back(text.part(from));
  return out;
}
std::vector<marked_text> split_by_from_behind(const marked_text& text, const std::string& by, std::int64_t most) {
  std::vector<marked_text> out;
  std::size_t end = text.bytes().size();
  for (std::size_t at;
       most-- != 0 && end >= by.size() && (at = text.bytes().rfind(by, end - by.size())) != std::string::npos; end = at)
    out.push_back(text.part(at + by.size(), end - at - by.size()));
  out.push_back(text.part(0, end));
  std::ranges::reverse(out);
  return out;
}
std::vector<marked_text> split_by_blanks(const marked_text& text) {
  std::vector<marked_text> out;
  std::size_t at = 0, from = 0;
  bool within = false;
  const auto ends = [&](std::size_t to) {
    if (std::exchange(within, false))
      out.push_back(text.part(from, to - from));
  };
  for (const code_point c : unicode::decode(text.bytes())) {
    if (unicode::is_space(c) || (c >= 0x1C && c <= 0x1F))
      ends(at);
    else if (!std::exchange(within, true))
      from = at;
    at += unicode::utf8_bytes(c);
  }
  ends(at);
  return out;
}
template_value split_of(const call& one, bool from_behind) {
  const auto given = one.bind({"sep", "maxsplit"});
  if (given[1] && !given[1]->as<std::int64_t>())
    one.bad("a whole number of splits");
  const std::int64_t most = given[1] ? *given[1]->as<std::int64_t>() : -1;
  if (!given[0] || given[0]->as<template_value::none>()) {
    if (most >= 0)
      one.bad("a separator beside the number of splits");
    return template_value::of(values_of(split_by_blanks(one.text())));
  }
  if (!given[0]->text() || given[0]->text()->empty())
    one.bad("a text that is not empty");
  const std::string& by = given[0]->text()->bytes();
  return template_value::of(
      values_of(from_behind ? split_by_from_behind(one.text(), by, most) : split_by(one.text(), by, most)));
}
template_value parted(const call& one, bool from_behind) {
  one.takes(1, 1);
  const marked_text &text = one.text(), &by = one.text_at(0);
  if (by.empty())
    one.bad("a text that is not empty");
  const auto at = from_behind ? text.bytes().rfind(by.bytes()) : text.bytes().find(by.bytes());
  if (at == std::string::npos)
    return template_value::tuple_of(from_behind ? values_of({{}, {}, text}) : values_of({text, {}, {}}));
  return template_value::tuple_of(values_of({text.part(0, at), by, text.part(at + by.bytes().size())}));
}

marked_text replaced(const call& one, const marked_text& text, const marked_text& old, const marked_text& fresh,
                     std::int64_t most) {
  if (old.empty())
    one.bad("a text that is not empty");
  return texts_joined(one, values_of(split_by(text, old.bytes(), most)), fresh);
}

template_value found_at(const call& one, bool from_behind) {
  one.takes(1, 1);
  const std::string &text = one.text().bytes(), &what = one.text_at(0).bytes();
  const auto at = from_behind ? text.rfind(what) : text.find(what);
  if (at == std::string::npos)
    return {std::int64_t{-1}};
  return whole_number(unicode::decode(std::string_view{text}.substr(0, at)).size());
}
bool begins_or_ends(const call& one, bool begins) {
  one.takes(1, 1);
  const std::string& text = one.text().bytes();
  const auto does = [&](const template_value& what) {
    if (!what.text())
      one.bad("a text, or a tuple of texts");
    return begins ? text.starts_with(what.text()->bytes()) : text.ends_with(what.text()->bytes());
  };
  if (one.others[0].as<template_value::tuple>())
    return std::ranges::any_of(*one.others[0].list(), does);
  return does(one.others[0]);
}
/// Whether there are characters, and all are of the kind. Of ASCII: what is a digit beyond it, differs from rule to
/// rule.
template <class Is>
template_value all_are(const call& one, Is is) {
  one.takes(0, 0);
  const std::string& text = one.text().bytes();
  if (std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) >= 0x80; }))
    one.bad("a text of ASCII");
  return {!text.empty() && std::ranges::all_of(text, is)};
}
constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
constexpr bool is_alpha(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

const template_word methods[] = {
    {"strip", [](const call& one) { return strip_of(one, text_ends::both); }},
    {"lstrip", [](const call& one) { return strip_of(one, text_ends::front); }},
    {"rstrip", [](const call& one) { return strip_of(one, text_ends::back); }},
    {"split", [](const call& one) { return split_of(one, false); }},
    {"rsplit", [](const call& one) { return split_of(one, true); }},
    {"splitlines",
     [](const call& one) {
       const auto given = one.bind({"keepends"});
       return template_value::of(values_of(lines_of(one.text(), given[0] && given[0]->holds())));
     }},
    {"partition", [](const call& one) { return parted(one, false); }},
    {"rpartition", [](const call& one) { return parted(one, true); }},
    {"startswith", [](const call& one) { return template_value{begins_or_ends(one, true)}; }},
    {"endswith", [](const call& one) { return template_value{begins_or_ends(one, false)}; }},
    {"replace",
     [](const call& one) {
       one.takes(2, 3);
       return text_value(
           replaced(one, one.text(), one.text_at(0), one.text_at(1), one.others.size() > 2 ? one.whole_at(2) : -1));
     }},
    {"upper", method_of<raised>},
    {"lower", method_of<text_lowered>},
    {"capitalize", method_of<capitalised>},
    {"title", method_of<titled>},
    {"find", [](const call& one) { return found_at(one, false); }},
    {"rfind", [](const call& one) { return found_at(one, true); }},
    {"count",
     [](const call& one) {
       one.takes(1, 1);
       if (one.text_at(0).empty())
         one.bad("a text that is not empty");
       return whole_number(split_by(one.text(), one.text_at(0).bytes(), -1).size() - 1);
     }},
    {"join",
     [](const call& one) {
       one.takes(1, 1);
       const auto parts = elements_of(one.others[0], one.with.at);
       if (!parts || std::ranges::any_of(*parts, [](const template_value& each) { return !each.text(); }))
         one.bad("texts to join");
       return text_value(texts_joined(one, *parts, one.text()));
     }},
    {"removeprefix",
     [](const call& one) {
       one.takes(1, 1);
       const std::string& front = one.text_at(0).bytes();
       return text_value(one.text().part(one.text().bytes().starts_with(front) ? front.size() : 0));
     }},
    {"removesuffix",
     [](const call& one) {
       one.takes(1, 1);
       const std::string &text = one.text().bytes(), &back = one.text_at(0).bytes();
       return text_value(one.text().part(0, text.size() - (text.ends_with(back) ? back.size() : 0)));
     }},
    {"isdigit", [](const call& one) { return all_are(one, is_digit); }},
    {"isalpha", [](const call& one) { return all_are(one, is_alpha); }},
    {"isalnum", [](const call& one) { return all_are(one, [](char c) { return is_digit(c) || is_alpha(c); }); }},
    {"isspace",
     [](const call& one) {
       one.takes(0, 0);
       return template_value{!one.text().empty() && without_blanks(one.text().bytes(), true, false).empty()};
     }},
    // What Python has besides, so that a name of these is never taken for a key.
    {"casefold", nullptr},
    {"center", nullptr},
    {"encode", nullptr},
    {"expandtabs", nullptr},
    {"format", nullptr},
    {"format_map", nullptr},
    {"index", nullptr},
    {"isascii", nullptr},
    {"isdecimal", nullptr},
    {"isidentifier", nullptr},
    {"islower", nullptr},
    {"isnumeric", nullptr},
    {"isprintable", nullptr},
    {"istitle", nullptr},
    {"isupper", nullptr},
    {"ljust", nullptr},
    {"maketrans", nullptr},
    {"rindex", nullptr},
    {"rjust", nullptr},
    {"swapcase", nullptr},
    {"translate", nullptr},
    {"zfill", nullptr},
};

} // namespace

std::span<const template_word> text_methods() {
  return methods;
}

marked_text text_lowered(const call& one, const marked_text& text) {
  return changed(one, text, [](std::string& out, code_point c, std::size_t) { unicode::append_lower(out, c); });
}

marked_text texts_joined(const call& one, const value_list& parts, const marked_text& between) {
  marked_text out;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].as<template_value::markup>())
      one.bad("texts that are not marked as safe");
    if (i > 0)
      out += between;
    out += written(parts[i], one.with.at);
  }
  return out;
}

value_list text_reversed(const marked_text& text, template_place at) {
  value_list all = characters(text, at);
  std::ranges::reverse(all);
  return all;
}

template_value filter_trim(const call& one) {
  const auto given = one.bind({"chars"});
  const bool blanks = !given[0] || given[0]->as<template_value::none>();
  if (!blanks && !given[0]->text())
    one.bad("a text as argument");
  return text_value(stripped(one.any_text(), blanks ? nullptr : given[0]->text(), text_ends::both));
}
template_value filter_upper(const call& one) {
  return filter_of<raised>(one);
}
template_value filter_lower(const call& one) {
  return filter_of<text_lowered>(one);
}
template_value filter_capitalize(const call& one) {
  return filter_of<capitalised>(one);
}
template_value filter_title(const call& one) {
  return filter_of<words_titled>(one);
}

template_value filter_replace(const call& one) {
  const auto given = one.bind({"old", "new", "count"});
  if (!given[0] || !given[1] || !given[0]->text() || !given[1]->text() ||
      (given[2] && !given[2]->as<std::int64_t>() && !given[2]->as<template_value::none>()))
    one.bad("two texts, and how many to replace");
  const auto* most = given[2] ? given[2]->as<std::int64_t>() : nullptr;
  return text_value(replaced(one, one.any_text(), *given[0]->text(), *given[1]->text(), most ? *most : -1));
}

template_value filter_indent(const call& one) {
  const auto given = one.bind({"width", "first", "blank"});
  const bool first = given[1] && given[1]->holds(), blank = given[2] && given[2]->holds();
  marked_text step = marked_text::of_template("    ");
  if (given[0] && given[0]->text())
    step = *given[0]->text();
  else if (given[0] && given[0]->as<std::int64_t>())
    step = marked_text::of_template(
        std::string(static_cast<std::size_t>(std::clamp<std::int64_t>(*given[0]->as<std::int64_t>(), 0, 1000)), ' '));
  else if (given[0])
    one.bad("a width, or a text");
  const auto line_end = marked_text::of_template("\n");
  marked_text out = first ? step : marked_text{};
  const auto lines = lines_of(one.text() + line_end, false);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0)
      out += line_end;
    if (i > 0 && (blank || !lines[i].empty()))
      out += step;
    out += lines[i];
  }
  return text_value(std::move(out));
}

template_value filter_escape(const call& one) {
  one.takes(0, 0);
  if (one.of.as<template_value::markup>())
    return one.of;
  const marked_text text = one.any_text();
  marked_text out;
  constexpr std::string_view special = "&<>'\"";
  constexpr std::string_view meant[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
  for (std::size_t i = 0; i < text.bytes().size(); ++i) {
    const auto at = special.find(text.bytes()[i]);
    out += at == std::string_view::npos ? text.part(i, 1) : marked_text::marked_as(meant[at], text, i);
  }
  return {template_value::markup{std::make_shared<const marked_text>(std::move(out))}};
}

} // namespace troupe::gpu::models
