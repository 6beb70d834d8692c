#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

/// What a published chat template makes of one user turn, without an engine for its language: the templates of the
/// served families differ in a few literals, which are found in the text and checked.
namespace troupe::gpu::models {

struct chat_template {
  enum class family {
    qwen,  ///< <|im_start|>user\n ... <|im_end|>\n
    llama3 ///< <|start_header_id|>user<|end_header_id|>\n\n ... <|eot_id|>
  };
  family of = family::qwen;
  std::string begin_token;           ///< before everything; empty where the template has none
  std::optional<std::string> system; ///< what stands in the system turn that the template adds by itself
  bool trims_user = false;           ///< white space around the user's words is dropped
  bool takes_pictures = false;
  bool begins_thinking = false; ///< the answer is begun with <think>
};

/// Errors: std::nullopt where the text is of neither family or goes another way where they must agree.
/// `begin_token` is the tokenizer's own, used where the template asks for it.
std::optional<chat_template> recognise(std::string_view text, std::string_view begin_token);

/// The template of a folder: chat_template.jinja, chat_template.json, or that of tokenizer_config.json; the first
/// found. Throws bad_file, naming the file and what is supported.
chat_template read_chat_template(const std::filesystem::path& folder);

} // namespace troupe::gpu::models
