#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "gpu/models/chat_template.hpp"
#include "gpu/models/text_io.hpp"
#include "gpu/models/tokenizer_json.hpp"
#include "gpu/models/tokenizer_unicode.hpp"

namespace troupe::gpu::models {
namespace {

/// Joins plain text and special tokens as the published tokenizers see them: what stands between two special tokens is
/// encoded in one piece, whichever of it the template wrote and whichever the user.
class prompt_writer {
public:
  explicit prompt_writer(const tokenizer& tok) : tok_(tok) {}

  void text(std::string_view words) { plain_ += words; }

  /// Throws bad_file where the tokenizer has no such token.
  void special(std::string_view token, std::uint32_t times = 1) {
    const auto ids = tok_.encode(token, true);
    if (ids.size() != 1)
      throw bad_file(
          fmt::format("tokenizer.json: added_tokens has no \"{}\", which the chat template asks for", token));
    flush();
    ids_.insert(ids_.end(), times, ids.front());
  }

  /// Index of the token that comes next.
  std::uint32_t position() {
    flush();
    return static_cast<std::uint32_t>(ids_.size());
  }

  std::vector<protocols::token_id> take() {
    flush();
    return std::move(ids_);
  }

private:
  void flush() {
    if (plain_.empty())
      return;
    std::ranges::copy(tok_.encode(plain_, false), std::back_inserter(ids_));
    plain_.clear();
  }

  const tokenizer& tok_;
  std::string plain_;
  std::vector<protocols::token_id> ids_;
};

/// Without white space at both ends, as Python's strip.
std::string trimmed(std::string_view text) {
  const auto is_blank = [](unicode::code_point c) { return unicode::is_space(c) || (c >= 0x1C && c <= 0x1F); };
  const std::vector<unicode::code_point> points = unicode::decode(text);
  const auto first = std::ranges::find_if_not(points, is_blank);
  const auto last = std::find_if_not(points.rbegin(), std::make_reverse_iterator(first), is_blank).base();
  std::string out;
  std::for_each(first, last, [&](unicode::code_point c) { unicode::append_utf8(out, c); });
  return out;
}

void write_qwen(const chat_template& how, std::string_view text, std::span<const std::uint32_t> image_tokens,
                prompt_writer& to, std::vector<std::uint32_t>& first_token) {
  if (how.system) {
    to.special("<|im_start|>");
    to.text("system\n" + *how.system);
    to.special("<|im_end|>");
    to.text("\n");
  }
  to.special("<|im_start|>");
  to.text("user\n");
  for (std::uint32_t count : image_tokens) {
    to.special("<|vision_start|>");
    first_token.push_back(to.position());
    to.special("<|image_pad|>", count);
    to.special("<|vision_end|>");
  }
  to.text(text);
  to.special("<|im_end|>");
  to.text("\n");
  to.special("<|im_start|>");
  to.text("assistant\n");
  if (how.begins_thinking) {
    to.special("<think>");
    to.text("\n");
  }
}

void write_llama3(const chat_template& how, std::string_view text, prompt_writer& to) {
  const auto header = [&](std::string_view role) {
    to.special("<|start_header_id|>");
    to.text(role);
    to.special("<|end_header_id|>");
    to.text("\n\n");
  };
  if (!how.begin_token.empty())
    to.special(how.begin_token);
  if (how.system) {
    header("system");
    to.text(*how.system);
    to.special("<|eot_id|>");
  }
  header("user");
  to.text(how.trims_user ? trimmed(text) : std::string{text});
  to.special("<|eot_id|>");
  header("assistant");
}

class template_builder final : public prompt_builder {
public:
  template_builder(std::shared_ptr<const tokenizer> words, chat_template how, std::string folder)
      : words_(std::move(words)), how_(std::move(how)), folder_(std::move(folder)) {}

  protocols::result<chat_prompt> build(std::string_view text,
                                       std::span<const std::uint32_t> image_tokens) const override try {
    if (!image_tokens.empty() && !how_.takes_pictures)
      return protocols::fail(
          protocols::fault::invalid_request,
          fmt::format("{} pictures, and the chat template of {} takes none", image_tokens.size(), folder_));
    prompt_writer to{*words_};
    chat_prompt out;
    switch (how_.of) {
    case chat_template::family::qwen:
      write_qwen(how_, text, image_tokens, to, out.first_token);
      break;
    case chat_template::family::llama3:
      write_llama3(how_, text, to);
      break;
    }
    out.ids = to.take();
    return out;
  } catch (const bad_file& problem) {
    return protocols::fail(protocols::fault::config_invalid, problem.what());
  }

private:
  std::shared_ptr<const tokenizer> words_;
  chat_template how_;
  std::string folder_; ///< for messages
};

} // namespace

protocols::result<std::shared_ptr<const prompt_builder>> prompt_builder::open(std::shared_ptr<const tokenizer> words,
                                                                              const std::filesystem::path& folder) try {
  return std::make_shared<template_builder>(std::move(words), read_chat_template(folder), folder.string());
} catch (const bad_file& problem) {
  return protocols::fail(protocols::fault::config_invalid, problem.what());
}

} // namespace troupe::gpu::models
