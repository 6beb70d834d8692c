#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "gpu/models/text_io.hpp"
#include "gpu/models/tokenizers/tokenizer_added.hpp"
#include "gpu/models/tokenizers/tokenizer_bpe.hpp"
#include "gpu/models/tokenizers/tokenizer_json.hpp"
#include "gpu/models/tokenizers/tokenizer_neighbours.hpp"
#include "gpu/models/tokenizers/tokenizer_split.hpp"
#include "gpu/models/tokenizers/tokenizer_unicode.hpp"

namespace troupe::gpu::models {
namespace {

/// No published vocabulary comes near; a hostile id must not size a table.
constexpr std::uint64_t ids_max = 1u << 22;

class byte_level_bpe final : public tokenizer {
public:
  /// Throws bad_file.
  explicit byte_level_bpe(const json_at& root) {
    root.account_for(tokenizer_keys());
    read_normalizer(root["normalizer"]);
    read_pre_tokenizer(root["pre_tokenizer"]);
    root["decoder"]["type"].require_text("ByteLevel");
    read_model(root["model"]);
    read_added(root["added_tokens"]);
  }

  using tokenizer::encode;
  std::vector<protocols::token_id> encode(const marked_text& text) const override;
  std::string_view bytes_of(protocols::token_id id) const override {
    const auto at = static_cast<std::size_t>(id);
    return id >= 0 && at < bytes_.size() ? std::string_view{bytes_[at]} : std::string_view{};
  }
  std::size_t vocabulary() const noexcept override { return bytes_.size(); }

private:
  void read_normalizer(const json_at& normalizer);
  void read_pre_tokenizer(const json_at& pre);
  void read_split(const json_at& step);
  void read_byte_level(const json_at& step);
  void read_model(const json_at& model);
  void read_vocabulary(const json_at& vocabulary);
  void read_merges(const json_at& merges);
  void read_added(const json_at& added);
  /// Where the bytes of an id stand, made on first use.
  std::string& slot_of(protocols::token_id id);

  void encode_without(const added_tokens& first, const marked_text& text, std::vector<protocols::token_id>& out) const;
  void encode_plain(std::string_view text, std::vector<protocols::token_id>& out) const;
  void encode_piece(std::string_view piece, std::vector<protocols::token_id>& out) const;

  bool normalizes_ = false;             ///< to form C
  bool ignores_merges_ = false;         ///< a piece that is a token is that token, whatever the merges say
  std::vector<split_pattern> patterns_; ///< each splits what the one before it left
  byte_pairs pairs_;
  added_tokens added_;             ///< found in text as it is written
  added_tokens added_normalized_;  ///< found after those; the same text here, as none is allowed with a normalizer
  std::vector<std::string> bytes_; ///< by id
};

/// A number below ids_max; `where` makes the place for the message.
template <class Where>
protocols::token_id id_of(const nlohmann::json& id, Where where) {
  if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= ids_max)
    throw where().bad(fmt::format("a whole number below {}", ids_max));
  return id.get<protocols::token_id>();
}

std::string& byte_level_bpe::slot_of(protocols::token_id id) {
  const auto at = static_cast<std::size_t>(id);
  if (at >= bytes_.size())
    bytes_.resize(at + 1);
  return bytes_[at];
}

void byte_level_bpe::read_normalizer(const json_at& normalizer) {
  if (normalizer->is_null())
    return;
  normalizer["type"].require_text("NFC");
  normalizes_ = true;
}

void byte_level_bpe::read_pre_tokenizer(const json_at& pre) {
  pre.account_for(pre_tokenizer_keys());
  if (*pre["type"] != "Sequence")
    return read_byte_level(pre);
  const json_at steps = pre["pretokenizers"];
  steps.require_array();
  if (steps->empty())
    throw steps.bad("a list of Split that ends with ByteLevel");
  for (std::size_t i = 0; i + 1 < steps->size(); ++i)
    read_split(steps[i]);
  read_byte_level(steps[steps->size() - 1]);
}

void byte_level_bpe::read_split(const json_at& step) {
  step.account_for(pre_tokenizer_keys());
  step["type"].require_text("Split");
  step["behavior"].require_text("Isolated");
  step["invert"].require_false();
  const json_at regex = step["pattern"]["Regex"];
  const auto pattern = pattern_of(regex.text());
  if (!pattern)
    throw regex.bad("the published pattern of GPT-2, Qwen2 or Llama 3");
  patterns_.push_back(*pattern);
}

void byte_level_bpe::read_byte_level(const json_at& step) {
  step.account_for(pre_tokenizer_keys());
  step["type"].require_text("ByteLevel");
  step["add_prefix_space"].require_false();
  if (step["use_regex"].flag_or(true))
    patterns_.push_back(gpt2_pattern);
}

void byte_level_bpe::read_model(const json_at& model) {
  model.account_for(bpe_keys());
  model["type"].require_text("BPE");
  model["byte_fallback"].require_false();
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!model[affix]->is_null())
      model[affix].require_text("");
  if (!model["dropout"]->is_null())
    throw model["dropout"].bad("null");
  ignores_merges_ = model["ignore_merges"].flag_or(false);
  read_vocabulary(model["vocab"]);
  read_merges(model["merges"]);
}

