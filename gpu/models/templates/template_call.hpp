#pragma once

#include <span>
#include <string_view>
#include <utility>

#include "gpu/models/templates/template_words.hpp"

/// For the words that templates use: what a word is called with, and the words of texts.
namespace troupe::gpu::models {

inline template_value text_value(marked_text text) {
  return {std::move(text)};
}
inline template_value whole_number(std::size_t number) {
  return {static_cast<std::int64_t>(number)};
}

/// What a function of a word gets: the word, the value that it is said of, the other arguments.
struct template_call {
  std::string_view word;
  const template_value& of;
  std::span<const template_value> others;
  const template_arguments& with;

  /// All throw template_problem, which states what is valid.
  [[noreturn]] void refuse(std::string_view what, std::string_view valid) const;
  [[noreturn]] void bad(std::string_view valid) const;
  const marked_text& text() const;
  const marked_text& text_at(std::size_t index) const;
  void takes(std::size_t least, std::size_t most) const; ///< arguments without names
};

enum class text_ends { both, front, back };
/// Python's strip of `text`: of white space, or of all characters that the argument has.
marked_text stripped(const template_call& one, const marked_text& text, text_ends which);

enum class letter_case { upper, lower, capital };
/// Changes letters of ASCII; others have rules of their own, and are refused.
marked_text cased(const template_call& one, letter_case to);

value_list split(const template_call& one);
marked_text replaced(const template_call& one);

} // namespace troupe::gpu::models
