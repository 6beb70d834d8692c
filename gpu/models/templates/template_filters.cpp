#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "gpu/models/templates/template_call.hpp"
#include "gpu/models/tokenizers/tokenizer_unicode.hpp"

/// Jinja's filters of lists, maps and numbers; those of texts stand with the words of texts.
namespace troupe::gpu::models {
namespace {

using call = template_call;

template_value length_of(const call& one) {
  one.takes(0, 0);
  if (one.of.map())
    return whole_number(one.of.map()->size());
  if (one.of.text())
    return whole_number(unicode::decode(one.of.text()->bytes()).size());
  if (const auto* series = one.of.as<template_value::series>(); series && series->once)
    one.bad("a list, a text or a map");
  return whole_number(one.elements().size());
}

template_value otherwise(const call& one) {
  const auto given = one.bind({"default_value", "boolean"});
  const bool empty_too = given[1] && given[1]->holds();
  if (one.of.defined() && !(empty_too && !one.of.holds()))
    return one.of;
  return given[0] ? *given[0] : template_value::of("");
}

template_value end_of(const call& one, bool front) {
  one.takes(0, 0);
  if (const auto* series = one.of.as<template_value::series>(); series && series->once) {
    if (!front)
      one.bad("a list or a text");
    auto& from = *series->from;
    if (from.next < from.box.all.size())
      return from.box.all[from.next++];
    return {template_value::undefined{"the first of nothing"}};
  }
  const value_list all = one.elements();
  if (all.empty())
    return {template_value::undefined{"the first or last of nothing"}};
  return front ? all.front() : all.back();
}

/// The value behind a dotted name, as Jinja's filters look it up.
template_value behind(const call& one, const template_value& of, const template_value& path) {
  if (!path.text())
    one.bad("an attribute's name");
  template_value at = of;
  std::string_view rest = path.text()->bytes();
  for (bool more = true; more;) {
    const auto end = rest.find('.');
    const std::string name{rest.substr(0, end)};
    more = end != std::string_view::npos;
    rest.remove_prefix(more ? end + 1 : rest.size());
    if (!at.map() || has_method(at, name) || name.empty() ||
        std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; }))
      one.refuse(fmt::format("the attribute {} of {}", name, kind_of(at)), "a key of a map");
    const template_value* found = find(*at.map(), name);
    if (!found && more)
      one.refuse(fmt::format("what is behind {}, which is undefined", name), "a key that is there");
    at = found ? *found : template_value{template_value::undefined{name}};
  }
  return at;
}
value_list all_behind(const call& one, const template_value* path) {
  value_list out = one.elements();
  if (path && !path->as<template_value::none>())
    for (template_value& each : out)
      each = behind(one, each, *path);
  return out;
}

template_value join(const call& one) {
  const auto given = one.bind({"d", "attribute"});
  return text_value(
      texts_joined(one, all_behind(one, given[1]), given[0] ? written(*given[0], one.with.at) : marked_text{}));
}

template_value items(const call& one) {
  one.takes(0, 0);
  if (!one.of.defined())
    return template_value::series_of({}, true);
  const auto* map = one.of.as<template_value::map_box>();
  if (!map)
    one.bad("a map");
  return template_value::series_of(pairs_of(*map), true);
}

template_value safe(const call& one) {
  one.takes(0, 0);
  if (one.of.as<template_value::markup>())
    return one.of;
  return {template_value::markup{std::make_shared<const marked_text>(written(one.of, one.with.at))}};
}

template_value to_json(const call& one) {
  const auto given = one.bind({"ensure_ascii", "indent", "separators", "sort_keys"});
  json_style how;
  how.ensure_ascii = given[0] && given[0]->holds();
  how.sort_keys = given[3] && given[3]->holds();
  if (given[1] && given[1]->as<std::int64_t>() && *given[1]->as<std::int64_t>() <= 100)
    how.indent = std::string(static_cast<std::size_t>(std::max<std::int64_t>(*given[1]->as<std::int64_t>(), 0)), ' ');
  else if (given[1] && given[1]->text())
    how.indent = given[1]->text()->bytes();
  else if (given[1] && !given[1]->as<template_value::none>())
    one.bad("an indent of up to 100 blanks, or a text");
  how.between = how.indent ? "," : ", ";
  if (given[2] && !given[2]->as<template_value::none>()) {
    const auto* pair = given[2]->list();
    if (!pair || pair->size() != 2 || !pair->front().text() || !pair->back().text())
      one.bad("two separators");
    how.between = pair->front().text()->bytes();
    how.behind_key = pair->back().text()->bytes();
  }
  return text_value(json_of(one.of, how, one.with.at));
}

// lists

/// The arguments behind the first `first`, for a word that is itself an argument.
template_arguments rest_of(const call& one, const template_value& of, std::size_t first) {
  template_arguments out{one.with.at, {of}, {}, one.with.now};
  for (std::size_t i = first; i < one.others.size(); ++i)
    out.given.push_back(one.others[i]);
  return out;
}

