#include "gpu/models/templates/template_words.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "gpu/models/templates/template_call.hpp"
#include "gpu/models/tokenizers/tokenizer_unicode.hpp"

namespace troupe::gpu::models {
namespace {

using call = template_call;

struct word {
  std::string_view name;
  template_value (*apply)(const call&); ///< null: known by name alone
};

constexpr std::int64_t range_max = 10'000; ///< a prompt has one turn

value_list items_of(const value_map& map) {
  value_list out;
  for (const auto& [key, value] : map)
    out.push_back(template_value::of(value_list{template_value::of(key), value}));
  return out;
}

value_list elements(const call& one) {
  if (one.of.list())
    return *one.of.list();
  if (one.of.text())
    return characters(*one.of.text(), one.with.at);
  if (one.of.map() || one.of.defined())
    one.bad("a list or a text");
  return {};
}

template_value joined(const call& one, const value_list& parts, const marked_text& between) {
  marked_text out;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0)
      out += between;
    out += written(parts[i], one.with.at);
  }
  return text_value(std::move(out));
}

template_value length_of(const call& one) {
  one.takes(0, 0);
  if (one.of.map())
    return whole_number(one.of.map()->size());
  if (one.of.text())
    return whole_number(unicode::decode(one.of.text()->bytes()).size());
  return whole_number(elements(one).size());
}

template_value otherwise(const call& one) {
  if (one.others.size() > 2 || !one.with.named.empty())
    one.bad("a value, and whether what is empty counts as absent");
  const bool empty_too = one.others.size() > 1 && one.others[1].holds();
  if (one.of.defined() && !(empty_too && !one.of.holds()))
    return one.of;
  return one.others.empty() ? template_value::of("") : one.others[0];
}

template_value end_of(const call& one, bool front) {
  one.takes(0, 0);
  const value_list all = elements(one);
  if (all.empty())
    return {template_value::undefined{"the first or last of nothing"}};
  return front ? all.front() : all.back();
}

template_value items(const call& one) {
  one.takes(0, 0);
  if (!one.of.defined())
    return template_value::of(value_list{});
  if (!one.of.map())
    one.bad("a map");
  return template_value::of(items_of(*one.of.map()));
}

const std::array filters{
    word{"trim",
         [](const call& one) { return text_value(stripped(one, written(one.of, one.with.at), text_ends::both)); }},
    word{"length", length_of},
    word{"count", length_of},
    word{"string", [](const call& one) { return text_value(written(one.of, one.with.at)); }},
    word{"upper", [](const call& one) { return text_value(cased(one, letter_case::upper)); }},
    word{"lower", [](const call& one) { return text_value(cased(one, letter_case::lower)); }},
    word{"capitalize", [](const call& one) { return text_value(cased(one, letter_case::capital)); }},
    word{"default", otherwise},
    word{"d", otherwise},
    word{"first", [](const call& one) { return end_of(one, true); }},
    word{"last", [](const call& one) { return end_of(one, false); }},
    word{"list",
         [](const call& one) {
           one.takes(0, 0);
           return template_value::of(elements(one));
         }},
    word{"join",
         [](const call& one) {
           one.takes(0, 1);
           return joined(one, elements(one), one.others.empty() ? marked_text{} : one.text_at(0));
         }},
    word{"items", items},
    word{"replace", [](const call& one) { return text_value(replaced(one)); }},
    word{"safe", nullptr},
    word{"tojson", nullptr},
    word{"map", nullptr},
    word{"select", nullptr},
    word{"reject", nullptr},
    word{"selectattr", nullptr},
    word{"rejectattr", nullptr},
    word{"indent", nullptr},
    word{"sort", nullptr},
    word{"dictsort", nullptr},
    word{"unique", nullptr},
    word{"reverse", nullptr},
    word{"escape", nullptr},
    word{"e", nullptr},
    word{"title", nullptr},
    word{"int", nullptr},
    word{"float", nullptr},
};

// methods

template_value get(const call& one) {
  one.takes(1, 2);
  const template_value* found = find(*one.of.map(), one.text_at(0).bytes());
  if (found)
    return *found;
  return one.others.size() > 1 ? one.others[1] : template_value{template_value::none{}};
}

value_list halves(const call& one, bool keys) {
  one.takes(0, 0);
  value_list out;
  for (const auto& [key, value] : *one.of.map())
    out.push_back(keys ? template_value::of(key) : value);
  return out;
}