void byte_level_bpe::read_vocabulary(const json_at& vocabulary) {
  if (!vocabulary->is_object())
    throw vocabulary.bad("an object of tokens and their ids");
  std::vector<bool> taken;
  for (const auto& [token, value] : vocabulary->items()) {
    const auto place = [&, &name = token] { return vocabulary[name]; };
    const protocols::token_id id = id_of(value, place);
    std::string& slot = slot_of(id);
    taken.resize(bytes_.size());
    if (taken[static_cast<std::size_t>(id)])
      throw place().bad("an id of its own");
    taken[static_cast<std::size_t>(id)] = true;

    if (auto bytes = bytes_of_alphabet(token)) {
      slot = *bytes;
      pairs_.add_token(*std::move(bytes), id);
    } else {
      slot = token; // no bytes merge to it: it can only be read out
    }
  }
  for (int byte = 0; byte < 256; ++byte)
    if (!pairs_.find(std::string(1, static_cast<char>(byte))))
      throw vocabulary.bad(fmt::format("one that holds every byte; it lacks {:#04x}", byte));
}

void byte_level_bpe::read_merges(const json_at& merges) {
  merges.require_array();
  for (std::size_t i = 0; i < merges->size(); ++i) {
    const nlohmann::json& pair = (*merges)[i];
    std::string left, right;
    if (pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_string()) {
      left = pair[0].get<std::string>();
      right = pair[1].get<std::string>();
    } else if (const std::size_t space = pair.is_string() ? pair.get_ref<const std::string&>().find(' ') : 0) {
      left = pair.get_ref<const std::string&>().substr(0, space);
      right = space == std::string::npos ? "" : pair.get_ref<const std::string&>().substr(space + 1);
    }
    const auto left_bytes = bytes_of_alphabet(left), right_bytes = bytes_of_alphabet(right);
    if (left.empty() || right.empty() || !left_bytes || !right_bytes)
      throw merges[i].bad(R"("a b" or ["a", "b"])");
    const auto left_id = pairs_.find(*left_bytes), right_id = pairs_.find(*right_bytes);
    const auto whole_id = pairs_.find(*left_bytes + *right_bytes);
    if (!left_id || !right_id || !whole_id)
      throw merges[i].bad("two tokens of the vocabulary that make a third");
    pairs_.add_merge(*left_id, *right_id, *whole_id);
  }
}

void byte_level_bpe::read_added(const json_at& added) {
  if (added->is_null())
    return;
  added.require_array();
  const std::size_t of_model = bytes_.size();
  for (std::size_t i = 0; i < added->size(); ++i) {
    const json_at token = added[i];
    token.account_for(added_token_keys());
    const std::string& content = token["content"].text();
    if (content.empty())
      throw token["content"].bad("a token's text");
    token["single_word"].require_false();
    if (normalizes_)
      token["normalized"].require_false();
    const protocols::token_id id = id_of(*token["id"], [&] { return token["id"]; });
    std::string& slot = slot_of(id);
    if (static_cast<std::size_t>(id) < of_model && !slot.empty() && slot != content)
      throw token["id"].bad("an id that the vocabulary does not give to another token");
    const bool special = token["special"].flag_or(false);
    slot = special ? std::string{} : content;
    (token["normalized"].flag_or(false) ? added_normalized_ : added_)
        .add({content, id, special, token["lstrip"].flag_or(false), token["rstrip"].flag_or(false)});
  }
}

std::vector<protocols::token_id> byte_level_bpe::encode(const marked_text& text) const {
  std::vector<protocols::token_id> out;
  encode_without(added_, text, out);
  return out;
}

/// What stands between the tokens of `first` is looked through for the others, and then encoded.
void byte_level_bpe::encode_without(const added_tokens& first, const marked_text& text,
                                    std::vector<protocols::token_id>& out) const {
  const auto encode_rest = [&](std::size_t from, std::size_t to) {
    if (&first == &added_)
      encode_without(added_normalized_, text.part(from, to - from), out);
    else
      encode_plain(std::string_view{text.bytes()}.substr(from, to - from), out);
  };
  std::size_t from = 0;
  while (const auto next = first.find(text, from)) {
    encode_rest(from, next->at);
    out.push_back(next->id);
    from = next->at + next->length;
  }
  encode_rest(from, text.bytes().size());
}

void byte_level_bpe::encode_plain(std::string_view text, std::vector<protocols::token_id>& out) const {
  if (text.empty())
    return;
  const std::string normal = normalizes_ ? unicode::nfc(text) : std::string{text};
  std::vector<std::string_view> pieces{normal};
  for (const split_pattern& pattern : patterns_) {
    std::vector<std::string_view> smaller;
    for (std::string_view piece : pieces)
      std::ranges::move(split(pattern, piece), std::back_inserter(smaller));
    pieces = std::move(smaller);
  }
  for (std::string_view piece : pieces)
    encode_piece(piece, out);
}

void byte_level_bpe::encode_piece(std::string_view piece, std::vector<protocols::token_id>& out) const {
  if (const auto whole = ignores_merges_ ? pairs_.find(piece) : std::nullopt)
    out.push_back(*whole);
  else
    pairs_.encode(piece, out);
}

} // namespace

std::vector<protocols::token_id> tokenizer::encode(std::string_view text, bool parse_special) const {
  return encode(parse_special ? marked_text::of_template(text) : marked_text::of_user(text));
}

protocols::result<std::shared_ptr<const tokenizer>> tokenizer::open(const std::filesystem::path& folder) try {
  const std::filesystem::path path = folder / "tokenizer.json";
  const nlohmann::json root = read_tokenizer_json(path);
  auto opened = std::make_shared<const byte_level_bpe>(json_at{root, path.string()});
  check_neighbours(folder, json_at{root, path.string()}["added_tokens"]);
  return opened;
} catch (const bad_file& problem) {
  return protocols::fail(protocols::fault::config_invalid, problem.what());
}

} // namespace troupe::gpu::models
