#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "gpu/models/templates/template_cursor.hpp"
#include "gpu/models/templates/template_words.hpp"

namespace troupe::gpu::models {
namespace {

using kind = template_expression::kind;
using token_kind = template_token::kind;

/// Makes `part`, which may be null, the last part of `whole`.
void adopt(template_expression& whole, expression_ptr part) {
  whole.depth = std::max(whole.depth, part ? part->depth + 1 : 0);
  if (whole.depth > 2 * template_nesting_max)
    throw template_problem(whole.at, fmt::format("an expression more than {} deep", 2 * template_nesting_max));
  whole.parts.push_back(std::move(part));
}

template <class... Parts>
expression_ptr make(kind is, template_place at, Parts... parts) {
  auto out = std::make_unique<template_expression>();
  out->is = is;
  out->at = at;
  (adopt(*out, std::move(parts)), ...);
  return out;
}

/// From the loosest binding to the tightest.
class expression_parser {
public:
  explicit expression_parser(template_cursor& tokens) : tokens_(tokens) {}

  expression_ptr expression() {
    const template_cursor::deeper here{tokens_};
    auto value = either();
    while (tokens_.is_name("if")) {
      const template_place at = tokens_.take().at;
      auto condition = either();
      expression_ptr otherwise;
      if (tokens_.take_name("else"))
        otherwise = expression();
      value = make(kind::conditional, at, std::move(value), std::move(condition), std::move(otherwise));
    }
    return value;
  }
  expression_ptr either() {
    const template_cursor::deeper here{tokens_};
    auto left = both();
    while (tokens_.is_name("or")) {
      const template_place at = tokens_.take().at;
      left = make(kind::either, at, std::move(left), both());
    }
    return left;
  }
  expression_ptr both() {
    auto left = negation();
    while (tokens_.is_name("and")) {
      const template_place at = tokens_.take().at;
      left = make(kind::both, at, std::move(left), negation());
    }
    return left;
  }
  expression_ptr negation() {
    if (!tokens_.is_name("not"))
      return comparison();
    const template_cursor::deeper here{tokens_};
    const template_place at = tokens_.take().at;
    return make(kind::negation, at, negation());
  }
  expression_ptr comparison() {
    const template_place at = tokens_.now().at;
    auto first = sum();
    std::vector<std::string> operators;
    std::vector<expression_ptr> others;
    for (;;) {
      if (tokens_.now().is == token_kind::sign &&
          std::ranges::find(compared_by, tokens_.now().text) != compared_by.end())
        operators.push_back(tokens_.take().text);
      else if (tokens_.take_name("in"))
        operators.emplace_back("in");
      else if (tokens_.is_name("not") && tokens_.after().is == token_kind::name && tokens_.after().text == "in")
        operators.push_back(not_in());
      else
        break;
      others.push_back(sum());
    }
    if (operators.empty())
      return first;
    auto out = make(kind::comparison, at, std::move(first));
    for (expression_ptr& each : others)
      adopt(*out, std::move(each));
    out->operators = std::move(operators);
    return out;
  }
  std::string not_in() {
    tokens_.take();
    tokens_.take();
    return "not in";
  }
  static constexpr std::array<std::string_view, 6> compared_by{"==", "!=", "<", "<=", ">", ">="};

  expression_ptr sum() {
    auto left = joined();
    while (tokens_.is_sign("+") || tokens_.is_sign("-"))
      left = arithmetic(std::move(left), &expression_parser::joined);
    return left;
  }
  expression_ptr joined() {
    auto first = product();
    if (!tokens_.is_sign("~"))
      return first;
    auto out = make(kind::joined, tokens_.now().at, std::move(first));
    while (tokens_.take_sign("~"))
      adopt(*out, product());
    return out;
  }
  expression_ptr product() {
    auto left = power();
    while (tokens_.is_sign("*") || tokens_.is_sign("/") || tokens_.is_sign("//") || tokens_.is_sign("%"))
      left = arithmetic(std::move(left), &expression_parser::power);
    return left;
  }
  expression_ptr power() {
    auto left = filtered();
    while (tokens_.is_sign("**"))
      left = arithmetic(std::move(left), &expression_parser::filtered);
    return left;
  }
  expression_ptr filtered() { return unary(true); }
  expression_ptr arithmetic(expression_ptr left, expression_ptr (expression_parser::*next)()) {
    const template_token sign = tokens_.take();
    auto out = make(kind::arithmetic, sign.at, std::move(left), (this->*next)());
    out->name = sign.text;
    return out;
  }
  expression_ptr unary(bool with_filter) {
    const template_cursor::deeper here{tokens_};
    expression_ptr value;
    if (tokens_.is_sign("-")) {
      const template_place at = tokens_.take().at;
      value = make(kind::negative, at, unary(false));
    } else if (tokens_.is_sign("+")) {
      tokens_.refuse("a value without this sign");
    } else {
      value = primary();
    }
    value = postfix(std::move(value));
    return with_filter ? filters(std::move(value)) : std::move(value);
  }