template_value mapped(const call& one) {
  value_list out = one.elements();
  if (one.others.empty()) {
    const auto given = one.bind({"attribute", "default"});
    for (template_value& each : out) {
      each = given[0] ? behind(one, each, *given[0]) : each;
      if (!given[0])
        one.bad("a filter, or an attribute's name");
      if (given[1] && !each.defined())
        each = *given[1];
    }
    return template_value::series_of(std::move(out), true);
  }
  if (!one.with.named.empty())
    one.bad("a filter and its arguments without names");
  for (template_value& each : out)
    each = apply_filter(one.text_at(0).bytes(), rest_of(one, each, 1));
  return template_value::series_of(std::move(out), true);
}

template_value selected(const call& one, bool by_attribute, bool kept) {
  if (!one.with.named.empty() || (by_attribute && one.others.empty()))
    one.bad(by_attribute ? "an attribute's name, a test and its arguments" : "a test and its arguments");
  const std::size_t test = by_attribute ? 1 : 0;
  value_list out;
  for (template_value& each : one.elements()) {
    const template_value judged = by_attribute ? behind(one, each, one.others[0]) : each;
    const bool holds = one.others.size() > test ? apply_test(one.text_at(test).bytes(), rest_of(one, judged, test + 1))
                                                : judged.holds();
    if (holds == kept)
      out.push_back(std::move(each));
  }
  return template_value::series_of(std::move(out), true);
}

/// As Jinja compares by default: texts without regard to case.
template_value folded(const call& one, const template_value& value, bool case_sensitive) {
  return value.text() && !case_sensitive ? text_value(text_lowered(one, *value.text())) : value;
}

struct keyed {
  template_value key;
  template_value value;
};
value_list ordered(const call& one, std::vector<keyed> all, bool reverse) {
  const auto before = [&](const keyed& a, const keyed& b) {
    return (reverse ? order_of(b.key, a.key, one.with.at) : order_of(a.key, b.key, one.with.at)) < 0;
  };
  std::ranges::stable_sort(all, before);
  value_list out;
  for (keyed& each : all)
    out.push_back(std::move(each.value));
  return out;
}

template_value sorted(const call& one) {
  const auto given = one.bind({"reverse", "case_sensitive", "attribute"});
  std::vector<keyed> all;
  for (const template_value& each : one.elements()) {
    const bool by = given[2] && !given[2]->as<template_value::none>();
    all.push_back({folded(one, by ? behind(one, each, *given[2]) : each, given[1] && given[1]->holds()), each});
  }
  return template_value::of(ordered(one, std::move(all), given[0] && given[0]->holds()));
}

template_value map_sorted(const call& one) {
  const auto given = one.bind({"case_sensitive", "by", "reverse"});
  const auto* map = one.of.as<template_value::map_box>();
  const bool by_value = given[1] && given[1]->text() && given[1]->text()->bytes() == "value";
  if (!map || (given[1] && !by_value && !(given[1]->text() && given[1]->text()->bytes() == "key")))
    one.bad("a map, by \"key\" or \"value\"");
  std::vector<keyed> all;
  for (const template_value& pair : pairs_of(*map))
    all.push_back({folded(one, (*pair.list())[by_value ? 1 : 0], given[0] && given[0]->holds()), pair});
  return template_value::of(ordered(one, std::move(all), given[2] && given[2]->holds()));
}

template_value unique(const call& one) {
  const auto given = one.bind({"case_sensitive", "attribute"});
  const value_list all = one.elements();
  constexpr std::size_t most = 1000; // each is compared with all before
  if (all.size() > most)
    one.bad(fmt::format("at most {} elements", most));
  value_list out, seen;
  for (const template_value& each : all) {
    const bool by = given[1] && !given[1]->as<template_value::none>();
    const template_value key = folded(one, by ? behind(one, each, *given[1]) : each, given[0] && given[0]->holds());
    if (key.list() || key.map())
      one.bad("texts and numbers");
    if (std::ranges::any_of(seen, [&](const template_value& before) { return equal(before, key); }))
      continue;
    seen.push_back(key);
    out.push_back(each);
  }
  return template_value::series_of(std::move(out), true);
}

template_value reversed(const call& one) {
  one.takes(0, 0);
  if (one.of.text()) {
    marked_text out;
    for (const template_value& each : text_reversed(*one.of.text(), one.with.at))
      out += *each.text();
    return text_value(std::move(out));
  }
  value_list all = one.elements();
  std::ranges::reverse(all);
  const auto* series = one.of.as<template_value::series>();
  return series && series->once ? template_value::of(std::move(all)) : template_value::series_of(std::move(all), true);
}

