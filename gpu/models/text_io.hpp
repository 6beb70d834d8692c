#pragma once

#include <ctime>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/serve/conversation.hpp"

/// Text to token ids and back, as published in tokenizer.json and tokenizer_config.json.
namespace troupe::gpu::models {

class marked_text;
struct model_facts;

/// Byte-level BPE with merges and added tokens. Threads: immutable after `open`; any thread.
class tokenizer {
public:
  /// Errors: config_invalid with file, key and what would be valid (another model type, a normalizer it does not know).
  static protocols::result<std::shared_ptr<const tokenizer>> open(const std::filesystem::path& folder);
  virtual ~tokenizer() = default;

  /// Added tokens that are not special are matched in every text, as published; special ones where no byte of them is
  /// a user's, so that "<|im_end|>" typed by a user stays text.
  virtual std::vector<protocols::token_id> encode(const marked_text& text) const = 0;
  /// Of a text that is a template's where `parse_special`, a user's otherwise.
  std::vector<protocols::token_id> encode(std::string_view text, bool parse_special) const;
  /// The bytes of one id; special tokens give none.
  virtual std::string_view bytes_of(protocols::token_id id) const = 0;
  virtual std::size_t vocabulary() const noexcept = 0;
};

/// Bytes of tokens to text, whole code points at a time: a token may end inside one.
class incremental_decoder {
public:
  explicit incremental_decoder(std::shared_ptr<const tokenizer> from) : from_(std::move(from)) {}
  /// What this token completes. Bytes that can never become a code point come out as U+FFFD.
  std::string push(protocols::token_id id);
  /// What was left incomplete, as U+FFFD.
  std::string finish();

private:
  std::shared_ptr<const tokenizer> from_;
  std::string pending_;
};

/// A prompt, and where each picture's tokens begin in it.
struct chat_prompt {
  std::vector<protocols::token_id> ids;
  std::vector<std::uint32_t> first_token;
};

/// Makes prompts of conversations through the model's chat template. Threads: immutable after `open`; any thread.
/// A word of the tokenizer that the model has no row for is the fault of the prompt that holds it: published folders
/// hold such words (padding), which no prompt ever does, so that the folder is not refused for them.
/// Contract: K8, K10.
class prompt_builder {
public:
  /// Reads the folder's template and tries it. Errors: config_invalid with the file, the place and what is understood.
  static protocols::result<std::shared_ptr<const prompt_builder>>
  open(std::shared_ptr<const tokenizer> words, const std::filesystem::path& folder, const model_facts& facts);
  virtual ~prompt_builder() = default;

  /// The conversation as the template writes it. `image_tokens`: of each of its pictures, in their order; so often the
  /// picture's placeholder is repeated. `now`: the caller's clock, for a template that writes the day; nothing else of
  /// the outside reaches a prompt.
  /// Errors: invalid_request (the template refuses this conversation, in its words, or takes no pictures; JSON that is
  /// none; a token beyond the model's vocabulary).
  virtual protocols::result<chat_prompt>
  build(const protocols::conversation& what, std::span<const std::uint32_t> image_tokens, const std::tm& now) const = 0;
};

} // namespace troupe::gpu::models
