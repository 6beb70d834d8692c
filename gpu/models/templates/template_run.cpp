#include "gpu/models/templates/template_run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "gpu/models/templates/template_operations.hpp"
#include "gpu/models/templates/template_steps.hpp"
#include "gpu/models/templates/template_words.hpp"

namespace troupe::gpu::models {
namespace {

using kind = template_expression::kind;
using undefined = template_value::undefined;

/// Bytes of all texts on the way: each turn is copied some ten times.
constexpr std::size_t work_max = std::size_t{1} << 30;
constexpr unsigned calls_deep_max = 16;

[[noreturn]] void refuse(template_place at, const std::string& what) {
  throw template_problem(at, what);
}

class runner {
public:
  runner(value_map names, const std::tm& now) : now_(now) { scopes_.push_back(std::move(names)); }

  marked_text all(const statements& program) {
    run(program);
    return std::move(out_);
  }

private:
  enum class flow { on, next, leave };

  marked_text bounded(marked_text text, template_place at) const {
    if (text.bytes().size() > template_text_bytes_max)
      refuse(at, fmt::format("a text of more than {} bytes", template_text_bytes_max));
    return text;
  }
  /// What an expression came to: no longer and no deeper than can be written.
  template_value bounded(template_value value, template_place at) {
    if (value.depth() > value_depth_max)
      refuse(at, fmt::format("values more than {} deep in one another", value_depth_max));
    if (value.text() && value.text()->bytes().size() > template_text_bytes_max)
      refuse(at, fmt::format("a text of more than {} bytes", template_text_bytes_max));
    return value;
  }

  // statements

  flow run(const statements& body) {
    for (const template_statement& one : body)
      if (const flow then = run(one); then != flow::on)
        return then;
    return flow::on;
  }

  flow run(const template_statement& one) {
    steps_.count(one.at);
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
    case is::macro:
      assign(one.targets[0], {template_value::macro{&one}});
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
    if (out_.bytes().size() > template_text_bytes_max)
      refuse(at, fmt::format("a prompt of more than {} bytes", template_text_bytes_max));
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
    const template_value shared = template_value::of(filtered(one, elements(value_of(*one.value), one.at)));
    const value_list& all = *shared.list();
    for (std::size_t i = 0; i < all.size(); ++i) {
      steps_.count(one.at);
      value_map names = named(one, all[i]);
      names.emplace_back("loop", template_value{template_value::round{*shared.list_of(), i}});
      if (within(std::move(names), [&] { return run(one.branches[0].body); }) == flow::leave)
        break;
    }
    if (all.empty() && one.branches.size() > 1)
      return within({}, [&] { return run(one.branches[1].body); });
    return flow::on;
  }
  value_list filtered(const template_statement& one, value_list all) {
    if (!one.condition)
      return all;
    value_list out;
    for (template_value& each : all) {
      steps_.count(one.at);
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
    auto all = elements_of(of, at);
    if (!all)
      refuse(at, fmt::format("a loop over {}; understood are lists, texts and maps", kind_of(of)));
    return *std::move(all);
  }
  static value_map named(const template_statement& one, const template_value& element) {
    if (one.targets.size() == 1)
      return {{one.targets[0], element}};
    const auto parts = elements_of(element, one.at);
    if (!parts || parts->size() != one.targets.size())
      refuse(one.at, fmt::format("{} for {} names", kind_of(element), one.targets.size()));
    value_map out;
    for (std::size_t i = 0; i < parts->size(); ++i)
      out.emplace_back(one.targets[i], (*parts)[i]);
    return out;
  }

  void set(const template_statement& one) {
    template_value value = value_of(*one.value);
    if (one.attribute.empty()) {
      for (auto& [name, part] : named(one, value))
        assign(name, std::move(part));
      return;
    }
    const template_value target = look_up(one.targets[0], one.at);
    const auto* space = target.as<template_value::space>();
    if (!space)
      refuse(one.at, fmt::format("an attribute set of {}; understood is a namespace", kind_of(target)));
    if (value.has_space())
      refuse(one.at, "a namespace within a namespace");
    space->names->insert_or_assign(one.attribute, std::move(value));
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
    assign(one.targets[0], template_value::of(std::exchange(out_, std::move(before))));
  }

  template_value look_up(const std::string& name, template_place at) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
      if (const template_value* found = find(*scope, name))
        return *found;
    return global(name, at);
  }

