#include "gpu/models/templates/template_run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "gpu/models/templates/template_words.hpp"
#include "gpu/models/tokenizers/tokenizer_unicode.hpp"

namespace troupe::gpu::models {
namespace {

using kind = template_expression::kind;
using undefined = template_value::undefined;

/// A prompt of one turn takes some hundred steps; what a user wrote comes on top of the bytes.
constexpr std::uint64_t steps_max = 100'000;
constexpr std::size_t bytes_max = std::size_t{16} << 20;

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

class runner {
public:
  explicit runner(value_map names) { scopes_.push_back(std::move(names)); }

  marked_text all(const statements& program) {
    run(program);
    return std::move(out_);
  }

private:
  enum class flow { on, next, leave };

  void count_step(template_place at) {
    if (++steps_ > steps_max)
      refuse(at, fmt::format("more than {} steps", steps_max));
  }
  marked_text bounded(marked_text text, template_place at) const {
    if (text.bytes().size() > bytes_max)
      refuse(at, fmt::format("a text of more than {} bytes", bytes_max));
    return text;
  }

  // statements

  flow run(const statements& body) {
    for (const template_statement& one : body)
      if (const flow then = run(one); then != flow::on)
        return then;
    return flow::on;
  }

  flow run(const template_statement& one) {
    count_step(one.at);
    using is = template_statement::kind;
    switch (one.is) {
    case is::text:
      write(marked_text::of_template(one.text), one.at);
      return flow::on;
    case is::print:
      write(written(value_of(*one.value), one.at), one.at);
      return flow::on;
    case is::choice:
      return choose(one);
    case is::loop:
      return loop(one);
    case is::set:
      set(one);
      return flow::on;
    case is::capture:
      capture(one);
      return flow::on;
    case is::scope:
      return within({}, [&] { return run(one.branches[0].body); });
    case is::next:
      return flow::next;
    case is::leave:
      return flow::leave;
    }
    return flow::on;
  }
  void write(const marked_text& text, template_place at) {
    out_ += text;
    if (out_.bytes().size() > bytes_max)
      refuse(at, fmt::format("a prompt of more than {} bytes", bytes_max));
  }

  template <class Run>
  flow within(value_map names, Run run) {
    scopes_.push_back(std::move(names));
    const flow then = run();
    scopes_.pop_back();
    return then;
  }

  flow choose(const template_statement& one) {
    for (const auto& branch : one.branches)
      if (!branch.condition || value_of(*branch.condition).holds())
        return run(branch.body);
    return flow::on;
  }

  flow loop(const template_statement& one) {
    const value_list all = filtered(one, elements(value_of(*one.value), one.at));
    for (std::size_t i = 0; i < all.size(); ++i) {
      value_map names = named(one, all[i]);
      names.emplace_back("loop", loop_names(all, i));
      if (within(std::move(names), [&] { return run(one.branches[0].body); }) == flow::leave)
        break;
    }
    if (all.empty() && one.branches.size() > 1)
      return run(one.branches[1].body);
    return flow::on;
  }
  value_list filtered(const template_statement& one, value_list all) {
    if (!one.condition)
      return all;
    value_list out;
    for (template_value& each : all) {
      bool kept = false;
      within(named(one, each), [&] {
        kept = value_of(*one.condition).holds();
        return flow::on;
      });
      if (kept)
        out.push_back(std::move(each));
    }
    return out;
  }
  static value_list elements(const template_value& of, template_place at) {
    if (of.list())
      return *of.list();
    if (of.text())
      return characters(*of.text(), at);
    if (!of.defined())
      return {};
    if (!of.map())
      refuse(at, fmt::format("a loop over {}; understood are lists, texts and maps", kind_of(of)));
    value_list keys;
    for (const auto& each : *of.map())
      keys.push_back(template_value::of(each.first));
    return keys;
  }
  static value_map named(const template_statement& one, const template_value& element) {
    if (one.targets.size() == 1)
      return {{one.targets[0], element}};
    const value_list* const parts = element.list();
    if (!parts || parts->size() != one.targets.size())
      refuse(one.at, fmt::format("{} for {} names", kind_of(element), one.targets.size()));
    value_map out;
    for (std::size_t i = 0; i < parts->size(); ++i)
      out.emplace_back(one.targets[i], (*parts)[i]);
    return out;
  }
  static template_value loop_names(const value_list& all, std::size_t i) {
    const auto number = [](std::size_t value) { return template_value{static_cast<std::int64_t>(value)}; };
    value_map out{{"index", number(i + 1)},
                  {"index0", number(i)},
                  {"first", {i == 0}},
                  {"last", {i + 1 == all.size()}},
                  {"length", number(all.size())},
                  {"revindex", number(all.size() - i)},
                  {"revindex0", number(all.size() - i - 1)},
                  {"depth", number(1)},
                  {"depth0", number(0)}};
    if (i > 0)
      out.emplace_back("previtem", all[i - 1]);
    if (i + 1 < all.size())
      out.emplace_back("nextitem", all[i + 1]);
    return template_value::of(std::move(out));
  }