template_value extreme(const call& one, bool most) {
  const auto given = one.bind({"case_sensitive", "attribute"});
  const value_list all = one.elements();
  const template_value* best = nullptr;
  template_value best_key;
  for (const template_value& each : all) {
    const bool by = given[1] && !given[1]->as<template_value::none>();
    template_value key = folded(one, by ? behind(one, each, *given[1]) : each, given[0] && given[0]->holds());
    const int order = best ? order_of(key, best_key, one.with.at) : 0;
    if (best && (most ? order <= 0 : order >= 0))
      continue;
    best = &each;
    best_key = std::move(key);
  }
  return best ? *best : template_value{template_value::undefined{"the extreme of nothing"}};
}

template_value summed(const call& one) {
  const auto given = one.bind({"attribute", "start"});
  std::int64_t sum = 0;
  constexpr std::int64_t largest = 1'000'000'000'000;
  const auto add = [&](const template_value& value) {
    if (!value.whole() || std::abs(*value.whole()) > largest)
      one.bad("whole numbers");
    sum += *value.whole();
  };
  if (given[1])
    add(*given[1]);
  for (const template_value& each : all_behind(one, given[0]))
    add(each);
  return {sum};
}

// numbers

/// A text of a number in the plainest form; nothing where it is surely none.
std::optional<double> number_in(const call& one, const marked_text& text) {
  const std::string_view all = without_blanks(text.bytes(), true, true);
  const bool could = std::ranges::any_of(
                         all, [](char c) { return (c >= '0' && c <= '9') || static_cast<unsigned char>(c) >= 0x80; }) ||
                     all.find_first_of("nN") != std::string_view::npos; // "nan", "inf"
  if (!could)
    return std::nullopt;
  std::string_view digits = all;
  if (digits.starts_with('-') || digits.starts_with('+'))
    digits.remove_prefix(1);
  double value = 0;
  const bool plain = digits.size() <= 15 && digits.find_first_not_of("0123456789.") == std::string_view::npos &&
                     std::ranges::count(digits, '.') <= 1 && digits.find_first_of("0123456789") == 0;
  if (!plain)
    one.bad("a text of a plain decimal number, or of no number");
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return all.starts_with('-') ? -value : value;
}
std::optional<double> as_number(const call& one) {
  if (one.of.text())
    return number_in(one, *one.of.text());
  return one.of.number();
}
template_value to_whole(const call& one) {
  const auto given = one.bind({"default"});
  if (one.of.whole())
    return {*one.of.whole()};
  const auto value = as_number(one);
  if (!value)
    return given[0] ? *given[0] : template_value{std::int64_t{0}};
  constexpr double largest = 1e15;
  if (!(std::abs(*value) < largest))
    one.bad("a number of at most 15 digits");
  return {static_cast<std::int64_t>(std::trunc(*value))};
}
template_value to_fraction(const call& one) {
  const auto given = one.bind({"default"});
  const auto value = as_number(one);
  return value ? template_value{*value} : given[0] ? *given[0] : template_value{0.0};
}
template_value absolute(const call& one) {
  one.takes(0, 0);
  if (one.of.whole())
    return {std::abs(*one.of.whole())};
  if (!one.of.number())
    one.bad("a number");
  return {std::abs(*one.of.number())};
}

const template_word filters[] = {
    {"trim", filter_trim},
    {"length", length_of},
    {"count", length_of},
    {"string",
     [](const call& one) {
       one.takes(0, 0);
       return one.of.as<template_value::markup>() ? one.of : text_value(written(one.of, one.with.at));
     }},
    {"upper", filter_upper},
    {"lower", filter_lower},
    {"capitalize", filter_capitalize},
    {"title", filter_title},
    {"replace", filter_replace},
    {"indent", filter_indent},
    {"escape", filter_escape},
    {"e", filter_escape},
    {"safe", safe},
    {"tojson", to_json},
    {"default", otherwise},
    {"d", otherwise},
    {"first", [](const call& one) { return end_of(one, true); }},
    {"last", [](const call& one) { return end_of(one, false); }},
    {"list",
     [](const call& one) {
       one.takes(0, 0);
       return template_value::of(one.elements());
     }},
    {"join", join},
    {"items", items},
    {"map", mapped},
    {"select", [](const call& one) { return selected(one, false, true); }},
    {"reject", [](const call& one) { return selected(one, false, false); }},
    {"selectattr", [](const call& one) { return selected(one, true, true); }},
    {"rejectattr", [](const call& one) { return selected(one, true, false); }},
    {"sort", sorted},
    {"dictsort", map_sorted},
    {"unique", unique},
    {"reverse", reversed},
    {"min", [](const call& one) { return extreme(one, false); }},
    {"max", [](const call& one) { return extreme(one, true); }},
    {"sum", summed},
    {"int", to_whole},
    {"float", to_fraction},
    {"abs", absolute},
};

} // namespace

std::span<const template_word> template_filters() {
  return filters;
}

value_list pairs_of(const template_value::map_box& map) {
  value_list out;
  for (const auto& [key, value] : map.box->all)
    out.push_back(template_value::tuple_of(value_list{template_value::key_of(map, key), value}));
  return out;
}

} // namespace troupe::gpu::models
