#include <fmt/format.h>

#include <algorithm>

#include "gpu/models/templates/template_call.hpp"
#include "gpu/models/tokenizers/tokenizer_unicode.hpp"

namespace troupe::gpu::models {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}
char upper(char c) {
  return c >= 'a' && c <= 'z' ? static_cast<char>(c - ('a' - 'A')) : c;
}

} // namespace

void template_call::refuse(std::string_view what, std::string_view valid) const {
  throw template_problem(with.at, fmt::format("{}; understood is {}", what, valid));
}

void template_call::bad(std::string_view valid) const {
  refuse(fmt::format("{} of {} with {} more", word, kind_of(of), others.size() + with.named.size()), valid);
}

const marked_text& template_call::text() const {
  if (!of.text())
    bad("a text");
  return *of.text();
}

const marked_text& template_call::text_at(std::size_t index) const {
  if (index >= others.size() || !others[index].text())
    bad("a text as argument");
  return *others[index].text();
}

void template_call::takes(std::size_t least, std::size_t most) const {
  if (others.size() < least || others.size() > most || !with.named.empty())
    bad(fmt::format("{} to {} arguments without names", least, most));
}

marked_text stripped(const template_call& one, const marked_text& text, text_ends which) {
  one.takes(0, 1);
  const bool front = which != text_ends::back, back = which != text_ends::front;
  if (one.others.empty() || one.others[0].as<template_value::none>()) {
    const std::string_view kept = without_blanks(text.bytes(), front, back);
    return text.part(static_cast<std::size_t>(kept.data() - text.bytes().data()), kept.size());
  }
  const auto unwanted = unicode::decode(one.text_at(0).bytes());
  const auto goes = [&](unicode::code_point c) { return std::ranges::find(unwanted, c) != unwanted.end(); };
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

marked_text cased(const template_call& one, letter_case to) {
  const marked_text& text = one.text();
  one.takes(0, 0);
  marked_text out;
  for (std::size_t at = 0; at < text.bytes().size(); ++at) {
    const char c = text.bytes()[at];
    if (static_cast<unsigned char>(c) >= 0x80)
      one.bad("a text of ASCII");
    const bool raised = to == letter_case::upper || (to == letter_case::capital && at == 0);
    const char changed = raised ? upper(c) : lower(c);
    out += text.of_user(at) ? marked_text::of_user({&changed, 1}) : marked_text::of_template({&changed, 1});
  }
  return out;
}

value_list split(const template_call& one) {
  one.takes(1, 1);
  const marked_text &text = one.text(), &by = one.text_at(0);
  if (by.empty())
    one.bad("a text that is not empty");
  value_list out;
  std::size_t from = 0;
  for (std::size_t at; (at = text.bytes().find(by.bytes(), from)) != std::string::npos; from = at + by.bytes().size())
    out.push_back(text_value(text.part(from, at - from)));
  out.push_back(text_value(text.part(from)));
  return out;
}

marked_text replaced(const template_call& one) {
  const marked_text& text = one.text();
  one.takes(2, 2);
  const marked_text &old = one.text_at(0), &fresh = one.text_at(1);
  if (old.empty())
    one.bad("a text that is not empty");
  marked_text out;
  std::size_t from = 0;
  for (std::size_t at; (at = text.bytes().find(old.bytes(), from)) != std::string::npos;
       from = at + old.bytes().size()) {
    out += text.part(from, at - from);
    out += fresh;
  }
  out += text.part(from);
  return out;
}

} // namespace troupe::gpu::models