  void set(const template_statement& one) {
    template_value value = value_of(*one.value);
    if (one.attribute.empty())
      return assign(one.targets[0], std::move(value));
    const template_value target = look_up(one.targets[0], one.at);
    const auto* space = target.as<template_value::space>();
    if (!space)
      refuse(one.at, fmt::format("an attribute set of {}; understood is a namespace", kind_of(target)));
    (*space->names)[one.attribute] = std::move(value);
  }
  void assign(const std::string& name, template_value value) {
    value_map& names = scopes_.back();
    const auto at = std::ranges::find_if(names, [&](const auto& each) { return each.first == name; });
    if (at == names.end())
      names.emplace_back(name, std::move(value));
    else
      at->second = std::move(value);
  }
  void capture(const template_statement& one) {
    marked_text before = std::exchange(out_, {});
    within({}, [&] { return run(one.branches[0].body); });
    assign(one.targets[0], {std::exchange(out_, std::move(before))});
  }

  template_value look_up(const std::string& name, template_place at) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
      if (const template_value* found = find(*scope, name))
        return *found;
    return global(name, at);
  }

  // expressions

  template_value value_of(const template_expression& one) {
    count_step(one.at);
    switch (one.is) {
    case kind::string:
      return template_value::of(one.name);
    case kind::integer:
      return {one.number};
    case kind::boolean:
      return {one.number != 0};
    case kind::none:
      return {template_value::none{}};
    case kind::name:
      return look_up(one.name, one.at);
    case kind::list:
      return template_value::of(values_of(one, 0));
    case kind::map:
      return map_of(one);
    case kind::attribute:
      return attribute(one);
    case kind::item:
      return item(one);
    case kind::slice:
      return slice(one);
    case kind::call:
      return call(one);
    case kind::filter:
      return apply_filter(one.name, arguments(one, 0));
    case kind::test:
      return {apply_test(one.name, arguments(one, 0))};
    case kind::negative:
      return {-number(*one.parts[0])};
    case kind::negation:
      return {!value_of(*one.parts[0]).holds()};
    case kind::both: {
      template_value left = value_of(*one.parts[0]);
      return left.holds() ? value_of(*one.parts[1]) : left;
    }
    case kind::either: {
      template_value left = value_of(*one.parts[0]);
      return left.holds() ? left : value_of(*one.parts[1]);
    }
    case kind::conditional:
      return conditional(one);
    case kind::arithmetic:
      return arithmetic(one);
    case kind::joined:
      return joined(one);
    case kind::comparison:
      return {comparison(one)};
    }
    return {};
  }

  value_list values_of(const template_expression& one, std::size_t first) {
    value_list out;
    for (std::size_t i = first; i < one.parts.size(); ++i)
      out.push_back(value_of(*one.parts[i]));
    return out;
  }
  template_arguments arguments(const template_expression& one, std::size_t first) {
    template_arguments out{one.at, values_of(one, first), {}};
    for (const auto& [name, value] : one.named)
      out.named.emplace_back(name, value_of(*value));
    return out;
  }
  std::int64_t number(const template_expression& one) {
    const template_value value = value_of(one);
    if (!value.as<std::int64_t>())
      refuse(one.at, fmt::format("{}; understood here is a whole number", kind_of(value)));
    return *value.as<std::int64_t>();
  }