  expression_ptr primary() {
    const template_token token = tokens_.now();
    if (token.is == token_kind::name)
      return named_value(tokens_.take());
    if (token.is == token_kind::string) {
      auto out = make(kind::string, token.at);
      while (tokens_.now().is == token_kind::string)
        out->name += tokens_.take().text;
      return out;
    }
    if (token.is == token_kind::integer) {
      auto out = make(kind::integer, tokens_.take().at);
      std::from_chars(token.text.data(), token.text.data() + token.text.size(), out->number);
      return out;
    }
    if (token.is == token_kind::fraction) {
      auto out = make(kind::fraction, tokens_.take().at);
      std::from_chars(token.text.data(), token.text.data() + token.text.size(), out->exact);
      return out;
    }
    if (tokens_.take_sign("(")) {
      if (tokens_.take_sign(")"))
        return make(kind::tuple, token.at);
      auto out = expression();
      if (tokens_.is_sign(","))
        return tuple(token.at, std::move(out));
      tokens_.expect_sign(")");
      return out;
    }
    if (tokens_.take_sign("["))
      return list(token.at);
    if (tokens_.take_sign("{"))
      return map(token.at);
    tokens_.refuse("a name, a text, a whole number, a list or a map");
  }
  expression_ptr named_value(const template_token& token) {
    const bool is_true = token.text == "true" || token.text == "True";
    if (is_true || token.text == "false" || token.text == "False") {
      auto out = make(kind::boolean, token.at);
      out->number = is_true ? 1 : 0;
      return out;
    }
    if (token.text == "none" || token.text == "None")
      return make(kind::none, token.at);
    if (tokens_.in_macro && (token.text == "caller" || token.text == "varargs" || token.text == "kwargs"))
      throw template_problem(token.at,
                             fmt::format("{} in a macro; understood are the parameters that it names", token.text));
    auto out = make(kind::name, token.at);
    out->name = token.text;
    return out;
  }
  expression_ptr tuple(template_place at, expression_ptr first) {
    auto out = make(kind::tuple, at, std::move(first));
    while (tokens_.take_sign(","))
      if (!tokens_.is_sign(")"))
        adopt(*out, expression());
    tokens_.expect_sign(")");
    return out;
  }
  expression_ptr list(template_place at) {
    auto out = make(kind::list, at);
    while (!tokens_.take_sign("]")) {
      if (!out->parts.empty())
        tokens_.expect_sign(",");
      if (!tokens_.is_sign("]"))
        adopt(*out, expression());
    }
    return out;
  }
  expression_ptr map(template_place at) {
    auto out = make(kind::map, at);
    while (!tokens_.take_sign("}")) {
      if (!out->parts.empty())
        tokens_.expect_sign(",");
      if (tokens_.is_sign("}"))
        continue;
      adopt(*out, expression());
      tokens_.expect_sign(":");
      adopt(*out, expression());
    }
    return out;
  }

