#pragma once

#include <initializer_list>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "gpu/models/templates/template_words.hpp"

/// How the functions behind filters, methods and tests are called, and the tables of these functions.
namespace troupe::gpu::models {

inline template_value text_value(marked_text text) {
  return template_value::of(std::move(text));
}
inline template_value whole_number(std::size_t number) {
  return {static_cast<std::int64_t>(number)};
}

/// A call of a filter, method or test (a word): its name, the value that it is applied to, and the other arguments.
struct template_call {
  std::string_view word;
  const template_value& of;
  std::span<const template_value> others;
  const template_arguments& with;

  /// These check the value and the arguments. All throw template_problem, which states what is valid.
  [[noreturn]] void refuse(std::string_view what, std::string_view valid) const;
  [[noreturn]] void bad(std::string_view valid) const;
  const marked_text& text() const;
  /// The value as Python's str() writes it, for a filter that takes any value. Text that is marked safe is refused,
  /// since Jinja would mark the result as safe too.
  marked_text any_text() const;
  const marked_text& text_at(std::size_t index) const;
  std::int64_t whole_at(std::size_t index) const;
  value_list elements() const;                           ///< what a loop over `of` yields
  void takes(std::size_t least, std::size_t most) const; ///< how many arguments without names
  /// The arguments with these names, each given by its name or by its place in this order; null: absent.
  std::vector<const template_value*> bind(std::initializer_list<std::string_view> names) const;
};

/// A filter or method, and its function.
struct template_word {
  std::string_view name;
  template_value (*apply)(const template_call&); ///< null: the name is known, but a call is refused
};
/// A test (`is NAME`), and its function.
struct template_test {
  std::string_view name;
  bool (*holds)(const template_call&);
};

std::span<const template_word> template_filters();
std::span<const template_word> text_methods();
std::span<const template_test> template_tests();

// Functions that filters and methods share.
template_value filter_trim(const template_call& one);
template_value filter_upper(const template_call& one);
template_value filter_lower(const template_call& one);
template_value filter_capitalize(const template_call& one);
template_value filter_title(const template_call& one);
template_value filter_replace(const template_call& one);
template_value filter_indent(const template_call& one);
template_value filter_escape(const template_call& one);
marked_text text_lowered(const template_call& one, const marked_text& text);
marked_text texts_joined(const template_call& one, const value_list& parts, const marked_text& between);
value_list text_reversed(const marked_text& text, template_place at);

} // namespace troupe::gpu::models