const std::array text_methods{
    word{"strip", [](const call& one) { return text_value(stripped(one, one.text(), text_ends::both)); }},
    word{"lstrip", [](const call& one) { return text_value(stripped(one, one.text(), text_ends::front)); }},
    word{"rstrip", [](const call& one) { return text_value(stripped(one, one.text(), text_ends::back)); }},
    word{"split", [](const call& one) { return template_value::of(split(one)); }},
    word{"startswith",
         [](const call& one) {
           one.takes(1, 1);
           return template_value{one.text().bytes().starts_with(one.text_at(0).bytes())};
         }},
    word{"endswith",
         [](const call& one) {
           one.takes(1, 1);
           return template_value{one.text().bytes().ends_with(one.text_at(0).bytes())};
         }},
    word{"replace", [](const call& one) { return text_value(replaced(one)); }},
    word{"upper", [](const call& one) { return text_value(cased(one, letter_case::upper)); }},
    word{"lower", [](const call& one) { return text_value(cased(one, letter_case::lower)); }},
    word{"title", nullptr},
    word{"capitalize", nullptr},
    word{"join", nullptr},
    word{"format", nullptr},
    word{"find", nullptr},
    word{"rfind", nullptr},
    word{"index", nullptr},
    word{"count", nullptr},
    word{"rsplit", nullptr},
    word{"splitlines", nullptr},
    word{"isdigit", nullptr},
    word{"casefold", nullptr},
    word{"center", nullptr},
    word{"encode", nullptr},
    word{"expandtabs", nullptr},
    word{"format_map", nullptr},
    word{"isalnum", nullptr},
    word{"isalpha", nullptr},
    word{"isascii", nullptr},
    word{"isdecimal", nullptr},
    word{"isidentifier", nullptr},
    word{"islower", nullptr},
    word{"isnumeric", nullptr},
    word{"isprintable", nullptr},
    word{"isspace", nullptr},
    word{"istitle", nullptr},
    word{"isupper", nullptr},
    word{"ljust", nullptr},
    word{"maketrans", nullptr},
    word{"partition", nullptr},
    word{"removeprefix", nullptr},
    word{"removesuffix", nullptr},
    word{"rindex", nullptr},
    word{"rjust", nullptr},
    word{"rpartition", nullptr},
    word{"swapcase", nullptr},
    word{"translate", nullptr},
    word{"zfill", nullptr},
};
const std::array map_methods{
    word{"get", get},
    word{"items", items},
    word{"keys", [](const call& one) { return template_value::of(halves(one, true)); }},
    word{"values", [](const call& one) { return template_value::of(halves(one, false)); }},
    word{"copy", nullptr},
    word{"fromkeys", nullptr},
    word{"pop", nullptr},
    word{"popitem", nullptr},
    word{"setdefault", nullptr},
    word{"update", nullptr},
    word{"clear", nullptr},
};
// The sandbox of transformers lets none of them change a list.
const std::array list_methods{
    word{"append", nullptr}, word{"clear", nullptr},   word{"copy", nullptr},   word{"count", nullptr},
    word{"extend", nullptr}, word{"index", nullptr},   word{"insert", nullptr}, word{"pop", nullptr},
    word{"remove", nullptr}, word{"reverse", nullptr}, word{"sort", nullptr},
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
  return template_value::of(std::move(out));
}

template_value make_space(const call& one) {
  if (!one.others.empty())
    one.bad("arguments with names");
  auto names = std::make_shared<std::map<std::string, template_value>>();
  for (const auto& [name, value] : one.with.named)
    (*names)[name] = value;
  return {template_value::space{std::move(names)}};
}

template_value raise(const call& one) {
  one.takes(1, 1);
  throw template_problem(one.with.at,
                         "the template refuses this prompt: " + written(one.others[0], one.with.at).bytes());
}

const std::array functions{
    word{"raise_exception", raise},
    word{"namespace", make_space},
    word{"range", range},
    // A prompt must not depend on the day that it is sent: a template that asks whether there is a clock hears no, and
    // takes its own date; one that does not ask is refused.
    word{"strftime_now", nullptr},
};

// tests

struct test_word {
  std::string_view name;
  bool (*holds)(const call&);
};
bool is_number(const template_value& value) {
  return value.as<std::int64_t>() || value.as<bool>();
}
std::int64_t remainder_by_two(const call& one) {
  if (!one.of.as<std::int64_t>())
    one.bad("a whole number");
  return *one.of.as<std::int64_t>() % 2;
}
bool is_flag(const call& one, bool value) {
  return one.of.as<bool>() && *one.of.as<bool>() == value;
}
bool is_equal(const call& one) {
  one.takes(1, 1);
  return equal(one.of, one.others[0]);
}
bool is_in(const call& one) {
  one.takes(1, 1);
  return contains(one.others[0], one.of, one.with.at);
}

