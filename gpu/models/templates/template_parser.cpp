#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <initializer_list>

#include "gpu/models/templates/template_cursor.hpp"

namespace troupe::gpu::models {
namespace {

using token_kind = template_token::kind;
using statement_kind = template_statement::kind;

/// Of statements; what stands in them is parsed by `parse_expression`.
class parser {
public:
  explicit parser(std::string_view source) : tokens_(source) {}

  statements all() { return body({}); }

private:
  /// Up to a block that begins with one of `ends`, whose name is next; to the end where there are none.
  statements body(std::initializer_list<std::string_view> ends) {
    const template_cursor::deeper here{tokens_};
    statements out;
    for (;;) {
      if (tokens_.now().is == token_kind::end) {
        if (ends.size() != 0)
          tokens_.refuse(fmt::format("{}", fmt::join(ends, ", ")));
        return out;
      }
      template_statement one;
      one.at = tokens_.now().at;
      if (tokens_.now().is == token_kind::text) {
        one.text = tokens_.take().text;
        out.push_back(std::move(one));
      } else if (tokens_.now().is == token_kind::print_begin) {
        tokens_.take();
        one.is = statement_kind::print;
        one.value = parse_expression(tokens_);
        tokens_.expect(token_kind::print_end, "\"}}\"");
        out.push_back(std::move(one));
      } else {
        tokens_.take(); // of a block
        if (tokens_.now().is == token_kind::name && std::ranges::find(ends, tokens_.now().text) != ends.end())
          return out;
        out.push_back(block(std::move(one)));
      }
    }
  }
  void end_block() { tokens_.expect(token_kind::block_end, "\"%}\""); }

  template_statement block(template_statement one) {
    if (tokens_.take_name("if"))
      return choice(std::move(one));
    if (tokens_.take_name("for"))
      return loop(std::move(one));
    if (tokens_.take_name("set"))
      return set(std::move(one));
    if (tokens_.take_name("generation"))
      return generation(std::move(one));
    if (scopes_ == 0 && tokens_.take_name("macro"))
      return macro(std::move(one));
    if (loops_ > 0 && (tokens_.is_name("continue") || tokens_.is_name("break"))) {
      one.is = tokens_.take().text == "break" ? statement_kind::leave : statement_kind::next;
      end_block();
      return one;
    }
    tokens_.refuse("a block of if, for, set or generation; macro outside of the others but if; continue and break in a "
                   "for");
  }

  template_statement choice(template_statement one) {
    one.is = statement_kind::choice;
    for (bool more = true; more;) {
      auto condition = parse_condition(tokens_);
      end_block();
      one.branches.push_back({std::move(condition), body({"elif", "else", "endif"})});
      more = tokens_.take_name("elif");
    }
    if (tokens_.take_name("else")) {
      end_block();
      one.branches.push_back({nullptr, body({"endif"})});
    }
    tokens_.expect_name("endif");
    end_block();
    return one;
  }

  template_statement loop(template_statement one) {
    one.is = statement_kind::loop;
    const bool brackets = tokens_.take_sign("(");
    one.targets.push_back(target());
    while (tokens_.take_sign(","))
      one.targets.push_back(target());
    if (brackets)
      tokens_.expect_sign(")");
    tokens_.expect_name("in");
    one.value = parse_condition(tokens_);
    if (tokens_.take_name("if"))
      one.condition = parse_expression(tokens_);
    end_block();
    ++loops_;
    one.branches.push_back({nullptr, inner_body({"else", "endfor"})});
    --loops_;
    if (tokens_.take_name("else")) {
      end_block();
      one.branches.push_back({nullptr, inner_body({"endfor"})});
    }
    tokens_.expect_name("endfor");
    end_block();
    return one;
  }
  std::string target() {
    constexpr std::array<std::string_view, 7> reserved{"true", "false", "none", "True", "False", "None", "loop"};
    if (tokens_.now().is == token_kind::name && tokens_.is_macro(tokens_.now().text))
      tokens_.refuse("a name that is no macro's");
    if (tokens_.now().is == token_kind::name && std::ranges::find(reserved, tokens_.now().text) != reserved.end())
      tokens_.refuse("a name that Jinja does not keep for itself");
    return tokens_.any_name();
  }

  template_statement set(template_statement one) {
    one.is = statement_kind::set;
    one.targets.push_back(target());
    if (tokens_.take_sign("."))
      one.attribute = tokens_.any_name();
    while (one.attribute.empty() && tokens_.take_sign(","))
      one.targets.push_back(target());
    if (tokens_.take_sign("=")) {
      one.value = parse_expressions(tokens_);
      end_block();
      return one;
    }
    if (!one.attribute.empty() || one.targets.size() > 1)
      tokens_.refuse("\"=\"");
    one.is = statement_kind::capture;
    end_block();
    one.branches.push_back({nullptr, inner_body({"endset"})});
    tokens_.expect_name("endset");
    end_block();
    return one;
  }

  /// The mark of transformers around what an assistant wrote; it writes nothing itself.
  template_statement generation(template_statement one) {
    one.is = statement_kind::scope;
    end_block();
    one.branches.push_back({nullptr, inner_body({"endgeneration"})});
    tokens_.expect_name("endgeneration");
    end_block();
    return one;
  }

  /// What it writes is found where the macro stands and not where it is called.
  template_statement macro(template_statement one) {
    one.is = statement_kind::macro;
    one.targets.push_back(tokens_.any_name());
    tokens_.expect_sign("(");
    while (!tokens_.take_sign(")")) {
      if (!one.parameters.empty())
        tokens_.expect_sign(",");
      one.parameters.push_back({target(), nullptr});
      if (tokens_.take_sign("="))
        one.parameters.back().otherwise = parse_expression(tokens_);
      else if (one.parameters.size() > 1 && one.parameters[one.parameters.size() - 2].otherwise)
        tokens_.refuse("\"=\", as behind the parameter before");
    }
    end_block();
    tokens_.in_macro = true;
    one.branches.push_back({nullptr, inner_body({"endmacro"})});
    tokens_.in_macro = false;
    tokens_.expect_name("endmacro");
    end_block();
    return one;
  }

  statements inner_body(std::initializer_list<std::string_view> ends) {
    ++scopes_;
    statements out = body(ends);
    --scopes_;
    return out;
  }

  template_cursor tokens_;
  unsigned loops_ = 0;
  unsigned scopes_ = 0; ///< blocks around this one that have names of their own
};

} // namespace

void template_cursor::refuse(std::string_view valid) const {
  const std::string is = now().is == token_kind::name || now().is == token_kind::sign ||
                                 now().is == token_kind::integer || now().is == token_kind::fraction
                             ? fmt::format("\"{}\"", now().text)
                         : now().is == token_kind::string ? "a text"
                         : now().is == token_kind::end    ? "the end of the template"
                                                          : "the end of the expression";
  throw template_problem(now().at, fmt::format("{}; understood here: {}", is, valid));
}

statements parse_template(std::string_view source) {
  return parser{source}.all();
}

} // namespace troupe::gpu::models
