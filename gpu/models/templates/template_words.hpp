#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpu/models/templates/template_syntax.hpp"
#include "gpu/models/templates/template_value.hpp"

/// The functions, methods, filters and tests of Jinja and Python that chat templates use. A word that stands in no list
/// is refused when a template is read. A few are known by name alone: published templates use them for tools, which a
/// question here never has; they are refused where they are reached.
namespace troupe::gpu::models {

enum class word_kind { function, method, filter, test };
/// Whether a template may hold the word at all.
bool is_known(word_kind of, std::string_view name);
/// Those that are understood wherever they stand, for messages.
std::string understood_words(word_kind of);

/// What transformers gives a template where tokenizer_config.json states it. Where it states none, each tokenizer class
/// has a default of its own, so that a template that asks for one then is refused.
inline constexpr std::array<std::string_view, 7> special_token_names{"bos_token", "eos_token", "unk_token", "sep_token",
                                                                     "pad_token", "cls_token", "mask_token"};

struct template_arguments {
  template_place at;
  std::vector<template_value> given; ///< of filters and tests, the value itself first
  std::vector<std::pair<std::string, template_value>> named;
};

// All throw template_problem where the word is known by name alone, or its arguments are of a form that is not
// understood.
template_value apply_filter(std::string_view name, const template_arguments& with);
bool apply_test(std::string_view name, const template_arguments& with);
template_value apply_method(const template_value& of, std::string_view name, const template_arguments& with);
/// What a name is that nobody has set. Throws template_problem for one that Jinja has and that is not understood.
template_value global(const std::string& name, template_place at);
template_value apply_function(std::string_view name, const template_arguments& with);

/// Whether a value of its kind has a method of this name.
bool has_method(const template_value& value, std::string_view name);

} // namespace troupe::gpu::models
