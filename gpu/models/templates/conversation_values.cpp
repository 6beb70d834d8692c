#include "gpu/models/templates/conversation_values.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include <nlohmann/json.hpp>

namespace troupe::gpu::models {
namespace {

using protocols::chat_message;
using protocols::chat_part;
using protocols::chat_part_kind;
using json = nlohmann::ordered_json;

constexpr std::size_t json_values_max = 50'000;
constexpr std::size_t json_members_max = 1'000;          ///< of one object: they are looked for one after another
constexpr unsigned json_depth_max = value_depth_max / 2; ///< the conversation stands around it
constexpr std::size_t json_members_max_all = 10'000;
constexpr std::size_t messages_max = 10'000;

class json_values {
public:
  template_value of(const json& from, unsigned depth) {
    if (depth > json_depth_max)
      throw bad_conversation(fmt::format("JSON more than {} deep", json_depth_max));
    if (++count_ > json_values_max)
      throw bad_conversation(fmt::format("JSON of more than {} values", json_values_max));
    switch (from.type()) {
    case json::value_t::boolean:
      return {from.get<bool>()};
    case json::value_t::number_integer:
      return {from.get<std::int64_t>()};
    case json::value_t::number_unsigned:
      if (from.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX))
        throw bad_conversation("a whole number of more than 63 bits");
      return {from.get<std::int64_t>()};
    case json::value_t::number_float:
      return {from.get<double>()};
    case json::value_t::string:
      return template_value::of(marked_text::of_user(from.get_ref<const std::string&>()));
    case json::value_t::array:
      return list(from, depth);
    case json::value_t::object:
      return map(from, depth);
    case json::value_t::null:
    case json::value_t::binary:
    case json::value_t::discarded:
      break;
    }
    return {template_value::none{}};
  }

private:
  template_value list(const json& from, unsigned depth) {
    value_list all;
    for (const json& each : from)
      all.push_back(of(each, depth + 1));
    return template_value::of(std::move(all));
  }
  template_value map(const json& from, unsigned depth) {
    if (from.size() > json_members_max)
      throw bad_conversation(fmt::format("an object of more than {} members", json_members_max));
    value_map all;
    for (const auto& [key, value] : from.items())
      all.emplace_back(key, of(value, depth + 1));
    return template_value::of(std::move(all), true);
  }

  std::size_t count_ = 0;
};

struct json_extent {
  unsigned depth = 0;
  std::size_t members = 0;
};
/// Before it is parsed: an object that keeps its order looks for each new key among all that it has.
json_extent extent_of(std::string_view text) {
  json_extent out;
  unsigned depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '\\')
      ++i;
    else if (c == '"')
      quoted = !quoted;
    if (quoted)
      continue;
    depth += c == '[' || c == '{' ? 1U : 0U;
    depth -= depth > 0 && (c == ']' || c == '}') ? 1U : 0U;
    out.depth = std::max(out.depth, depth);
    out.members += c == ':' ? 1U : 0U;
  }
  return out;
}

/// The value of JSON in `text`, of this type; null for no text.
json parsed(const std::string& text, std::string_view key, json::value_t type, std::string_view valid) {
  if (text.empty())
    return nullptr;
  if (const json_extent extent = extent_of(text);
      extent.depth > json_depth_max || extent.members > json_members_max_all)
    throw bad_conversation(fmt::format("{} is {} deep, with {} members in all; at most {} and {}", key, extent.depth,
                                       extent.members, json_depth_max, json_members_max_all));
  json out = json::parse(text, nullptr, false);
  if (out.is_discarded() || out.type() != type)
    throw bad_conversation(fmt::format("{} is no {} of JSON", key, valid));
  return out;
}

template_value role_of(const std::string& role) {
  constexpr std::array<std::string_view, 5> known{"system", "user", "assistant", "tool", "developer"};
  const bool is_known = std::ranges::find(known, role) != known.end();
  return template_value::of(is_known ? marked_text::of_template(role) : marked_text::of_user(role));
}

template_value part_of(const chat_part& part) {
  if (part.is == chat_part_kind::picture)
    return template_value::of(value_map{{"type", template_value::of("image")}});
  return template_value::of(
      value_map{{"type", template_value::of("text")}, {"text", template_value::of(marked_text::of_user(part.text))}});
}

template_value content_of(const chat_message& message, content_forms forms) {
  const bool only_texts = std::ranges::count(message.content, chat_part_kind::picture, &chat_part::is) == 0;
  const bool as_text = only_texts && (message.in_parts ? !forms.parts : forms.texts);
  if (message.content.empty() && !message.in_parts)
    return {template_value::none{}};
  if (!as_text) {
    value_list parts;
    for (const chat_part& part : message.content)
      parts.push_back(part_of(part));
    return template_value::of(std::move(parts));
  }
  std::string text;
  for (const chat_part& part : message.content) {
    text += &part == message.content.data() ? "" : "\n";
    text += part.text;
  }
  return template_value::of(marked_text::of_user(text));
}

template_value message_value(const chat_message& message, content_forms forms) {
  value_map out{{"role", role_of(message.role)}, {"content", content_of(message, forms)}};
  const auto add = [&](const char* key, const std::string& text) {
    if (!text.empty())
      out.emplace_back(key, template_value::of(marked_text::of_user(text)));
  };
  add("name", message.name);
  add("reasoning_content", message.reasoning_content);
  const json more = parsed(message.more, "what a message has more", json::value_t::object, "object");
  for (const auto& [key, value] : more.items()) {
    if (find(out, key))
      throw bad_conversation(fmt::format("a message has {} twice", key));
    out.emplace_back(key, json_values{}.of(value, 1));
  }
  return template_value::of(std::move(out), !more.is_null());
}

} // namespace

template_value value_of(const json& from) {
  return json_values{}.of(from, 1);
}

value_map template_names(const protocols::conversation& what, content_forms forms, const value_map& of_model) {
  if (what.messages.size() > messages_max)
    throw bad_conversation(fmt::format("{} messages; at most {}", what.messages.size(), messages_max));
  value_list messages;
  for (const chat_message& each : what.messages)
    messages.push_back(message_value(each, forms));
  const json tools = parsed(what.tools, "tools", json::value_t::array, "array");
  value_map out;
  out.emplace_back("messages", template_value::of(std::move(messages)));
  out.emplace_back("tools", value_of(tools));
  out.emplace_back("documents", template_value{template_value::none{}});
  out.emplace_back("add_generation_prompt", template_value{!what.no_generation_prompt});
  const json given = parsed(what.template_arguments, "chat_template_kwargs", json::value_t::object, "object");
  if (given.size() > json_members_max)
    throw bad_conversation(fmt::format("chat_template_kwargs of more than {} members", json_members_max));
  for (const auto& [key, value] : given.items()) {
    if (find(out, key))
      throw bad_conversation(fmt::format("chat_template_kwargs states {}, which the request itself does", key));
    out.emplace_back(key, value_of(value));
  }
  for (const auto& [key, value] : of_model)
    if (!find(out, key))
      out.emplace_back(key, value);
  return out;
}

} // namespace troupe::gpu::models