  // expressions

  template_value value_of(const template_expression& one) {
    steps_.count(one.at);
    template_value out = bounded(unbounded(one), one.at);
    if (one.is != kind::name && one.is != kind::attribute && one.is != kind::item && one.is != kind::string)
      count_bytes(out, one.at);
    return out;
  }
  /// Of what was made; what is only looked up is not copied.
  void count_bytes(const template_value& made, template_place at) {
    work_ += made.text() ? made.text()->bytes().size() : made.list() ? made.list()->size() * sizeof made : 0;
    if (work_ > work_max)
      refuse(at, fmt::format("more than {} bytes of texts on the way", work_max));
  }
  template_value unbounded(const template_expression& one) {
    switch (one.is) {
    case kind::string:
      return template_value::of(one.name);
    case kind::integer:
      return {one.number};
    case kind::fraction:
      return {one.exact};
    case kind::boolean:
      return {one.number != 0};
    case kind::none:
      return {template_value::none{}};
    case kind::name:
      return look_up(one.name, one.at);
    case kind::list:
      return template_value::of(values_of(one, 0));
    case kind::tuple:
      return template_value::tuple_of(values_of(one, 0));
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
      return template_steps::is_quick(one.name)
                 ? apply_filter(one.name, arguments(one, 0))
                 : steps_.counted(one.at, apply_filter(one.name, steps_.counted(arguments(one, 0))));
    case kind::test:
      return {apply_test(one.name, arguments(one, 0))};
    case kind::negative:
      return negative(one);
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
    template_arguments out{one.at, values_of(one, first), {}, &now_};
    for (const auto& [name, value] : one.named)
      out.named.emplace_back(name, value_of(*value));
    return out;
  }
  template_value negative(const template_expression& one) {
    const template_value value = value_of(*one.parts[0]);
    if (const double* exact = value.as<double>())
      return {-*exact};
    if (!value.whole())
      refuse(one.at, fmt::format("{}; understood here is a number", kind_of(value)));
    return {-*value.whole()};
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
    if (of.number() || of.as<template_value::macro>() || of.as<template_value::series>() ||
        of.as<template_value::markup>())
      refuse(one.at, fmt::format("the attribute {} of {}", one.name, kind_of(of)));
    if (has_method(of, one.name))
      return {template_value::method{std::make_shared<const template_value>(of), one.name}};
    if (const auto* space = of.as<template_value::space>()) {
      const auto at = space->names->find(one.name);
      return at == space->names->end() ? template_value{undefined{one.name}} : at->second;
    }
    if (const auto* round = of.as<template_value::round>())
      return loop_attribute(*round, one.name);
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
      if (of.as<template_value::space>() || of.as<template_value::round>())
        refuse(one.at, fmt::format("an index of {}", kind_of(of)));
      template_value found = key(of, at.text()->bytes());
      if (!found.defined() && has_method(of, at.text()->bytes()))
        return {template_value::method{std::make_shared<const template_value>(of), at.text()->bytes()}};
      return found;
    }
    const auto index = at.whole();
    if (of.map() && (at.number() || at.as<template_value::none>() || !at.defined()))
      return {undefined{"a key that is no text"}};
    if (!index || (!of.list() && !of.text()))
      refuse(one.at, fmt::format("{} as an index of {}", kind_of(at), kind_of(of)));
    return element_of(of, *index);
  }
  template_value slice(const template_expression& one) {
    const template_value of = value_of(*one.parts[0]);
    require_defined(of, one.at);
    if (!of.list() && !of.text())
      refuse(one.at, fmt::format("a slice of {}", kind_of(of)));
    const auto bound = [&](const expression_ptr& at) -> std::optional<std::int64_t> {
      if (!at)
        return std::nullopt;
      const template_value value = value_of(*at);
      if (!value.whole() && !value.as<template_value::none>())
        refuse(at->at, fmt::format("{}; understood here is a whole number", kind_of(value)));
      return value.whole();
    };
    const std::int64_t step = bound(one.parts[3]).value_or(1);
    if (step == 0)
      refuse(one.at, "a slice with a step of 0");
    const auto from = bound(one.parts[1]), to = bound(one.parts[2]);
    return slice_of(of, from, to, step);
  }

