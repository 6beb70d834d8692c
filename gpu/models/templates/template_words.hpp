#pragma once

#include <array>
#include <ctime>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpu/models/templates/template_syntax.hpp"
#include "gpu/models/templates/template_value.hpp"

/// The functions, methods, filters and tests of Jinja and Python that chat templates use. A word that does nothing here
/// is refused when a template is read. Methods that are known by name alone are there for Jinja's rule that a method
/// comes before a key.
namespace troupe::gpu::models {

enum class word_kind { function, method, filter, test };
/// Whether a template may hold the word.
bool is_known(word_kind of, std::string_view name);
/// Those that may, for messages.
std::string understood_words(word_kind of);

/// What transformers gives a template where tokenizer_config.json states it. Where it states none, each tokenizer class
/// has a default of its own, so that a template that asks for one then is refused.
inline constexpr std::array<std::string_view, 7> special_token_names{"bos_token", "eos_token", "unk_token", "sep_token",
                                                                     "pad_token", "cls_token", "mask_token"};

struct template_arguments {
  template_place at;
  std::vector<template_value> given; ///< of filters and tests, the value itself first
  std::vector<std::pair<std::string, template_value>> named;
  const std::tm* now = nullptr; ///< the caller's clock
};

// All throw template_problem where there is no such word, or its arguments are of a form that is not understood.
template_value apply_filter(std::string_view name, const template_arguments& with);
bool apply_test(std::string_view name, const template_arguments& with);
template_value apply_method(const template_value& of, std::string_view name, const template_arguments& with);
/// What a name is that nobody has set. Throws template_problem for one that Jinja has and that is not understood.
template_value global(const std::string& name, template_place at);
template_value apply_function(std::string_view name, const template_arguments& with);

/// The members of a map as tuples.
value_list pairs_of(const template_value::map_box& map);

/// The text of a date as Python's strftime makes it in the C locale. Throws template_problem at what it does not know.
std::string date_text(const std::tm& now, std::string_view form, template_place at);

/// Whether a value of its kind has a method of this name.
bool has_method(const template_value& value, std::string_view name);

} // namespace troupe::gpu::models