const std::array tests{
    test_word{"defined", [](const call& one) { return one.of.defined(); }},
    test_word{"undefined", [](const call& one) { return !one.of.defined(); }},
    test_word{"none", [](const call& one) { return one.of.as<template_value::none>() != nullptr; }},
    test_word{"string", [](const call& one) { return one.of.text() != nullptr; }},
    test_word{"mapping", [](const call& one) { return one.of.map() != nullptr; }},
    test_word{"iterable",
              [](const call& one) { return one.of.text() || one.of.list() || one.of.map() || !one.of.defined(); }},
    test_word{"sequence",
              [](const call& one) { return one.of.text() || one.of.list() || one.of.map() || !one.of.defined(); }},
    test_word{"number", [](const call& one) { return is_number(one.of); }},
    test_word{"integer", [](const call& one) { return one.of.as<std::int64_t>() != nullptr; }},
    test_word{"boolean", [](const call& one) { return one.of.as<bool>() != nullptr; }},
    test_word{"true", [](const call& one) { return is_flag(one, true); }},
    test_word{"false", [](const call& one) { return is_flag(one, false); }},
    test_word{"even", [](const call& one) { return remainder_by_two(one) == 0; }},
    test_word{"odd", [](const call& one) { return remainder_by_two(one) != 0; }},
    test_word{"equalto", is_equal},
    test_word{"eq", is_equal},
    test_word{"ne", [](const call& one) { return !is_equal(one); }},
    test_word{"in", is_in},
};

template_value apply(std::span<const word> words, const call& one) {
  const auto at = std::ranges::find_if(words, [&](const word& each) { return each.name == one.word; });
  if (at == words.end())
    one.bad("what values of this kind have");
  if (!at->apply)
    throw template_problem(one.with.at, fmt::format("{}, which is understood only where a question like those here "
                                                    "does not reach it",
                                                    one.word));
  return at->apply(one);
}

std::span<const word> methods_of(const template_value& value) {
  if (value.text())
    return text_methods;
  if (value.map())
    return map_methods;
  if (value.list())
    return list_methods;
  return {};
}

/// Calls `each` with every name and whether the word does something here.
template <class Each>
void over_words(word_kind of, Each each) {
  const auto over = [&](std::span<const word> words) {
    for (const word& one : words)
      each(one.name, one.apply != nullptr);
  };
  switch (of) {
  case word_kind::function:
    return over(functions);
  case word_kind::filter:
    return over(filters);
  case word_kind::method:
    over(text_methods);
    over(map_methods);
    return over(list_methods);
  case word_kind::test:
    for (const test_word& one : tests)
      each(one.name, true);
  }
}

} // namespace

bool is_known(word_kind of, std::string_view name) {
  bool found = false;
  over_words(of, [&](std::string_view each, bool) { found = found || each == name; });
  return found;
}

std::string understood_words(word_kind of) {
  std::string out;
  over_words(of, [&](std::string_view each, bool applied) {
    if (applied)
      out.append(out.empty() ? "" : ", ").append(each);
  });
  return out;
}

template_value apply_filter(std::string_view name, const template_arguments& with) {
  return apply(filters, {name, with.given[0], std::span{with.given}.subspan(1), with});
}
template_value apply_method(const template_value& of, std::string_view name, const template_arguments& with) {
  return apply(methods_of(of), {name, of, with.given, with});
}
template_value global(const std::string& name, template_place at) {
  constexpr std::array<std::string_view, 4> of_jinja{"dict", "lipsum", "cycler", "joiner"};
  if (std::ranges::find(of_jinja, name) != of_jinja.end())
    throw template_problem(at,
                           fmt::format("Jinja's {}; understood are {}", name, understood_words(word_kind::function)));
  if (std::ranges::find(special_token_names, name) != special_token_names.end())
    throw template_problem(at, fmt::format("{}, which tokenizer_config.json does not state; valid there is a token, or "
                                           "null for none",
                                           name));
  const auto known = std::ranges::find_if(functions, [&](const word& each) { return each.name == name && each.apply; });
  if (known != functions.end())
    return {template_value::function{name}};
  return {template_value::undefined{name}};
}

template_value apply_function(std::string_view name, const template_arguments& with) {
  static const template_value nothing;
  return apply(functions, {name, nothing, with.given, with});
}
bool apply_test(std::string_view name, const template_arguments& with) {
  const auto at = std::ranges::find_if(tests, [&](const test_word& each) { return each.name == name; });
  return at->holds({name, with.given[0], std::span{with.given}.subspan(1), with});
}

bool has_method(const template_value& value, std::string_view name) {
  return std::ranges::any_of(methods_of(value), [&](const word& each) { return each.name == name; });
}

} // namespace troupe::gpu::models
