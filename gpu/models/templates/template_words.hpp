#pragma once

#include <array>
#include <ctime>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpu/models/templates/template_syntax.hpp"
#include "gpu/models/templates/template_value.hpp"

/// The functions, methods, filters and tests of Jinja and Python that chat templates use. A template with any other
/// word is refused when it is read. Some methods are known by name only: in Jinja a method takes precedence over a key,
/// so `x.NAME` with such a name must not be read as a key.
namespace troupe::gpu::models {

enum class word_kind { function, method, filter, test };
/// Whether a template may use the word.
bool is_known(word_kind of, std::string_view name);
/// The words that a template may use, for messages.
std::string understood_words(word_kind of);

/// The names that transformers gives a template if tokenizer_config.json states them. For one that is not stated, each
/// tokenizer class has a default of its own; a template that uses it is refused.
inline constexpr std::array<std::string_view, 7> special_token_names{"bos_token", "eos_token", "unk_token", "sep_token",
                                                                     "pad_token", "cls_token", "mask_token"};

/// The arguments of a call in a template.
struct template_arguments {
  template_place at;
  std::vector<template_value> given; ///< without names; for filters and tests the value itself comes first
  std::vector<std::pair<std::string, template_value>> named;
  const std::tm* now = nullptr; ///< the caller's date
};

// All throw template_problem if there is no such word, or if it does not take these arguments.
template_value apply_filter(std::string_view name, const template_arguments& with);
bool apply_test(std::string_view name, const template_arguments& with);
template_value apply_method(const template_value& of, std::string_view name, const template_arguments& with);
/// The value of a name that the template has not set. Throws template_problem for a name that Jinja defines and that is
/// not understood here.
template_value global(const std::string& name, template_place at);
template_value apply_function(std::string_view name, const template_arguments& with);

/// The members of a map as tuples of key and value.
value_list pairs_of(const template_value::map_box& map);

/// The text that Python's strftime makes in the C locale. Throws template_problem for a directive that it does not
/// know.
std::string date_text(const std::tm& now, std::string_view form, template_place at);

/// Whether values of this kind have a method of this name.
bool has_method(const template_value& value, std::string_view name);

} // namespace troupe::gpu::models