  expression_ptr postfix(expression_ptr value) {
    for (;;) {
      const template_place at = tokens_.now().at;
      if (tokens_.is_sign(".") && tokens_.after().is == token_kind::integer) {
        tokens_.take();
        value = make(kind::item, at, std::move(value), primary());
      } else if (tokens_.take_sign(".")) {
        value = make(kind::attribute, at, std::move(value));
        value->name = tokens_.any_name();
      } else if (tokens_.take_sign("[")) {
        value = item(std::move(value), at);
      } else if (tokens_.is_sign("(")) {
        value = call(std::move(value));
      } else {
        return value;
      }
    }
  }
  expression_ptr item(expression_ptr of, template_place at) {
    std::array<expression_ptr, 3> bounds;
    std::size_t which = 0;
    while (!tokens_.is_sign("]") && which < bounds.size()) {
      if (!tokens_.is_sign(":"))
        bounds.at(which) = expression();
      if (tokens_.is_sign("]"))
        break;
      tokens_.expect_sign(":");
      ++which;
    }
    tokens_.expect_sign("]");
    if (which > 0)
      return make(kind::slice, at, std::move(of), std::move(bounds[0]), std::move(bounds[1]), std::move(bounds[2]));
    if (!bounds[0])
      throw template_problem(at, "no index; understood here: one, or a slice");
    return make(kind::item, at, std::move(of), std::move(bounds[0]));
  }
  expression_ptr call(expression_ptr what) {
    const template_place at = what->at;
    check_callee(*what);
    auto out = make(kind::call, at, std::move(what));
    arguments(*out);
    return out;
  }
  void check_callee(const template_expression& what) const {
    const bool method = what.is == kind::attribute;
    if (!method && what.is != kind::name)
      throw template_problem(what.at, "a call of something else than a function or a method");
    if (!method && tokens_.is_macro(what.name))
      return;
    check_word(method ? word_kind::method : word_kind::function, method ? "method" : "function", what);
  }
  static void check_word(word_kind is, std::string_view called, const template_expression& what) {
    if (!is_known(is, what.name))
      throw template_problem(what.at,
                             fmt::format("the {} {}; understood are {}", called, what.name, understood_words(is)));
  }
  void arguments(template_expression& of) {
    tokens_.expect_sign("(");
    while (!tokens_.take_sign(")")) {
      if (of.parts.size() > 1 || !of.named.empty())
        tokens_.expect_sign(",");
      if (tokens_.is_sign(")"))
        continue;
      if (tokens_.now().is == token_kind::name && tokens_.after().is == token_kind::sign &&
          tokens_.after().text == "=") {
        std::string name = tokens_.take().text;
        tokens_.take();
        of.named.emplace_back(std::move(name), expression());
        of.depth = std::max(of.depth, of.named.back().second->depth + 1);
      } else if (of.named.empty()) {
        adopt(of, expression());
      } else {
        tokens_.refuse("an argument with its name, behind others with theirs");
      }
    }
  }

  expression_ptr filters(expression_ptr value) {
    for (;;) {
      if (tokens_.take_sign("|"))
        value = filter(std::move(value));
      else if (tokens_.is_name("is"))
        value = test(std::move(value));
      else
        return value;
    }
  }
  expression_ptr filter(expression_ptr of) {
    const template_place at = tokens_.now().at;
    auto out = make(kind::filter, at, std::move(of));
    out->name = tokens_.any_name();
    check_word(word_kind::filter, "filter", *out);
    if (tokens_.is_sign("("))
      arguments(*out);
    check_words_in(*out);
    return out;
  }
  /// A filter or a test that is the argument of a filter.
  static void check_words_in(const template_expression& filter) {
    const bool maps = filter.name == "map";
    const bool by_attribute = filter.name == "selectattr" || filter.name == "rejectattr";
    if (!maps && !by_attribute && filter.name != "select" && filter.name != "reject")
      return;
    const std::size_t at = by_attribute ? 2 : 1;
    if (filter.parts.size() > at && filter.parts[at]->is == kind::string)
      check_word(maps ? word_kind::filter : word_kind::test, maps ? "filter" : "test", *filter.parts[at]);
  }
  expression_ptr test(expression_ptr of) {
    tokens_.take(); // "is"
    const bool negated = tokens_.take_name("not");
    const template_place at = tokens_.now().at;
    auto out = make(kind::test, at, std::move(of));
    out->name = tokens_.any_name();
    check_word(word_kind::test, "test", *out);
    if (tokens_.is_sign("("))
      arguments(*out);
    else if (begins_argument())
      adopt(*out, postfix(primary()));
    else if (tokens_.is_name("if") || tokens_.is_name("not") || tokens_.is_name("in") || tokens_.is_name("is"))
      tokens_.refuse("brackets around the test"); // Jinja would take this word for the test's argument
    return negated ? make(kind::negation, at, std::move(out)) : std::move(out);
  }
  bool begins_argument() const {
    if (tokens_.now().is == token_kind::name)
      return !tokens_.is_name("else") && !tokens_.is_name("or") && !tokens_.is_name("and") && !tokens_.is_name("is") &&
             !tokens_.is_name("if") && !tokens_.is_name("not") && !tokens_.is_name("in");
    return tokens_.now().is == token_kind::string || tokens_.now().is == token_kind::integer ||
           tokens_.now().is == token_kind::fraction || tokens_.is_sign("[") || tokens_.is_sign("{");
  }

  template_cursor& tokens_;
};

} // namespace

expression_ptr parse_expression(template_cursor& tokens) {
  return expression_parser{tokens}.expression();
}

expression_ptr parse_expressions(template_cursor& tokens) {
  auto out = parse_expression(tokens);
  if (!tokens.is_sign(","))
    return out;
  const template_place at = out->at;
  out = make(kind::tuple, at, std::move(out));
  while (tokens.take_sign(","))
    adopt(*out, parse_expression(tokens));
  return out;
}

expression_ptr parse_condition(template_cursor& tokens) {
  return expression_parser{tokens}.either();
}

} // namespace troupe::gpu::models
