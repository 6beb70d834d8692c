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

namespace {

unsigned depth_of(const value_list& all) {
  unsigned out = 0;
  for (const template_value& each : all)
    out = std::max(out, each.depth());
  return out + 1;
}
bool space_in(const value_list& all) {
  return std::ranges::any_of(all, [](const template_value& each) { return each.has_space(); });
}
value_box<value_list> boxed(value_list all) {
  const unsigned depth = depth_of(all);
  const bool has_space = space_in(all);
  return {std::move(all), depth, has_space};
}
template_value::list_box shared(value_list all) {
  return std::make_shared<const value_box<value_list>>(boxed(std::move(all)));
}

} // namespace

template_value template_value::of(value_list values) {
  return {shared(std::move(values))};
}
template_value template_value::tuple_of(value_list values) {
  return {tuple{shared(std::move(values))}};
}
template_value template_value::series_of(value_list values, bool once) {
  return {series{std::make_shared<series::state>(series::state{boxed(std::move(values)), 0}), once}};
}
template_value template_value::of(value_map values, bool of_user) {
  unsigned depth = 0;
  bool has_space = false;
  for (const auto& each : values) {
    depth = std::max(depth, each.second.depth());
    has_space = has_space || each.second.has_space();
  }
  return {map_box{
      std::make_shared<const value_box<value_map>>(value_box<value_map>{std::move(values), depth + 1, has_space}),
      of_user}};
}
template_value template_value::key_of(const map_box& map, const std::string& key) {
  return of(map.of_user ? marked_text::of_user(key) : marked_text::of_template(key));
}

unsigned template_value::depth() const noexcept {
  if (const auto* all = list_of())
    return (*all)->depth;
  if (const auto* all = as<map_box>())
    return all->box->depth;
  if (const auto* all = as<series>())
    return all->from->box.depth;
  if (const auto* of_loop = as<round>())
    return of_loop->all->depth;
  if (const auto* bound = as<method>())
    return bound->of->depth() + 1;
  return 1;
}
bool template_value::has_space() const noexcept {
  if (const auto* all = list_of())
    return (*all)->has_space;
  if (const auto* all = as<map_box>())
    return all->box->has_space;
  if (const auto* all = as<series>())
    return all->from->box.has_space;
  if (const auto* of_loop = as<round>())
    return of_loop->all->has_space;
  if (const auto* bound = as<method>())
    return bound->of->has_space();
  return as<space>() != nullptr;
}

std::optional<std::int64_t> template_value::whole() const noexcept {
  if (const bool* flag = as<bool>())
    return *flag ? 1 : 0;
  const auto* value = as<std::int64_t>();
  return value ? std::optional{*value} : std::nullopt;
}
std::optional<double> template_value::number() const noexcept {
  if (const double* value = as<double>())
    return *value;
  const auto value = whole();
  return value ? std::optional{static_cast<double>(*value)} : std::nullopt;
}

bool template_value::holds() const {
  struct truth {
    bool operator()(const undefined&) const { return false; }
    bool operator()(const none&) const { return false; }
    bool operator()(bool value) const { return value; }
    bool operator()(std::int64_t value) const { return value != 0; }
    bool operator()(double value) const { return value < 0 || value > 0; }
    bool operator()(const text_box& value) const { return !value->empty(); }
    bool operator()(const list_box& value) const { return !value->all.empty(); }
    bool operator()(const map_box& value) const { return !value.box->all.empty(); }
    bool operator()(const tuple& value) const { return !value.box->all.empty(); }
    bool operator()(const series& value) const { return value.once || !value.from->box.all.empty(); }
    bool operator()(const markup& value) const { return !value.text->empty(); }
    bool operator()(const space&) const { return true; }
    bool operator()(const round&) const { return true; }
    bool operator()(const method&) const { return true; }
    bool operator()(const function&) const { return true; }
    bool operator()(const macro&) const { return true; }
  };
  return std::visit(truth{}, is);
}