  template_value map_of(const template_expression& one) {
    value_map out;
    for (std::size_t i = 0; i < one.parts.size(); i += 2) {
      const template_value key = value_of(*one.parts[i]);
      if (!key.text() || find(out, key.text()->bytes()))
        refuse(one.at, "a map whose keys are not texts, each once");
      out.emplace_back(key.text()->bytes(), value_of(*one.parts[i + 1]));
    }
    return template_value::of(std::move(out));
  }

  static void require_defined(const template_value& value, template_place at) {
    if (const auto* missing = value.as<undefined>())
      refuse(at, fmt::format("{} is undefined", missing->name));
  }

  /// In Jinja a method comes before a key of the same name for `.`, and behind it for `[]`.
  template_value attribute(const template_expression& one) {
    const template_value of = value_of(*one.parts[0]);
    require_defined(of, one.at);
    if (of.as<std::int64_t>() || of.as<bool>())
      refuse(one.at, fmt::format("the attribute {} of {}", one.name, kind_of(of)));
    if (has_method(of, one.name))
      return {template_value::method{std::make_shared<const template_value>(of), one.name}};
    if (const auto* space = of.as<template_value::space>()) {
      const auto at = space->names->find(one.name);
      return at == space->names->end() ? template_value{undefined{one.name}} : at->second;
    }
    return key(of, one.name);
  }
  static template_value key(const template_value& of, const std::string& name) {
    const template_value* const found = of.map() ? find(*of.map(), name) : nullptr;
    return found ? *found : template_value{undefined{name}};
  }

  template_value item(const template_expression& one) {
    const template_value of = value_of(*one.parts[0]), at = value_of(*one.parts[1]);
    require_defined(of, one.at);
    if (at.text()) {
      template_value found = key(of, at.text()->bytes());
      if (!found.defined() && has_method(of, at.text()->bytes()))
        return {template_value::method{std::make_shared<const template_value>(of), at.text()->bytes()}};
      return found;
    }
    const auto* const index = at.as<std::int64_t>();
    if (!index || (!of.list() && !of.text()))
      refuse(one.at, fmt::format("{} as an index of {}", kind_of(at), kind_of(of)));
    const std::int64_t length = length_of(of);
    const std::int64_t from_front = *index + (*index < 0 ? length : 0);
    if (from_front < 0 || from_front >= length)
      return {undefined{fmt::format("element {}", *index)}};
    return taken(of, {from_front, from_front + 1, 1}, false);
  }
  static std::int64_t length_of(const template_value& of) {
    return static_cast<std::int64_t>(of.list() ? of.list()->size() : character_bounds(of.text()->bytes()).size() - 1);
  }
  /// Of a list or a text; one element as it is, or as a list of one.
  static template_value taken(const template_value& of, slice_bounds which, bool as_list) {
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
    return of.list() ? template_value::of(std::move(parts)) : template_value{std::move(text)};
  }

  template_value slice(const template_expression& one) {
    const template_value of = value_of(*one.parts[0]);
    require_defined(of, one.at);
    if (!of.list() && !of.text())
      refuse(one.at, fmt::format("a slice of {}", kind_of(of)));
    const auto bound = [&](const expression_ptr& at) -> std::optional<std::int64_t> {
      return at ? std::optional{number(*at)} : std::nullopt;
    };
    const std::int64_t step = bound(one.parts[3]).value_or(1);
    if (step == 0)
      refuse(one.at, "a slice with a step of 0");
    return taken(of, bounds_of(length_of(of), bound(one.parts[1]), bound(one.parts[2]), step), true);
  }

