#include "gpu/models/templates/template_words.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "gpu/models/templates/template_call.hpp"

namespace troupe::gpu::models {

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

marked_text template_call::any_text() const {
  if (of.as<template_value::markup>())
    bad("a text that is not marked as safe");
  return written(of, with.at);
}

const marked_text& template_call::text_at(std::size_t index) const {
  if (index >= others.size() || !others[index].text())
    bad("a text as argument");
  return *others[index].text();
}

std::int64_t template_call::whole_at(std::size_t index) const {
  if (index >= others.size() || !others[index].as<std::int64_t>())
    bad("a whole number as argument");
  return *others[index].as<std::int64_t>();
}

value_list template_call::elements() const {
  auto all = elements_of(of, with.at);
  if (!all)
    bad("a list, a text or a map");
  return *std::move(all);
}

void template_call::takes(std::size_t least, std::size_t most) const {
  if (others.size() < least || others.size() > most || !with.named.empty())
    bad(fmt::format("{} to {} arguments without names", least, most));
}

std::vector<const template_value*> template_call::bind(std::initializer_list<std::string_view> names) const {
  std::vector<const template_value*> out(names.size(), nullptr);
  if (others.size() > names.size())
    bad(fmt::format("at most {} arguments", names.size()));
  for (std::size_t i = 0; i < others.size(); ++i)
    out[i] = &others[i];
  for (const auto& [name, value] : with.named) {
    const auto at = static_cast<std::size_t>(std::ranges::find(names, std::string_view{name}) - names.begin());
    if (at == names.size() || out[at])
      refuse(fmt::format("{} with {}", word, name), "each argument that the word has, once");
    out[at] = &value;
  }
  return out;
}

namespace {

using call = template_call;
using word = template_word;

/// The sandbox of transformers allows no longer range either.
constexpr std::int64_t range_max = 100'000;

// methods

template_value get(const call& one) {
  one.takes(1, 2);
  const template_value* found = nullptr;
  if (one.others[0].text())
    found = find(*one.of.map(), one.text_at(0).bytes());
  else if (!one.others[0].number() && !one.others[0].as<template_value::none>())
    one.bad("a key");
  if (found)
    return *found;
  return one.others.size() > 1 ? one.others[1] : template_value{template_value::none{}};
}

template_value halves(const call& one, bool keys) {
  one.takes(0, 0);
  const auto& map = *one.of.as<template_value::map_box>();
  value_list out;
  for (const auto& [key, value] : map.box->all)
    out.push_back(keys ? template_value::key_of(map, key) : value);
  return template_value::series_of(std::move(out), false);
}

const word map_methods[] = {
    {"get", get},
    {"items",
     [](const call& one) {
       one.takes(0, 0);
       return template_value::series_of(pairs_of(*one.of.as<template_value::map_box>()), false);
     }},
    {"keys", [](const call& one) { return halves(one, true); }},
    {"values", [](const call& one) { return halves(one, false); }},
    {"copy",
     [](const call& one) {
       one.takes(0, 0);
       return one.of;
     }},
    {"fromkeys", nullptr},
    {"pop", nullptr},
    {"popitem", nullptr},
    {"setdefault", nullptr},
    {"update", nullptr},
    {"clear", nullptr},
};

std::size_t times_in(const call& one) {
  one.takes(1, 1);
  return static_cast<std::size_t>(
      std::ranges::count_if(*one.of.list(), [&](const template_value& each) { return equal(each, one.others[0]); }));
}
template_value place_in(const call& one) {
  one.takes(1, 1);
  const auto& all = *one.of.list();
  const auto at = std::ranges::find_if(all, [&](const template_value& each) { return equal(each, one.others[0]); });
  if (at == all.end())
    one.bad("an element of the list");
  return whole_number(static_cast<std::size_t>(at - all.begin()));
}

// The sandbox of transformers lets none of the others change a list.
const word list_methods[] = {
    {"count", [](const call& one) { return whole_number(times_in(one)); }},
    {"index", place_in},
    {"append", nullptr},
    {"clear", nullptr},
    {"copy", nullptr},
    {"extend", nullptr},
    {"insert", nullptr},
    {"pop", nullptr},
    {"remove", nullptr},
    {"reverse", nullptr},
    {"sort", nullptr},
};

const word loop_methods[] = {
    {"cycle",
     [](const call& one) {
       if (one.others.empty() || !one.with.named.empty())
         one.bad("what to cycle through");
       return one.others[one.of.as<template_value::round>()->at % one.others.size()];
     }},
    {"changed", nullptr},
};

// functions

std::int64_t number_at(const call& one, std::size_t index) {
  const auto* number = one.others[index].as<std::int64_t>();
  const auto refuse_it = [&](auto&& what) {
    one.refuse(fmt::format("range of {}", what), fmt::format("whole numbers up to {}", range_max));
  };
  if (!number)
    refuse_it(kind_of(one.others[index]));
  if (*number > range_max || *number < -range_max)
    refuse_it(*number);
  return *number;
}

template_value range(const call& one) {
  one.takes(1, 3);
  const std::int64_t first = one.others.size() > 1 ? number_at(one, 0) : 0;
  const std::int64_t last = number_at(one, one.others.size() > 1 ? 1 : 0);
  const std::int64_t step = one.others.size() > 2 ? number_at(one, 2) : 1;
  if (step == 0)
    one.refuse("range with a step of 0", "a step that is not 0");
  value_list out;
  for (std::int64_t i = first; step > 0 ? i < last : i > last; i += step)
    out.push_back({i});
  if (out.size() > static_cast<std::size_t>(range_max))
    one.refuse(fmt::format("a range of {} numbers", out.size()), fmt::format("one of up to {}", range_max));
  return template_value::series_of(std::move(out), false);
}

value_map named_values(const call& one) {
  value_map out;
  if (one.others.size() > 1 || (!one.others.empty() && !one.others[0].map()))
    one.bad("arguments with names, behind one map at most");
  if (!one.others.empty())
    out = *one.others[0].map();
  for (const auto& [name, value] : one.with.named) {
    const auto at = std::ranges::find_if(out, [&](const auto& each) { return each.first == name; });
    if (at == out.end())
      out.emplace_back(name, value);
    else
      at->second = value;
  }
  return out;
}

template_value make_space(const call& one) {
  auto names = std::make_shared<std::map<std::string, template_value>>();
  for (auto& [name, value] : named_values(one)) {
    if (value.has_space())
      one.bad("values that are no namespaces");
    names->insert_or_assign(name, std::move(value));
  }
  return {template_value::space{std::move(names)}};
}

template_value raise(const call& one) {
  one.takes(1, 1);
  throw template_problem(one.with.at,
                         "the template refuses this prompt: " + written(one.others[0], one.with.at).bytes(), true);
}

template_value date_now(const call& one) {
  one.takes(1, 1);
  if (!one.with.now || !one.others[0].text())
    one.bad("a form of dates as text");
  return template_value::of(date_text(*one.with.now, one.others[0].text()->bytes(), one.with.at));
}

const word functions[] = {
    {"raise_exception", raise},
    {"namespace", make_space},
    {"range", range},
    {"dict",
     [](const call& one) {
       return template_value::of(named_values(one),
                                 !one.others.empty() && one.others[0].as<template_value::map_box>()->of_user);
     }},
    {"strftime_now", date_now},
};

// tests

bool is_number(const template_value& value) {
  return value.number().has_value();
}
std::int64_t remainder(const call& one, std::int64_t divisor) {
  if (!one.of.whole())
    one.bad("a whole number");
  return *one.of.whole() % divisor;
}
bool is_flag(const call& one, bool value) {
  return one.of.as<bool>() && *one.of.as<bool>() == value;
}
bool is_equal(const call& one) {
  one.takes(1, 1);
  return equal(one.of, one.others[0]);
}
bool is_unequal(const call& one) {
  return !is_equal(one);
}
template <class Holds>
bool is_ordered(const call& one, Holds holds) {
  one.takes(1, 1);
  return holds(order_of(one.of, one.others[0], one.with.at));
}
bool is_above(const call& one) {
  return is_ordered(one, [](int order) { return order > 0; });
}
bool is_at_least(const call& one) {
  return is_ordered(one, [](int order) { return order >= 0; });
}
bool is_below(const call& one) {
  return is_ordered(one, [](int order) { return order < 0; });
}
bool is_at_most(const call& one) {
  return is_ordered(one, [](int order) { return order <= 0; });
}
bool is_in(const call& one) {
  one.takes(1, 1);
  return contains(one.others[0], one.of, one.with.at);
}
bool is_text(const template_value& value) {
  return value.text() || value.as<template_value::markup>();
}
bool is_iterable(const call& one) {
  return is_text(one.of) || one.of.list() || one.of.map() || one.of.as<template_value::series>() || !one.of.defined();
}
bool is_sequence(const call& one) {
  if (one.of.as<template_value::series>())
    one.bad("a list, a text or a map"); // views and ranges differ
  return is_iterable(one);
}

const template_test tests[] = {
    {"defined", [](const call& one) { return one.of.defined(); }},
    {"undefined", [](const call& one) { return !one.of.defined(); }},
    {"none", [](const call& one) { return one.of.as<template_value::none>() != nullptr; }},
    {"string", [](const call& one) { return is_text(one.of); }},
    {"mapping", [](const call& one) { return one.of.map() != nullptr; }},
    {"iterable", is_iterable},
    {"sequence", is_sequence},
    {"number", [](const call& one) { return is_number(one.of); }},
    {"integer", [](const call& one) { return one.of.as<std::int64_t>() != nullptr; }},
    {"float", [](const call& one) { return one.of.as<double>() != nullptr; }},
    {"boolean", [](const call& one) { return one.of.as<bool>() != nullptr; }},
    {"true", [](const call& one) { return is_flag(one, true); }},
    {"false", [](const call& one) { return is_flag(one, false); }},
    {"even", [](const call& one) { return remainder(one, 2) == 0; }},
    {"odd", [](const call& one) { return remainder(one, 2) != 0; }},
    {"divisibleby",
     [](const call& one) {
       one.takes(1, 1);
       if (one.whole_at(0) == 0)
         one.bad("a divisor that is not 0");
       return remainder(one, one.whole_at(0)) == 0;
     }},
    {"equalto", is_equal},
    {"eq", is_equal},
    {"==", is_equal},
    {"ne", is_unequal},
    {"!=", is_unequal},
    {"gt", is_above},
    {"greaterthan", is_above},
    {">", is_above},
    {"ge", is_at_least},
    {">=", is_at_least},
    {"lt", is_below},
    {"lessthan", is_below},
    {"<", is_below},
    {"le", is_at_most},
    {"<=", is_at_most},
    {"in", is_in},
};

template_value apply(std::span<const word> words, const call& one) {
  const auto at = std::ranges::find_if(words, [&](const word& each) { return each.name == one.word; });
  if (at == words.end())
    one.bad("what values of this kind have");
  if (!at->apply)
    one.bad("another word");
  return at->apply(one);
}

std::span<const word> methods_of(const template_value& value) {
  if (value.text())
    return text_methods();
  if (value.map())
    return map_methods;
  if (value.as<template_value::round>())
    return loop_methods;
  if (value.as<template_value::tuple>())
    return std::span{list_methods}.first(2);
  if (value.list())
    return list_methods;
  return {};
}

/// Calls `each` with every name that does something.
template <class Each>
void over_words(word_kind of, Each each) {
  const auto over = [&](std::span<const word> words) {
    for (const word& one : words)
      if (one.apply)
        each(one.name);
  };
  switch (of) {
  case word_kind::function:
    return over(functions);
  case word_kind::filter:
    return over(template_filters());
  case word_kind::method:
    over(text_methods());
    over(map_methods);
    over(list_methods);
    return over(loop_methods);
  case word_kind::test:
    for (const template_test& one : tests)
      each(one.name);
  }
}

} // namespace

bool is_known(word_kind of, std::string_view name) {
  bool found = false;
  over_words(of, [&](std::string_view each) { found = found || each == name; });
  return found;
}

std::string understood_words(word_kind of) {
  std::string out;
  over_words(of, [&](std::string_view each) { out.append(out.empty() ? "" : ", ").append(each); });
  return out;
}

template_value apply_filter(std::string_view name, const template_arguments& with) {
  return apply(template_filters(), {name, with.given[0], std::span{with.given}.subspan(1), with});
}
template_value apply_method(const template_value& of, std::string_view name, const template_arguments& with) {
  return apply(methods_of(of), {name, of, with.given, with});
}
template_value global(const std::string& name, template_place at) {
  constexpr std::array<std::string_view, 3> of_jinja{"lipsum", "cycler", "joiner"};
  if (std::ranges::find(of_jinja, name) != of_jinja.end())
    throw template_problem(at,
                           fmt::format("Jinja's {}; understood are {}", name, understood_words(word_kind::function)));
  if (std::ranges::find(special_token_names, name) != special_token_names.end())
    throw template_problem(at, fmt::format("{}, which tokenizer_config.json does not state; valid there is a token, or "
                                           "null for none",
                                           name));
  const auto known = std::ranges::find_if(functions, [&](const word& each) { return each.name == name; });
  if (known != std::end(functions))
    return {template_value::function{name}};
  return {template_value::undefined{name}};
}

template_value apply_function(std::string_view name, const template_arguments& with) {
  static const template_value nothing;
  return apply(functions, {name, nothing, with.given, with});
}
bool apply_test(std::string_view name, const template_arguments& with) {
  const call one{name, with.given[0], std::span{with.given}.subspan(1), with};
  const auto at = std::ranges::find_if(tests, [&](const template_test& each) { return each.name == name; });
  if (at == std::end(tests))
    one.refuse(fmt::format("the test {}", name), understood_words(word_kind::test));
  return at->holds(one);
}

bool has_method(const template_value& value, std::string_view name) {
  return std::ranges::any_of(methods_of(value), [&](const word& each) { return each.name == name; });
}

} // namespace troupe::gpu::models
