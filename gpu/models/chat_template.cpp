#include "gpu/models/chat_template.hpp"

#include <fmt/format.h>

#include <array>

#include "gpu/models/tokenizer_json.hpp"

namespace troupe::gpu::models {
namespace {

constexpr std::string_view supported =
    "a template of the published forms of Qwen2.5, Qwen3 and Qwen3-VL (<|im_start|>, <|im_end|>) or Llama 3 "
    "(<|start_header_id|>, <|end_header_id|>, <|eot_id|>)";

bool holds(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// A line end stands in a template's string as \n, and in its plain text as itself.
std::string with_line_ends(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool escaped = text.substr(i).starts_with("\\n");
    out.push_back(escaped ? '\n' : text[i]);
    i += escaped ? 1 : 0;
  }
  return out;
}

/// What stands between `before` and `after`, if it is a plain literal.
std::optional<std::string> literal_between(std::string_view text, std::string_view before, std::string_view after) {
  for (std::size_t at = text.find(before); at != std::string_view::npos; at = text.find(before, at + 1)) {
    const std::string_view rest = text.substr(at + before.size());
    const std::string_view inside = rest.substr(0, rest.find(after));
    if (inside.size() < rest.size() && !inside.empty() && inside.find_first_of("'\"{}<>") == std::string_view::npos)
      return std::string{inside};
  }
  return std::nullopt;
}

/// What the template adds when an answer is asked for; it must be `opening`, alone or with the beginning of a thought.
/// Returns whether with it, or nothing where it is something else.
std::optional<bool> begins_thinking(std::string_view text, std::string_view opening) {
  const std::size_t asked = text.rfind("add_generation_prompt");
  if (asked == std::string_view::npos)
    return std::nullopt;
  text.remove_prefix(asked);
  const std::size_t at = text.find(opening);
  if (at == std::string_view::npos)
    return std::nullopt;
  text.remove_prefix(at + opening.size());
  constexpr std::string_view thought = "<think>\n";
  const bool thinks = text.starts_with(thought);
  if (thinks)
    text.remove_prefix(thought.size());
  const bool ends_there = text.starts_with("'") || text.starts_with("\"") || text.starts_with("{%");
  return ends_there ? std::optional{thinks} : std::nullopt;
}

std::optional<chat_template> recognise_qwen(std::string_view text) {
  const auto thinks = begins_thinking(text, "<|im_start|>assistant\n");
  if (!thinks)
    return std::nullopt;
  chat_template out;
  out.system = literal_between(text, "<|im_start|>system\n", "<|im_end|>\n");
  out.takes_pictures = holds(text, "<|vision_start|><|image_pad|><|vision_end|>");
  out.begins_thinking = *thinks;
  return out;
}

std::optional<chat_template> recognise_llama3(std::string_view text, std::string_view begin_token) {
  const auto thinks = begins_thinking(text, "<|start_header_id|>assistant<|end_header_id|>\n\n");
  if (!thinks || *thinks)
    return std::nullopt;
  chat_template out;
  out.of = chat_template::family::llama3;
  if (holds(text, "bos_token"))
    out.begin_token = begin_token;
  out.trims_user = holds(text, "| trim") || holds(text, "|trim");
  constexpr std::string_view cutting = "Cutting Knowledge Date: December 2023\n";
  if (holds(text, cutting)) {
    // Where the template may ask for today, its own date for those who cannot say is taken: a prompt must not depend
    // on the day that it is sent.
    const auto date = literal_between(text, "date_string = \"", "\"");
    if (!date)
      return std::nullopt;
    out.system = fmt::format("{}Today Date: {}\n\n", cutting, *date);
  }
  return out;
}

/// A token of tokenizer_config.json: its text, or an object with it; empty where there is none.
std::string token_text(const json_at& token) {
  if (token->is_null())
    return {};
  return token->is_object() ? token["content"].text() : token.text();
}

/// The template of a file's "chat_template": a text, or a list of named ones whose "default" counts.
std::optional<std::string> template_of(const json_at& from) {
  if (from->is_null())
    return std::nullopt;
  if (!from->is_array())
    return from.text();
  for (std::size_t i = 0; i < from->size(); ++i)
    if (from[i]["name"].text() == "default")
      return from[i]["template"].text();
  throw from.bad("a template, or a list that has one named \"default\"");
}

} // namespace

std::optional<chat_template> recognise(std::string_view text, std::string_view begin_token) {
  const std::string plain = with_line_ends(text);
  if (holds(plain, "<|im_start|>") && holds(plain, "<|im_end|>"))
    return recognise_qwen(plain);
  if (holds(plain, "<|start_header_id|>") && holds(plain, "<|end_header_id|>") && holds(plain, "<|eot_id|>"))
    return recognise_llama3(plain, begin_token);
  return std::nullopt;
}

chat_template read_chat_template(const std::filesystem::path& folder) {
  const std::filesystem::path config = folder / "tokenizer_config.json";
  const nlohmann::json root = read_tokenizer_json(config);
  const json_at from{root, config.string()};

  std::filesystem::path path = folder / "chat_template.jinja";
  std::optional<std::string> text;
  if (std::error_code ignored; exists(path, ignored)) {
    text = read_text(path);
  } else if (path = folder / "chat_template.json"; exists(path, ignored)) {
    const nlohmann::json own = read_tokenizer_json(path);
    text = template_of(json_at{own, path.string()}["chat_template"]);
  } else {
    path = config;
    text = template_of(from["chat_template"]);
  }
  if (!text)
    throw bad_file(fmt::format("{}: chat_template is missing; valid is {}", path.string(), supported));
  const auto found = recognise(*text, token_text(from["bos_token"]));
  if (!found)
    throw bad_file(fmt::format("{}: chat_template is of another form; valid is {}", path.string(), supported));
  return *found;
}

} // namespace troupe::gpu::models
