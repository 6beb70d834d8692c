#include "gpu/models/templates/template_operations.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

namespace troupe::gpu::models {
namespace {

constexpr std::size_t elements_max = 100'000;

[[noreturn]] void refuse(template_place at, const std::string& what) {
  throw template_problem(at, what);
}

/// The elements that a slice names, as Python counts them.
struct slice_bounds {
  std::int64_t first, last, step;
};
slice_bounds bounds_of(std::int64_t length, std::optional<std::int64_t> from, std::optional<std::int64_t> to,
                       std::int64_t step) {
  const auto within = [&](std::int64_t at) {
    at += at < 0 ? length : 0;
    return std::clamp(at, std::int64_t{step < 0 ? -1 : 0}, step < 0 ? length - 1 : length);
  };
  const std::int64_t first = step < 0 ? length - 1 : 0, last = step < 0 ? -1 : length;
  return {from ? within(*from) : first, to ? within(*to) : last, step};
}

std::int64_t length_of(const template_value& of) {
  return static_cast<std::int64_t>(of.list() ? of.list()->size() : character_bounds(of.text()->bytes()).size() - 1);
}
/// Of a list or a text; one element as it is, or as a list of one.
template_value taken(const template_value& of, slice_bounds which, bool as_list) {
  if (of.list() && !as_list)
    return (*of.list())[static_cast<std::size_t>(which.first)];
  const auto bounds = of.list() ? std::vector<std::size_t>{} : character_bounds(of.text()->bytes());
  value_list parts;
  marked_text text;
  for (std::int64_t i = which.first; which.step > 0 ? i < which.last : i > which.last; i += which.step) {
    const auto at = static_cast<std::size_t>(i);
    if (of.list())
      parts.push_back((*of.list())[at]);
    else
      text += of.text()->part(bounds[at], bounds[at + 1] - bounds[at]);
  }
  if (of.as<template_value::tuple>())
    return template_value::tuple_of(std::move(parts));
  return of.list() ? template_value::of(std::move(parts)) : template_value::of(std::move(text));
}

template_value whole_computed(std::int64_t a, const std::string& sign, std::int64_t b, template_place at) {
  constexpr std::int64_t largest = 1'000'000'000;
  if (std::max(std::abs(a), std::abs(b)) > largest || sign == "**")
    refuse(at, fmt::format("{} {} {}; understood are whole numbers up to {} and no powers", a, sign, b, largest));
  if (sign == "+" || sign == "-")
    return {sign == "+" ? a + b : a - b};
  if (sign == "*")
    return {a * b};
  if (b == 0)
    refuse(at, "a division by 0");
  const std::int64_t rest = ((a % b) + b) % b; // Python's: of the divisor's sign
  return {sign == "%" ? rest : (a - rest) / b};
}
template_value added(const template_value& left, const template_value& right, template_place at) {
  if (left.list()->size() + right.list()->size() > elements_max)
    refuse(at, fmt::format("a list of more than {} elements", elements_max));
  value_list all = *left.list();
  all.insert(all.end(), right.list()->begin(), right.list()->end());
  return left.as<template_value::tuple>() ? template_value::tuple_of(std::move(all))
                                          : template_value::of(std::move(all));
}

template_value repeated(const template_value& text, std::int64_t times, template_place at) {
  const std::size_t bytes = text.text()->bytes().size();
  if (times > 0 && bytes > template_text_bytes_max / static_cast<std::size_t>(times))
    refuse(at, fmt::format("a text of more than {} bytes", template_text_bytes_max));
  marked_text out;
  for (std::int64_t i = 0; bytes > 0 && i < times; ++i)
    out += *text.text();
  return template_value::of(std::move(out));
}

} // namespace

template_value computed(const template_value& left, const std::string& sign, const template_value& right,
                        template_place at) {
  if (sign == "*" && left.text() && right.whole())
    return repeated(left, *right.whole(), at);
  if (sign == "*" && right.text() && left.whole())
    return repeated(right, *left.whole(), at);
  if (sign == "+" && left.text() && right.text())
    return template_value::of(*left.text() + *right.text());
  if (sign == "+" && left.list() && right.list() && left.is.index() == right.is.index())
    return added(left, right, at);
  if (left.whole() && right.whole() && sign != "/")
    return whole_computed(*left.whole(), sign, *right.whole(), at);
  if (!left.number() || !right.number() || sign == "//" || sign == "%" || sign == "**")
    refuse(at, fmt::format("{} {} {}", kind_of(left), sign, kind_of(right)));
  const double a = *left.number(), b = *right.number();
  if (sign == "/" && !(b < 0 || b > 0))
    refuse(at, "a division by 0");
  return {sign == "+" ? a + b : sign == "-" ? a - b : sign == "*" ? a * b : a / b};
}

template_value element_of(const template_value& of, std::int64_t index) {
  const std::int64_t length = length_of(of);
  const std::int64_t from_front = index + (index < 0 ? length : 0);
  if (from_front < 0 || from_front >= length)
    return {template_value::undefined{fmt::format("element {}", index)}};
  return taken(of, {from_front, from_front + 1, 1}, false);
}

template_value slice_of(const template_value& of, std::optional<std::int64_t> from, std::optional<std::int64_t> to,
                        std::int64_t step) {
  return taken(of, bounds_of(length_of(of), from, to, step), true);
}

template_value loop_attribute(const template_value::round& loop, const std::string& name) {
  const auto number = [](std::size_t value) { return template_value{static_cast<std::int64_t>(value)}; };
  const value_list& all = loop.all->all;
  if (name == "index")
    return number(loop.at + 1);
  if (name == "index0")
    return number(loop.at);
  if (name == "first")
    return {loop.at == 0};
  if (name == "last")
    return {loop.at + 1 == all.size()};
  if (name == "length")
    return number(all.size());
  if (name == "revindex")
    return number(all.size() - loop.at);
  if (name == "revindex0")
    return number(all.size() - loop.at - 1);
  if (name == "depth" || name == "depth0") // of a loop that calls itself, which there is none
    return number(name == "depth" ? 1 : 0);
  if (name == "previtem" && loop.at > 0)
    return all[loop.at - 1];
  if (name == "nextitem" && loop.at + 1 < all.size())
    return all[loop.at + 1];
  return {template_value::undefined{name}};
}

bool compare(const template_value& left, const std::string& by, const template_value& right, template_place at) {
  if (by == "in" || by == "not in")
    return contains(right, left, at) == (by == "in");
  if (left.as<template_value::series>() || right.as<template_value::series>())
    refuse(at, fmt::format("{} compared with {}", kind_of(left), kind_of(right)));
  if (by == "==" || by == "!=")
    return equal(left, right) == (by == "==");
  const int order = order_of(left, right, at);
  return by == "<" ? order < 0 : by == "<=" ? order <= 0 : by == ">" ? order > 0 : order >= 0;
}

} // namespace troupe::gpu::models
