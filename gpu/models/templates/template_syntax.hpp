#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Parses the part of Jinja that chat templates use into a tree. What it accepts means exactly what it means in Jinja
/// with trim_blocks and lstrip_blocks, which transformers sets; it refuses everything else with its place.
/// Contract: K10.
namespace troupe::gpu::models {

/// A place in the source of a template.
struct template_place {
  std::uint32_t line = 0;   ///< from 1
  std::uint32_t column = 0; ///< in characters, from 1
};

/// The template has something that is not understood, or refuses the conversation itself. The text says what would be
/// understood.
struct template_problem : std::runtime_error {
  template_problem(template_place where, const std::string& what, bool raised = false)
      : std::runtime_error(what), at(where), by_template(raised) {}
  template_place at;
  bool by_template; ///< the template itself refuses, by `raise_exception`
};

struct template_token {
  enum class kind { text, print_begin, print_end, block_begin, block_end, name, string, integer, fraction, sign, end };
  kind is = kind::end;
  std::string text; ///< of a string: without its quotes and escapes
  template_place at;
};
/// The tokens of a source; the last is `end`. Throws template_problem.
std::vector<template_token> template_tokens(std::string_view source);

struct template_expression;
using expression_ptr = std::unique_ptr<template_expression>;

/// A node of an expression. `kind` says which members it uses.
struct template_expression {
  enum class kind {
    string,      ///< `name` is its text
    integer,     ///< `number`
    fraction,    ///< `exact`
    boolean,     ///< `number`
    none,        //
    name,        ///< `name`
    list,        ///< `parts`
    tuple,       ///< `parts`
    map,         ///< `parts`: key, value, key, value
    attribute,   ///< parts[0].name
    item,        ///< parts[0][parts[1]]
    slice,       ///< parts[0][parts[1] : parts[2] : parts[3]]; the last three may be null
    call,        ///< parts[0](the other parts, `named`)
    filter,      ///< parts[0] | name(the other parts, `named`)
    test,        ///< parts[0] is name(the other parts)
    negative,    ///< -parts[0]
    negation,    ///< `not` parts[0]
    both,        ///< parts[0] `and` parts[1]
    either,      ///< parts[0] `or` parts[1]
    conditional, ///< parts[0] if parts[1], else parts[2], which may be null
    arithmetic,  ///< parts[0] `name` parts[1]
    joined,      ///< all parts, joined by ~
    comparison   ///< parts[0] operators[0] parts[1] operators[1] parts[2] ...
  };
  kind is = kind::none;
  template_place at;
  std::string name;
  std::int64_t number = 0;
  double exact = 0;
  std::vector<expression_ptr> parts;
  std::vector<std::pair<std::string, expression_ptr>> named;
  std::vector<std::string> operators;
  unsigned depth = 1; ///< levels of the tree from here down
};

struct template_statement;
using statements = std::vector<template_statement>;

/// A statement. `kind` says which members it uses.
struct template_statement {
  enum class kind {
    text,    ///< `text`
    print,   ///< `value`
    choice,  ///< `if`: `branches`, each with its condition; that of the last may be null (`else`)
    loop,    ///< `for` `targets` in `value` if `condition`; branches[0] is the body, branches[1] the `else`
    set,     ///< `targets`, or the `attribute` of the one target, become `value`
    capture, ///< targets[0] becomes the text that branches[0] writes
    scope,   ///< branches[0]; names that it sets end with it
    macro,   ///< targets[0] becomes a macro with `parameters` and the body branches[0]
    next,    ///< `continue`
    leave    ///< `break`
  };
  struct branch {
    expression_ptr condition;
    statements body;
  };
  kind is = kind::text;
  template_place at;
  std::string text;
  expression_ptr value;
  expression_ptr condition;
  std::vector<std::string> targets;
  std::string attribute;
  std::vector<branch> branches;
  struct parameter {
    std::string name;
    expression_ptr otherwise; ///< its default; may be null
  };
  std::vector<parameter> parameters;
};

/// The statements of a source. Throws template_problem, for too deep a nesting too (`template_nesting_max`).
statements parse_template(std::string_view source);

} // namespace troupe::gpu::models