namespace {

bool equal_maps(const value_map& a, const value_map& b) {
  return a.size() == b.size() && std::ranges::all_of(a, [&](const auto& each) {
           const template_value* other = find(b, each.first);
           return other && equal(each.second, *other);
         });
}

const marked_text* text_or_markup(const template_value& value) {
  const auto* safe = value.as<template_value::markup>();
  return safe ? safe->text.get() : value.text();
}

/// Whole numbers of 64 bits and fractions fit into it without a loss.
long double exact(const template_value& value) {
  const auto whole = value.whole();
  return whole ? static_cast<long double>(*whole) : static_cast<long double>(*value.number());
}

} // namespace

bool equal(const template_value& a, const template_value& b) {
  if (a.number() && b.number())
    return !(exact(a) < exact(b)) && !(exact(b) < exact(a));
  if (text_or_markup(a) && text_or_markup(b))
    return *text_or_markup(a) == *text_or_markup(b);
  if (a.is.index() != b.is.index())
    return false;
  if (a.list())
    return std::ranges::equal(*a.list(), *b.list(), equal);
  if (a.map())
    return equal_maps(*a.map(), *b.map());
  if (a.as<template_value::series>())
    return a.as<template_value::series>()->from == b.as<template_value::series>()->from;
  if (a.as<template_value::space>())
    return a.as<template_value::space>()->names == b.as<template_value::space>()->names;
  return !a.defined() || a.as<template_value::none>();
}

int order_of(const template_value& left, const template_value& right, template_place at) {
  if (left.number() && right.number())
    return exact(left) < exact(right) ? -1 : exact(right) < exact(left) ? 1 : 0;
  if (!left.text() || !right.text())
    throw template_problem(at, fmt::format("{} ordered with {}", kind_of(left), kind_of(right)));
  return left.text()->bytes().compare(right.text()->bytes()); // UTF-8 keeps the order of characters
}

const template_value* find(const value_map& values, std::string_view key) {
  const auto at = std::ranges::find_if(values, [&](const auto& each) { return each.first == key; });
  return at == values.end() ? nullptr : &at->second;
}

std::optional<value_list> elements_of(const template_value& value, template_place at) {
  if (value.list())
    return *value.list();
  if (value.text())
    return characters(*value.text(), at);
  if (const auto* map = value.as<template_value::map_box>()) {
    value_list keys;
    for (const auto& each : map->box->all)
      keys.push_back(template_value::key_of(*map, each.first));
    return keys;
  }
  if (const auto* series = value.as<template_value::series>()) {
    const auto from = static_cast<std::ptrdiff_t>(series->from->next);
    if (series->once)
      series->from->next = series->from->box.all.size();
    return value_list(series->from->box.all.begin() + from, series->from->box.all.end());
  }
  return value.defined() ? std::nullopt : std::optional{value_list{}};
}

bool contains(const template_value& all, const template_value& one, template_place at) {
  if (!all.defined())
    return false;
  if (const auto* series = all.as<template_value::series>()) {
    auto& from = *series->from;
    std::size_t next = from.next;
    bool found = false;
    while (!found && next < from.box.all.size())
      found = equal(from.box.all[next++], one);
    from.next = series->once ? next : from.next;
    return found;
  }
  if (all.list())
    return std::ranges::any_of(*all.list(), [&](const template_value& each) { return equal(each, one); });
  if (all.map() && one.text())
    return find(*all.map(), one.text()->bytes());
  if (all.map() && (one.number() || one.as<template_value::none>() || !one.defined()))
    return false; // no key of a map here is one
  if (all.text() && one.text())
    return all.text()->bytes().find(one.text()->bytes()) != std::string::npos;
  throw template_problem(at, fmt::format("whether {} is in {}", kind_of(one), kind_of(all)));
}

std::string_view kind_of(const template_value& value) {
  constexpr std::array<std::string_view, 16> names{"nothing defined",
                                                   "none",
                                                   "true or false",
                                                   "a whole number",
                                                   "a fraction",
                                                   "a text",
                                                   "a list",
                                                   "a map",
                                                   "a tuple",
                                                   "a series",
                                                   "a safe text",
                                                   "a namespace",
                                                   "the names of a loop",
                                                   "a method",
                                                   "a function",
                                                   "a macro"};
  static_assert(std::variant_size_v<decltype(value.is)> == names.size());
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
    out.push_back(template_value::of(text.part(bounds[i], bounds[i + 1] - bounds[i])));
  return out;
}

} // namespace troupe::gpu::models
