#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "gpu/models/templates/template_syntax.hpp"

namespace troupe::gpu::models {

/// Far above what published templates need; a hostile template must not use up the stack.
inline constexpr unsigned template_nesting_max = 100;

/// The tokens of a template, and the parsers' place in them.
class template_cursor {
public:
  using token_kind = template_token::kind;

  explicit template_cursor(std::string_view source) : tokens_(template_tokens(source)) {
    for (std::size_t i = 2; i < tokens_.size(); ++i)
      if (tokens_[i - 2].is == token_kind::block_begin && tokens_[i - 1].is == token_kind::name &&
          tokens_[i - 1].text == "macro" && tokens_[i].is == token_kind::name)
        macros_.push_back(tokens_[i].text);
  }

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
  /// Throws template_problem, which states what would be valid instead of the next token.
  [[noreturn]] void refuse(std::string_view valid) const;
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

  /// Whether the template has a macro of this name, here or further on.
  bool is_macro(std::string_view name) const { return std::ranges::find(macros_, name) != macros_.end(); }
  bool in_macro = false;

  /// While it lives, the parser is one level deeper. Throws template_problem beyond `template_nesting_max`.
  class deeper {
  public:
    explicit deeper(template_cursor& of) : of_(of) {
      if (++of_.depth_ > template_nesting_max)
        throw template_problem(of_.now().at, fmt::format("nested more than {} deep", template_nesting_max));
    }
    ~deeper() { --of_.depth_; }
    deeper(const deeper&) = delete;
    deeper& operator=(const deeper&) = delete;

  private:
    template_cursor& of_;
  };

private:
  std::vector<template_token> tokens_;
  std::vector<std::string> macros_;
  std::size_t next_ = 0;
  unsigned depth_ = 0;
};

/// An expression, with `A if B else C`.
expression_ptr parse_expression(template_cursor& tokens);
/// One expression, or a tuple of several with commas between them.
expression_ptr parse_expressions(template_cursor& tokens);
/// An expression without `A if B else C`, where an `if` begins something else.
expression_ptr parse_condition(template_cursor& tokens);

} // namespace troupe::gpu::models
