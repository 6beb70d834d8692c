#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// The part of Jinja that chat templates are written in, read into a tree. What is read means here exactly what it
/// means in Jinja with trim_blocks and lstrip_blocks, as transformers sets them; everything else is refused with its
/// place. Contract: K10.
namespace troupe::gpu::models {

struct template_place {
  std::uint32_t line = 0;
  std::uint32_t column = 0; ///< in characters, from 1
};

/// Something that is not understood, or that the template itself refuses; the text says what would be understood.
struct template_problem : std::runtime_error {
  template_problem(template_place where, const std::string& what, bool raised = false)
      : std::runtime_error(what), at(where), by_template(raised) {}
  template_place at;
  bool by_template; ///< the template refuses; it is understood
};

struct template_token {
  enum class kind { text, print_begin, print_end, block_begin, block_end, name, string, integer, fraction, sign, end };
  kind is = kind::end;
  std::string text; ///< of a string: without its quotes and escapes
  template_place at;
};
/// Ends with one `end`. Throws template_problem.
std::vector<template_token> template_tokens(std::string_view source);

struct template_expression;
using expression_ptr = std::unique_ptr<template_expression>;

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
    attribute,   ///< of parts[0], `name`
    item,        ///< of parts[0], at parts[1]
    slice,       ///< of parts[0], from parts[1] to parts[2] by parts[3]; each may be null
    call,        ///< of parts[0] with the others, then `named`
    filter,      ///< `name` of parts[0] with the others, then `named`
    test,        ///< `name` of parts[0] with the others
    negative,    ///< of parts[0]
    negation,    ///< `not` parts[0]
    both,        ///< parts[0] `and` parts[1]
    either,      ///< parts[0] `or` parts[1]
    conditional, ///< parts[0] if parts[1], else parts[2], which may be null
    arithmetic,  ///< parts[0] `name` parts[1]
    joined,      ///< all parts, with ~
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
  unsigned depth = 1; ///< of the tree below it, itself included
};

struct template_statement;
using statements = std::vector<template_statement>;

struct template_statement {
  enum class kind {
    text,    ///< `text`
    print,   ///< `value`
    choice,  ///< `branches`, each with its condition; the last one's may be null
    loop,    ///< over `value`, where `condition` holds; `targets`; branches[0] is the body, branches[1] the else
    set,     ///< `targets` (or the `attribute` of the one) to `value`
    capture, ///< targets[0] to what branches[0] writes
    scope,   ///< branches[0] with names of its own
    macro,   ///< targets[0] to what writes branches[0], called with `parameters`
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
    expression_ptr otherwise; ///< may be null
  };
  std::vector<parameter> parameters;
};

/// Throws template_problem. Nesting is bounded.
statements parse_template(std::string_view source);

} // namespace troupe::gpu::models