  template_value call(const template_expression& one) {
    const template_expression& callee = *one.parts[0];
    if (callee.is == kind::name) {
      const template_value set = look_up(callee.name, one.at);
      const template_arguments with = arguments(one, 1);
      if (const auto* macro = set.as<template_value::macro>())
        return template_value::of(call_macro(*macro->of, with));
      if (set.defined() && !set.as<template_value::function>())
        refuse(one.at, fmt::format("a call of {}, which is {}", callee.name, kind_of(set)));
      return steps_.counted(one.at, apply_function(callee.name, steps_.counted(with)));
    }
    const template_value what = value_of(callee);
    const template_arguments with = arguments(one, 1);
    const auto* method = what.as<template_value::method>();
    if (!method)
      refuse(one.at, fmt::format("a call of {}, which is {}", callee.name, kind_of(what)));
    steps_.count_visits(one.at, *method->of);
    return steps_.counted(one.at, apply_method(*method->of, method->name, steps_.counted(with)));
  }

  /// With the names of the template's top, as they are now, and its own.
  marked_text call_macro(const template_statement& one, const template_arguments& with) {
    if (++calls_deep_ > calls_deep_max)
      refuse(with.at, fmt::format("macros called more than {} deep", calls_deep_max));
    if (with.given.size() > one.parameters.size())
      refuse(with.at, fmt::format("{} arguments of {}; understood are {}", with.given.size(), one.targets[0],
                                  one.parameters.size()));
    std::vector<value_map> calling;
    for (std::size_t i = 1; i < scopes_.size(); ++i)
      calling.push_back(std::move(scopes_[i]));
    scopes_.resize(1);
    marked_text before = std::exchange(out_, {});
    scopes_.emplace_back();
    for (std::size_t i = 0; i < one.parameters.size(); ++i)
      bind_parameter(one.parameters[i], i, with);
    for (const auto& [name, value] : with.named)
      if (std::ranges::find(one.parameters, name, &template_statement::parameter::name) == one.parameters.end())
        refuse(with.at, fmt::format("{} with {}, which is no parameter of it", one.targets[0], name));
    run(one.branches[0].body);
    scopes_.resize(1);
    for (value_map& each : calling)
      scopes_.push_back(std::move(each));
    --calls_deep_;
    return std::exchange(out_, std::move(before));
  }
  void bind_parameter(const template_statement::parameter& what, std::size_t place, const template_arguments& with) {
    const auto named = std::ranges::find_if(with.named, [&](const auto& each) { return each.first == what.name; });
    if (place < with.given.size() && named != with.named.end())
      refuse(with.at, fmt::format("{} twice", what.name));
    template_value value{undefined{what.name}};
    if (place < with.given.size())
      value = with.given[place];
    else if (named != with.named.end())
      value = named->second;
    else if (what.otherwise)
      value = value_of(*what.otherwise);
    assign(what.name, std::move(value));
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
    return computed(left, one.name, right, one.at);
  }

  template_value joined(const template_expression& one) {
    marked_text out;
    for (const auto& part : one.parts) {
      const template_value value = value_of(*part);
      if (value.as<template_value::markup>())
        refuse(one.at, "a safe text within another");
      out += written(value, one.at);
    }
    return template_value::of(bounded(std::move(out), one.at));
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
  const std::tm& now_;
  std::vector<value_map> scopes_;
  marked_text out_;
  template_steps steps_;
  std::size_t work_ = 0;
  unsigned calls_deep_ = 0;
};

} // namespace

marked_text run_template(const statements& program, value_map names, const std::tm& now) {
  return runner{std::move(names), now}.all(program);
}

} // namespace troupe::gpu::models
