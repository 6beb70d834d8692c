#include "gpu/models/templates/chat_template.hpp"

#include <fmt/format.h>

#include <array>
#include <optional>

#include "gpu/models/templates/template_run.hpp"
#include "gpu/models/templates/template_words.hpp"
#include "gpu/models/tokenizers/tokenizer_json.hpp"

namespace troupe::gpu::models {
namespace {

using protocols::chat_message;
using protocols::conversation;

struct found_template {
  std::string where;
  std::string text;
};

bool is_there(const std::filesystem::path& file) {
  std::error_code ignored;
  return exists(file, ignored);
}

/// The template of a file's "chat_template": a text, or a list of named ones whose "default" counts (the last, as in a
/// Python dict).
std::optional<std::string> template_of(const json_at& from) {
  if (from->is_null())
    return std::nullopt;
  if (!from->is_array())
    return from.text();
  std::optional<std::string> found;
  for (std::size_t i = 0; i < from->size(); ++i)
    if (from[i]["name"].text() == "default")
      found = from[i]["template"].text();
  if (!found)
    throw from.bad("a template, or a list that has one named \"default\"");
  return found;
}

std::optional<found_template> template_in(const std::filesystem::path& file) {
  if (!is_there(file))
    return std::nullopt;
  if (file.extension() == ".jinja")
    return found_template{file.string(), read_text(file)};
  const nlohmann::json object = read_tokenizer_json(file);
  auto text = template_of(json_at{object, file.string()}["chat_template"]);
  if (!text)
    return std::nullopt;
  return found_template{file.string() + ": chat_template", *std::move(text)};
}

found_template find_template(const std::filesystem::path& folder, bool has_vision) {
  // A processor reads other files than a tokenizer alone does.
  constexpr std::array<std::string_view, 4> of_processor{"chat_template.jinja", "chat_template.json",
                                                         "processor_config.json", "tokenizer_config.json"};
  constexpr std::array<std::string_view, 4> of_tokenizer{"chat_template.jinja", "tokenizer_config.json",
                                                         "chat_template.json", "processor_config.json"};
  for (const std::string_view name : has_vision ? of_processor : of_tokenizer)
    if (auto found = template_in(folder / name))
      return *std::move(found);
  throw bad_file(fmt::format("{}: chat_template is missing; valid is a Jinja template, here or in chat_template.jinja",
                             (folder / "tokenizer_config.json").string()));
}

/// A token of tokenizer_config.json: its text, or an object with it; undefined where it is null.
template_value token_value(const json_at& token, const std::string& name) {
  if (token->is_null())
    return {template_value::undefined{name}};
  return template_value::of(token->is_object() ? token["content"].text() : token.text());
}

/// The special tokens by the names under which a template asks for them.
value_map special_tokens(const std::filesystem::path& folder) {
  value_map out;
  const auto file = folder / "tokenizer_config.json";
  if (!is_there(file))
    return out;
  const nlohmann::json object = read_tokenizer_json(file);
  const json_at from{object, file.string()};
  for (const std::string_view name : special_token_names)
    if (const std::string key{name}; object.contains(key))
      out.emplace_back(key, token_value(from[key], key));
  return out;
}

/// Whether a user's words stand in a prompt, in one piece.
bool has_words(const marked_text& prompt, std::string_view words) {
  std::string of_user;
  for (std::size_t i = 0; i < prompt.bytes().size(); ++i)
    of_user += prompt.of_user(i) ? std::string{prompt.bytes()[i]} : "";
  return of_user.find(words) != std::string::npos;
}

} // namespace

chat_template::chat_template(std::string where, std::string_view text, value_map names)
    : where_(std::move(where)), names_(std::move(names)) {
  try {
    program_ = parse_template(text);
  } catch (const template_problem& problem) {
    throw bad_file(place_of(problem));
  }
}

chat_template chat_template::read(const std::filesystem::path& folder, bool has_vision) {
  const found_template found = find_template(folder, has_vision);
  chat_template out{found.where, found.text, special_tokens(folder)};
  out.try_out();
  return out;
}

namespace {

constexpr std::string_view trial_words = "Hello";

chat_message trial_turn(const char* role, bool in_parts) {
  return {.role = role,
          .content = {{.is = protocols::chat_part_kind::text, .text = std::string{trial_words}}},
          .in_parts = in_parts,
          .name = {},
          .reasoning_content = {},
          .more = {}};
}
conversation trial(std::vector<chat_message> messages) {
  conversation out;
  out.messages = std::move(messages);
  return out;
}
/// A list of parts that was written out or made JSON of, which no model was taught.
bool is_spelled(const std::string& prompt) {
  return prompt.find("'type': 'text'") != std::string::npos || prompt.find("\"type\":") != std::string::npos;
}

} // namespace

/// Text models' templates take a text, those of models with pictures a list of parts, most of them either. One turn
/// must work in some form. Of three, a template may say that it takes none, but what is not understood is said at once.
void chat_template::try_out() {
  std::optional<template_problem> problem;
  bool any = false;
  for (const bool in_parts : {false, true}) {
    bool& taken = in_parts ? forms_.parts : forms_.texts;
    try {
      const marked_text prompt = run(trial({trial_turn("user", in_parts)}), {}, trial_day());
      taken = has_words(prompt, trial_words) && !(in_parts && is_spelled(prompt.bytes()));
    } catch (const template_problem& met) {
      taken = false;
      problem = problem ? problem : met;
    }
    any = any || taken;
  }
  if (!any)
    throw bad_file(problem
                       ? place_of(*problem)
                       : where_ + ": leaves a user's words out of the prompt; valid is a template that writes them");
  try {
    const bool in_parts = !forms_.texts;
    (void)render( // what it gives is of no interest, only that it does
        trial({trial_turn("user", in_parts), trial_turn("assistant", in_parts), trial_turn("user", in_parts)}),
        trial_day());
  } catch (const template_problem& met) {
    if (!met.by_template)
      throw bad_file(place_of(met));
  }
}

std::tm chat_template::trial_day() {
  std::tm out{};
  out.tm_year = 126;
  out.tm_mday = 1;
  out.tm_wday = 4;
  return out;
}

marked_text chat_template::render(const conversation& what, const std::tm& now) const {
  return run(what, forms_, now);
}

marked_text chat_template::run(const conversation& what, content_forms forms, const std::tm& now) const {
  return run_template(program_, template_names(what, forms, names_), now);
}

std::string chat_template::place_of(const template_problem& problem) const {
  return fmt::format("{}, line {}, column {}: {}", where_, problem.at.line, problem.at.column, problem.what());
}

} // namespace troupe::gpu::models
