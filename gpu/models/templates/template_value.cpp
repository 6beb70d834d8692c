#include "gpu/models/templates/template_value.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "gpu/models/tokenizers/tokenizer_unicode.hpp"

namespace troupe::gpu::models {

marked_text& marked_text::operator+=(const marked_text& other) {
  bytes_ += other.bytes_;
  users_ += other.users_;
  return *this;
}

marked_text marked_text::part(std::size_t from, std::size_t length) const {
  marked_text out;
  out.bytes_ = bytes_.substr(from, length);
  out.users_ = users_.substr(from, length);
  return out;
}

std::string_view without_blanks(std::string_view text, bool front, bool back) {
  const auto is_blank = [](unicode::code_point c) { return unicode::is_space(c) || (c >= 0x1C && c <= 0x1F); };
  while (front && !text.empty()) { // no further than the white space goes: a template is read token by token
    const unicode::utf8_front first = unicode::front_of(text);
    if (first.is != unicode::utf8_front::kind::whole || !is_blank(first.value))
      break;
    text.remove_prefix(first.length);
  }
  if (!back)
    return text;
  const std::vector<unicode::code_point> points = unicode::decode(text);
  for (std::size_t i = points.size(); i > 0 && is_blank(points[i - 1]); --i)
    text.remove_suffix(unicode::utf8_bytes(points[i - 1]));
  return text;
}

bool template_value::holds() const {
  struct truth {
    bool operator()(const undefined&) const { return false; }
    bool operator()(const none&) const { return false; }
    bool operator()(bool value) const { return value; }
    bool operator()(std::int64_t value) const { return value != 0; }
    bool operator()(const marked_text& value) const { return !value.empty(); }
    bool operator()(const std::shared_ptr<const value_list>& value) const { return !value->empty(); }
    bool operator()(const std::shared_ptr<const value_map>& value) const { return !value->empty(); }
    bool operator()(const space&) const { return true; }
    bool operator()(const method&) const { return true; }
    bool operator()(const function&) const { return true; }
  };
  return std::visit(truth{}, is);
}

namespace {

const std::int64_t* number_of(const template_value& value, std::int64_t& room) {
  if (const bool* flag = value.as<bool>()) {
    room = *flag ? 1 : 0;
    return &room;
  }
  return value.as<std::int64_t>();
}

bool equal_maps(const value_map& a, const value_map& b) {
  return a.size() == b.size() && std::ranges::all_of(a, [&](const auto& each) {
           const template_value* other = find(b, each.first);
           return other && equal(each.second, *other);
         });
}

} // namespace

bool equal(const template_value& a, const template_value& b) {
  std::int64_t room_a = 0, room_b = 0;
  const std::int64_t *number_a = number_of(a, room_a), *number_b = number_of(b, room_b);
  if (number_a && number_b)
    return *number_a == *number_b;
  if (a.is.index() != b.is.index())
    return false;
  if (a.text())
    return *a.text() == *b.text();
  if (a.list())
    return std::ranges::equal(*a.list(), *b.list(), equal);
  if (a.map())
    return equal_maps(*a.map(), *b.map());
  return !a.defined() || a.as<template_value::none>();
}

const template_value* find(const value_map& values, std::string_view key) {
  const auto at = std::ranges::find_if(values, [&](const auto& each) { return each.first == key; });
  return at == values.end() ? nullptr : &at->second;
}

bool contains(const template_value& all, const template_value& one, template_place at) {
  if (!all.defined())
    return false;
  if (all.list())
    return std::ranges::any_of(*all.list(), [&](const template_value& each) { return equal(each, one); });
  if (all.map() && one.text())
    return find(*all.map(), one.text()->bytes());
  if (all.text() && one.text())
    return all.text()->bytes().find(one.text()->bytes()) != std::string::npos;
  throw template_problem(at, fmt::format("whether {} is in {}", kind_of(one), kind_of(all)));
}

marked_text written(const template_value& value, template_place at) {
  if (value.text())
    return *value.text();
  if (const auto* number = value.as<std::int64_t>())
    return marked_text::of_template(std::to_string(*number));
  if (const bool* flag = value.as<bool>())
    return marked_text::of_template(*flag ? "True" : "False");
  if (value.as<template_value::none>())
    return marked_text::of_template("None");
  if (!value.defined())
    return {};
  throw template_problem(at, fmt::format("{} written out; understood are texts and whole numbers", kind_of(value)));
}

std::string_view kind_of(const template_value& value) {
  constexpr std::array<std::string_view, 10> names{"nothing defined", "none",      "true or false", "a whole number",
                                                   "a text",          "a list",    "a map",         "a namespace",
                                                   "a method",        "a function"};
  return names.at(value.is.index());
}

std::vector<std::size_t> character_bounds(std::string_view text) {
  std::vector<std::size_t> out{0};
  for (const unicode::code_point each : unicode::decode(text))
    out.push_back(out.back() + unicode::utf8_bytes(each));
  return out;
}

value_list characters(const marked_text& text, template_place at) {
  constexpr std::size_t bytes_max = std::size_t{4} << 20; // each character takes a hundred bytes
  if (text.bytes().size() > bytes_max)
    throw template_problem(at, "the single characters of a text of more than 4 MiB");
  const auto bounds = character_bounds(text.bytes());
  value_list out;
  for (std::size_t i = 0; i + 1 < bounds.size(); ++i)
    out.push_back({text.part(bounds[i], bounds[i + 1] - bounds[i])});
  return out;
}

} // namespace troupe::gpu::models
