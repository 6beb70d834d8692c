#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>

#include "gpu/models/templates/template_syntax.hpp"
#include "gpu/models/templates/template_words.hpp"

namespace troupe::gpu::models {
namespace {

using kind = template_expression::kind;
using token_kind = template_token::kind;
using statement_kind = template_statement::kind;

/// Far above any published template; a hostile one must not use up the stack.
constexpr unsigned nesting_max = 100;

/// Makes `part`, which may be null, the last part of `whole`.
void adopt(template_expression& whole, expression_ptr part) {
  whole.depth = std::max(whole.depth, part ? part->depth + 1 : 0);
  if (whole.depth > 2 * nesting_max)
    throw template_problem(whole.at, fmt::format("an expression more than {} deep", 2 * nesting_max));
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

class parser {
public:
  explicit parser(std::string_view source) : tokens_(template_tokens(source)) {}

  statements all() {
    statements out = body({});
    return out;
  }

private:
  // tokens
  const template_token& now() const { return tokens_[next_]; }
  const template_token& after() const { return tokens_[std::min(next_ + 1, tokens_.size() - 1)]; }
  template_token take() { return next_ + 1 < tokens_.size() ? tokens_[next_++] : tokens_[next_]; }
  bool is_sign(std::string_view text) const { return now().is == token_kind::sign && now().text == text; }
  bool is_name(std::string_view text) const { return now().is == token_kind::name && now().text == text; }
  bool take_sign(std::string_view text) {
    const bool there = is_sign(text);
    next_ += there ? 1 : 0;
    return there;
  }
  bool take_name(std::string_view text) {
    const bool there = is_name(text);
    next_ += there ? 1 : 0;
    return there;
  }
  [[noreturn]] void refuse(std::string_view valid) const {
    const std::string is =
        now().is == token_kind::name || now().is == token_kind::sign || now().is == token_kind::integer
            ? fmt::format("\"{}\"", now().text)
        : now().is == token_kind::string ? "a text"
        : now().is == token_kind::end    ? "the end of the template"
                                         : "the end of the expression";
    throw template_problem(now().at, fmt::format("{}; understood here: {}", is, valid));
  }
  void expect_sign(std::string_view text) {
    if (!take_sign(text))
      refuse(fmt::format("\"{}\"", text));
  }
  void expect_name(std::string_view text) {
    if (!take_name(text))
      refuse(fmt::format("\"{}\"", text));
  }
  void expect(token_kind is, std::string_view called) {
    if (now().is != is)
      refuse(called);
    take();
  }
  std::string any_name() {
    if (now().is != token_kind::name)
      refuse("a name");
    return take().text;
  }

  /// Counts how deep the parser has gone, for as long as it lives.
  struct deeper {
    explicit deeper(parser& of) : of_(of) {
      if (++of_.depth_ > nesting_max)
        throw template_problem(of_.now().at, fmt::format("nested more than {} deep", nesting_max));
    }
    ~deeper() { --of_.depth_; }
    deeper(const deeper&) = delete;
    deeper& operator=(const deeper&) = delete;
    parser& of_;
  };

  // statements
  /// Up to a block that begins with one of `ends`, whose name is next; to the end where there are none.
  statements body(std::initializer_list<std::string_view> ends) {
    const deeper here{*this};
    statements out;
    for (;;) {
      if (now().is == token_kind::end) {
        if (ends.size() != 0)
          refuse(fmt::format("{}", fmt::join(ends, ", ")));
        return out;
      }
      template_statement one;
      one.at = now().at;
      if (now().is == token_kind::text) {
        one.text = take().text;
        out.push_back(std::move(one));
      } else if (now().is == token_kind::print_begin) {
        take();
        one.is = statement_kind::print;
        one.value = expression();
        expect(token_kind::print_end, "\"}}\"");
        out.push_back(std::move(one));
      } else {
        take(); // of a block
        if (now().is == token_kind::name && std::ranges::find(ends, now().text) != ends.end())
          return out;
        out.push_back(block(std::move(one)));
      }
    }
  }
  void end_block() { expect(token_kind::block_end, "\"%}\""); }

  template_statement block(template_statement one) {
    if (take_name("if"))
      return choice(std::move(one));
    if (take_name("for"))
      return loop(std::move(one));
    if (take_name("set"))
      return set(std::move(one));
    if (take_name("generation"))
      return generation(std::move(one));
    if (loops_ > 0 && (is_name("continue") || is_name("break"))) {
      one.is = take().text == "break" ? statement_kind::leave : statement_kind::next;
      end_block();
      return one;
    }
    refuse("a block of if, for, set or generation; continue and break in a for");
  }

  template_statement choice(template_statement one) {
    one.is = statement_kind::choice;
    for (bool more = true; more;) {
      auto condition = either();
      end_block();
      one.branches.push_back({std::move(condition), body({"elif", "else", "endif"})});
      more = take_name("elif");
    }
    if (take_name("else")) {
      end_block();
      one.branches.push_back({nullptr, body({"endif"})});
    }
    expect_name("endif");
    end_block();
    return one;
  }

  template_statement loop(template_statement one) {
    one.is = statement_kind::loop;
    one.targets.push_back(target());
    while (take_sign(","))
      one.targets.push_back(target());
    expect_name("in");
    one.value = either();
    if (take_name("if"))
      one.condition = expression();
    end_block();
    ++loops_;
    one.branches.push_back({nullptr, body({"else", "endfor"})});
    --loops_;
    if (take_name("else")) {
      end_block();
      one.branches.push_back({nullptr, body({"endfor"})});
    }
    expect_name("endfor");
    end_block();
    return one;
  }
  std::string target() {
    constexpr std::array<std::string_view, 7> reserved{"true", "false", "none", "True", "False", "None", "loop"};
    if (now().is == token_kind::name && std::ranges::find(reserved, now().text) != reserved.end())
      refuse("a name that Jinja does not keep for itself");
    return any_name();
  }

  template_statement set(template_statement one) {
    one.is = statement_kind::set;
    one.targets.push_back(target());
    if (take_sign("."))
      one.attribute = any_name();
    if (take_sign("=")) {
      one.value = expression();
      end_block();
      return one;
    }
    if (!one.attribute.empty())
      refuse("\"=\"");
    one.is = statement_kind::capture;
    end_block();
    one.branches.push_back({nullptr, body({"endset"})});
    expect_name("endset");
    end_block();
    return one;
  }

  /// The mark of transformers around what an assistant wrote; it writes nothing itself.
  template_statement generation(template_statement one) {
    one.is = statement_kind::scope;
    end_block();
    one.branches.push_back({nullptr, body({"endgeneration"})});
    expect_name("endgeneration");
    end_block();
    return one;
  }

  // expressions, from the loosest binding to the tightest
  expression_ptr expression() {
    const deeper here{*this};
    auto value = either();
    while (is_name("if")) {
      const template_place at = take().at;
      auto condition = either();
      expression_ptr otherwise;
      if (take_name("else"))
        otherwise = expression();
      value = make(kind::conditional, at, std::move(value), std::move(condition), std::move(otherwise));
    }
    return value;
  }
  expression_ptr either() {
    const deeper here{*this};
    auto left = both();
    while (is_name("or")) {
      const template_place at = take().at;
      left = make(kind::either, at, std::move(left), both());
    }
    return left;
  }
  expression_ptr both() {
    auto left = negation();
    while (is_name("and")) {
      const template_place at = take().at;
      left = make(kind::both, at, std::move(left), negation());
    }
    return left;
  }
  expression_ptr negation() {
    if (!is_name("not"))
      return comparison();
    const deeper here{*this};
    const template_place at = take().at;
    return make(kind::negation, at, negation());
  }
  expression_ptr comparison() {
    const template_place at = now().at;
    auto first = sum();
    std::vector<std::string> operators;
    std::vector<expression_ptr> others;
    for (;;) {
      if (now().is == token_kind::sign && std::ranges::find(compared_by, now().text) != compared_by.end())
        operators.push_back(take().text);
      else if (take_name("in"))
        operators.emplace_back("in");
      else if (is_name("not") && after().is == token_kind::name && after().text == "in")
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
    take();
    take();
    return "not in";
  }
  static constexpr std::array<std::string_view, 6> compared_by{"==", "!=", "<", "<=", ">", ">="};

  expression_ptr sum() {
    auto left = joined();
    while (is_sign("+") || is_sign("-"))
      left = arithmetic(std::move(left), &parser::joined);
    return left;
  }
  expression_ptr joined() {
    auto first = product();
    if (!is_sign("~"))
      return first;
    auto out = make(kind::joined, now().at, std::move(first));
    while (take_sign("~"))
      adopt(*out, product());
    return out;
  }
  expression_ptr product() {
    auto left = unary(true);
    while (is_sign("*") || is_sign("//") || is_sign("%"))
      left = arithmetic(std::move(left), &parser::filtered);
    return left;
  }
  expression_ptr filtered() { return unary(true); }
  expression_ptr arithmetic(expression_ptr left, expression_ptr (parser::*next)()) {
    const template_token sign = take();
    auto out = make(kind::arithmetic, sign.at, std::move(left), (this->*next)());
    out->name = sign.text;
    return out;
  }
  expression_ptr unary(bool with_filter) {
    const deeper here{*this};
    expression_ptr value;
    if (is_sign("-")) {
      const template_place at = take().at;
      value = make(kind::negative, at, unary(false));
    } else {
      value = primary();
    }
    value = postfix(std::move(value));
    return with_filter ? filters(std::move(value)) : std::move(value);
  }

  expression_ptr primary() {
    const template_token token = now();
    if (token.is == token_kind::name)
      return named_value(take());
    if (token.is == token_kind::string) {
      auto out = make(kind::string, token.at);
      while (now().is == token_kind::string)
        out->name += take().text;
      return out;
    }
    if (token.is == token_kind::integer) {
      auto out = make(kind::integer, take().at);
      std::from_chars(token.text.data(), token.text.data() + token.text.size(), out->number);
      return out;
    }
    if (take_sign("(")) {
      auto out = expression();
      if (is_sign(","))
        return tuple(token.at, std::move(out));
      expect_sign(")");
      return out;
    }
    if (take_sign("["))
      return list(token.at);
    if (take_sign("{"))
      return map(token.at);
    refuse("a name, a text, a whole number, a list or a map");
  }
  static expression_ptr named_value(const template_token& token) {
    const bool is_true = token.text == "true" || token.text == "True";
    if (is_true || token.text == "false" || token.text == "False") {
      auto out = make(kind::boolean, token.at);
      out->number = is_true ? 1 : 0;
      return out;
    }
    if (token.text == "none" || token.text == "None")
      return make(kind::none, token.at);
    auto out = make(kind::name, token.at);
    out->name = token.text;
    return out;
  }
  expression_ptr tuple(template_place at, expression_ptr first) {
    auto out = make(kind::list, at, std::move(first));
    while (take_sign(","))
      if (!is_sign(")"))
        adopt(*out, expression());
    expect_sign(")");
    return out;
  }
  expression_ptr list(template_place at) {
    auto out = make(kind::list, at);
    while (!take_sign("]")) {
      if (!out->parts.empty())
        expect_sign(",");
      if (!is_sign("]"))
        adopt(*out, expression());
    }
    return out;
  }
  expression_ptr map(template_place at) {
    auto out = make(kind::map, at);
    while (!take_sign("}")) {
      if (!out->parts.empty())
        expect_sign(",");
      if (is_sign("}"))
        continue;
      adopt(*out, expression());
      expect_sign(":");
      adopt(*out, expression());
    }
    return out;
  }

  expression_ptr postfix(expression_ptr value) {
    for (;;) {
      const template_place at = now().at;
      if (take_sign(".")) {
        value = make(kind::attribute, at, std::move(value));
        value->name = any_name();
      } else if (take_sign("[")) {
        value = item(std::move(value), at);
      } else if (is_sign("(")) {
        value = call(std::move(value));
      } else {
        return value;
      }
    }
  }
  expression_ptr item(expression_ptr of, template_place at) {
    std::array<expression_ptr, 3> bounds;
    std::size_t which = 0;
    while (!is_sign("]") && which < bounds.size()) {
      if (!is_sign(":"))
        bounds.at(which) = expression();
      if (is_sign("]"))
        break;
      expect_sign(":");
      ++which;
    }
    expect_sign("]");
    if (which > 0)
      return make(kind::slice, at, std::move(of), std::move(bounds[0]), std::move(bounds[1]), std::move(bounds[2]));
    if (!bounds[0])
      throw template_problem(at, "no index; understood here: one, or a slice");
    return make(kind::item, at, std::move(of), std::move(bounds[0]));
  }
  expression_ptr call(expression_ptr what) {
    const template_place at = what->at;
    judge_callee(*what);
    auto out = make(kind::call, at, std::move(what));
    arguments(*out);
    return out;
  }
  static void judge_callee(const template_expression& what) {
    const bool method = what.is == kind::attribute;
    if (!method && what.is != kind::name)
      throw template_problem(what.at, "a call of something else than a function or a method");
    judge_word(method ? word_kind::method : word_kind::function, method ? "method" : "function", what);
  }
  static void judge_word(word_kind is, std::string_view called, const template_expression& what) {
    if (!is_known(is, what.name))
      throw template_problem(what.at,
                             fmt::format("the {} {}; understood are {}", called, what.name, understood_words(is)));
  }
  void arguments(template_expression& of) {
    expect_sign("(");
    while (!take_sign(")")) {
      if (of.parts.size() > 1 || !of.named.empty())
        expect_sign(",");
      if (is_sign(")"))
        continue;
      if (now().is == token_kind::name && after().is == token_kind::sign && after().text == "=") {
        std::string name = take().text;
        take();
        of.named.emplace_back(std::move(name), expression());
        of.depth = std::max(of.depth, of.named.back().second->depth + 1);
      } else if (of.named.empty()) {
        adopt(of, expression());
      } else {
        refuse("an argument with its name, behind others with theirs");
      }
    }
  }

  expression_ptr filters(expression_ptr value) {
    for (;;) {
      if (take_sign("|"))
        value = filter(std::move(value));
      else if (is_name("is"))
        value = test(std::move(value));
      else
        return value;
    }
  }
  expression_ptr filter(expression_ptr of) {
    const template_place at = now().at;
    auto out = make(kind::filter, at, std::move(of));
    out->name = any_name();
    judge_word(word_kind::filter, "filter", *out);
    if (is_sign("("))
      arguments(*out);
    return out;
  }
  expression_ptr test(expression_ptr of) {
    take(); // "is"
    const bool negated = take_name("not");
    const template_place at = now().at;
    auto out = make(kind::test, at, std::move(of));
    out->name = any_name();
    judge_word(word_kind::test, "test", *out);
    if (is_sign("("))
      arguments(*out);
    else if (begins_argument())
      adopt(*out, postfix(primary()));
    else if (is_name("if") || is_name("not") || is_name("in") || is_name("is"))
      refuse("brackets around the test"); // Jinja would take this word for the test's argument
    return negated ? make(kind::negation, at, std::move(out)) : std::move(out);
  }
  bool begins_argument() const {
    if (now().is == token_kind::name)
      return !is_name("else") && !is_name("or") && !is_name("and") && !is_name("is") && !is_name("if") &&
             !is_name("not") && !is_name("in");
    return now().is == token_kind::string || now().is == token_kind::integer || is_sign("[") || is_sign("{");
  }

  std::vector<template_token> tokens_;
  std::size_t next_ = 0;
  unsigned depth_ = 0;
  unsigned loops_ = 0;
};

} // namespace

statements parse_template(std::string_view source) {
  return parser{source}.all();
}

} // namespace troupe::gpu::models
