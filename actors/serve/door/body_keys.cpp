#include "actors/serve/door/body_keys.hpp"

#include <algorithm>
#include <array>

#include "runtime/base/nearest.hpp"

namespace troupe::actors {

using door::json_kind;
using door::json_value;

namespace {

/// Keys that clients send by default, and that have no effect here.
constexpr std::array<std::string_view, 4> without_effect{"user", "metadata", "store", "service_tier"};

struct refused_key {
  std::string_view name;
  std::string_view why;
};
/// Keys of the API that this service does not offer.
constexpr std::array<refused_key, 20> not_offered{{
    {"tools", "tools are not offered"},
    {"tool_choice", "tools are not offered"},
    {"parallel_tool_calls", "tools are not offered"},
    {"functions", "tools are not offered"},
    {"function_call", "tools are not offered"},
    {"audio", "sound is not offered"},
    {"modalities", "answers are text"},
    {"prediction", "predicted outputs are not offered"},
    {"reasoning_effort", "not offered; a template's own switches stand in chat_template_kwargs"},
    {"verbosity", "not offered"},
    {"web_search_options", "not offered"},
    {"best_of", "beams are not offered; n gives several answers"},
    {"use_beam_search", "beams are not offered; n gives several answers"},
    {"length_penalty", "beams are not offered"},
    {"suffix", "text behind the answer is not offered"},
    {"echo", "not offered"},
    {"guided_json", "guided decoding is not offered"},
    {"guided_regex", "guided decoding is not offered"},
    {"guided_choice", "guided decoding is not offered"},
    {"prompt_logprobs", "not offered"},
}};

body_problem unknown(const std::string& param, std::string_view key, const std::vector<body_row>& known) {
  std::vector<std::string_view> names;
  std::ranges::transform(known, std::back_inserter(names), &body_row::key);
  const auto near = base::nearest(key, names);
  std::string words;
  for (const auto name : names)
    words += (words.empty() ? "" : ", ") + std::string{name};
  return {"unknown_parameter",
          fmt::format("{}: there is no such key; {}", param,
                      near ? fmt::format("did you mean {}?", *near) : "valid here: " + words),
          param};
}

} // namespace

const json_value* find_set(const json_value& object, std::string_view key) {
  const auto* const there = object.find(key);
  return there == nullptr || there->kind == json_kind::null ? nullptr : there;
}

problem read_members(const json_value& object, const std::string& path, const std::vector<body_row>& known) {
  for (const auto& [key, value] : object.members) {
    const auto param = path.empty() ? std::string{key} : fmt::format("{}.{}", path, key);
    const auto row_of_key = std::ranges::find(known, key, &body_row::key);
    if (row_of_key != known.end()) {
      if (value.kind != json_kind::null)
        if (auto bad = row_of_key->read(param, value))
          return bad;
      continue;
    }
    if (path.empty()) {
      if (std::ranges::find(without_effect, key) != without_effect.end())
        continue;
      if (const auto no = std::ranges::find(not_offered, key, &refused_key::name); no != not_offered.end()) {
        const bool asks_nothing = value.kind == json_kind::null || (value.kind == json_kind::truth && !value.truth) ||
                                  (value.kind == json_kind::list && value.elements.empty());
        if (asks_nothing)
          continue;
        return body_problem{"unsupported_parameter", fmt::format("{}: {}", param, no->why), param};
      }
    }
    return unknown(param, key, known);
  }
  return std::nullopt;
}

body_problem invalid_value(std::string param, std::string message) {
  return {"invalid_value", fmt::format("{}: {}", param, message), std::move(param)};
}
body_problem wrong_type(const std::string& param, std::string_view wanted, const json_value& found) {
  return invalid_value(param, fmt::format("{} is due here, not {}", wanted, describe(found)));
}

problem read_truth(const std::string& param, const json_value& value, bool& to) {
  if (value.kind != json_kind::truth)
    return wrong_type(param, "true or false", value);
  to = value.truth;
  return std::nullopt;
}

problem read_text(const std::string& param, const json_value& value, std::string& to) {
  if (value.kind != json_kind::text)
    return wrong_type(param, "a text", value);
  to = value.text;
  return std::nullopt;
}

problem read_real(const std::string& param, const json_value& value, valid_range valid, bool least_too, float& to) {
  const auto number = as_real(value);
  if (!number || *number > valid.most || *number < valid.least || (!least_too && *number == valid.least))
    return invalid_value(param, fmt::format("a number {} {} to {} is due here, not {}", least_too ? "from" : "above",
                                            valid.least, valid.most, describe(value)));
  to = static_cast<float>(*number);
  return std::nullopt;
}

} // namespace troupe::actors