  template_value call(const template_expression& one) {
    const template_expression& callee = *one.parts[0];
    const template_arguments with = arguments(one, 1);
    if (callee.is == kind::name) {
      const template_value set = look_up(callee.name, one.at);
      if (set.defined() && !set.as<template_value::function>())
        refuse(one.at, fmt::format("a call of {}, which is {}", callee.name, kind_of(set)));
      return apply_function(callee.name, with);
    }
    const template_value what = value_of(callee);
    const auto* method = what.as<template_value::method>();
    if (!method)
      refuse(one.at, fmt::format("a call of {}, which is {}", callee.name, kind_of(what)));
    return apply_method(*method->of, method->name, with);
  }

  template_value conditional(const template_expression& one) {
    if (value_of(*one.parts[1]).holds())
      return value_of(*one.parts[0]);
    return one.parts[2] ? value_of(*one.parts[2]) : template_value{undefined{"the other side of an if"}};
  }

  template_value arithmetic(const template_expression& one) {
    const template_value left = value_of(*one.parts[0]), right = value_of(*one.parts[1]);
    require_defined(left, one.at);
    require_defined(right, one.at);
    if (one.name == "+" && left.text() && right.text())
      return {bounded(*left.text() + *right.text(), one.at)};
    if (one.name == "+" && left.list() && right.list())
      return added(*left.list(), *right.list(), one.at);
    const auto *a = left.as<std::int64_t>(), *b = right.as<std::int64_t>();
    constexpr std::int64_t largest = 1'000'000'000;
    if (!a || !b || std::max(std::abs(*a), std::abs(*b)) > largest)
      refuse(one.at, fmt::format("{} {} {}", kind_of(left), one.name, kind_of(right)));
    if (one.name == "+" || one.name == "-")
      return {one.name == "+" ? *a + *b : *a - *b};
    if (one.name == "*")
      return {*a * *b};
    if (*b == 0)
      refuse(one.at, "a division by 0");
    const std::int64_t rest = ((*a % *b) + *b) % *b; // Python's: of the divisor's sign
    return {one.name == "%" ? rest : (*a - rest) / *b};
  }
  template_value added(const value_list& left, const value_list& right, template_place at) const {
    if (left.size() + right.size() > steps_max)
      refuse(at, fmt::format("a list of more than {} elements", steps_max));
    value_list all = left;
    all.insert(all.end(), right.begin(), right.end());
    return template_value::of(std::move(all));
  }

  template_value joined(const template_expression& one) {
    marked_text out;
    for (const auto& part : one.parts)
      out += written(value_of(*part), one.at);
    return {bounded(std::move(out), one.at)};
  }

  /// a < b < c is a < b and b < c.
  bool comparison(const template_expression& one) {
    template_value left = value_of(*one.parts[0]);
    for (std::size_t i = 0; i < one.operators.size(); ++i) {
      template_value right = value_of(*one.parts[i + 1]);
      if (!compare(left, one.operators[i], right, one.at))
        return false;
      left = std::move(right);
    }
    return true;
  }
  static bool compare(const template_value& left, const std::string& by, const template_value& right,
                      template_place at) {
    if (by == "in" || by == "not in")
      return contains(right, left, at) == (by == "in");
    if (left.list() && right.list())
      refuse(at, "a comparison of two lists");
    if (by == "==" || by == "!=")
      return equal(left, right) == (by == "==");
    const int order = order_of(left, right, at);
    return by == "<" ? order < 0 : by == "<=" ? order <= 0 : by == ">" ? order > 0 : order >= 0;
  }
  static int order_of(const template_value& left, const template_value& right, template_place at) {
    const auto *a = left.as<std::int64_t>(), *b = right.as<std::int64_t>();
    if (a && b)
      return *a < *b ? -1 : *a > *b ? 1 : 0;
    if (!left.text() || !right.text())
      refuse(at, fmt::format("{} ordered with {}", kind_of(left), kind_of(right)));
    return left.text()->bytes().compare(right.text()->bytes()); // UTF-8 keeps the order of characters
  }

  std::vector<value_map> scopes_;
  marked_text out_;
  std::uint64_t steps_ = 0;
};

} // namespace

marked_text run_template(const statements& program, value_map names) {
  return runner{std::move(names)}.all(program);
}

} // namespace troupe::gpu::models
