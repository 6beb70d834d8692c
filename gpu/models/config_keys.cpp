#include "gpu/models/config_keys.hpp"

#include <algorithm>
#include <array>

namespace troupe::gpu::models {
namespace {

using enum key_rule::effect;

template <std::size_t... Sizes>
constexpr auto joined(const std::array<key_rule, Sizes>&... lists) {
  std::array<key_rule, (Sizes + ...)> all{};
  auto at = all.begin();
  ((at = std::copy(lists.begin(), lists.end(), at)), ...);
  return all;
}

/// What the library writes into each file that it saves.
constexpr std::array library{
    key_rule{"transformers_version", none},
    key_rule{"unsloth_version", none},
    key_rule{"trust_remote_code", none},
    key_rule{"tokenizer_class", none},
    key_rule{"processor_class", none},
    // Code that comes with the model.
    key_rule{"auto_map", only},
};

/// Stands in config.json of older folders, in generation_config.json of newer ones.
constexpr std::array running{
    key_rule{"use_cache", none},
    key_rule{"output_attentions", none},
    key_rule{"output_hidden_states", none},
    // Of the tokenizer; a chat template writes what stands before a prompt.
    key_rule{"bos_token_id", none},
    key_rule{"pad_token_id", none},
    key_rule{"decoder_start_token_id", none},
};

constexpr std::array general{
    key_rule{"architectures"},
    key_rule{"model_type"},
    key_rule{"eos_token_id"},
    key_rule{"tie_word_embeddings"},
    // Weights that are stored otherwise.
    key_rule{"quantization_config", only},
    key_rule{"compression_config", only},
    key_rule{"pruned_heads", only, "{}"},
    // Another kind of model.
    key_rule{"is_encoder_decoder", only, "false"},
    key_rule{"add_cross_attention", only, "false"},
    key_rule{"is_decoder", none},
    key_rule{"cross_attention_hidden_size", only},
    key_rule{"tie_encoder_decoder", only, "false"},
    // The spec's `model.dtype` decides.
    key_rule{"dtype", none},
    key_rule{"torch_dtype", none},
    key_rule{"use_bfloat16", none},
    // Training, saving, the library's interface.
    key_rule{"transformers.js_config", none},
    key_rule{"unsloth_fixed", none},
    key_rule{"initializer_range", none},
    key_rule{"initializer_factor", none},
    key_rule{"attention_dropout", none},
    key_rule{"hidden_dropout", none},
    key_rule{"resid_pdrop", none},
    key_rule{"embd_pdrop", none},
    key_rule{"gradient_checkpointing", none},
    key_rule{"attn_implementation", none},
    key_rule{"return_dict", none},
    key_rule{"torchscript", none},
    key_rule{"tf_legacy_loss", none},
    key_rule{"chunk_size_feed_forward", none},
    key_rule{"id2label", none},
    key_rule{"label2id", none},
    key_rule{"num_labels", none},
    key_rule{"problem_type", none},
    key_rule{"finetuning_task", none},
    key_rule{"task_specific_params", none},
    key_rule{"prefix", only, "\"\""},
    // Of the tokenizer; a chat template writes what stands before a prompt.
    key_rule{"sep_token_id", none},
    key_rule{"unk_token_id", none},
};

constexpr std::array text{
    key_rule{"vocab_size"},
    key_rule{"hidden_size"},
    key_rule{"num_hidden_layers"},
    key_rule{"num_attention_heads"},
    key_rule{"num_key_value_heads"},
    key_rule{"head_dim"},
    key_rule{"intermediate_size"},
    key_rule{"max_position_embeddings"},
    key_rule{"hidden_act"},
    key_rule{"rms_norm_eps"},
    key_rule{"rope_theta"},
    key_rule{"rope_parameters"},
    key_rule{"rope_scaling"},
    key_rule{"attention_bias"},
    key_rule{"mlp_bias"},
    key_rule{"use_sliding_window"},
    key_rule{"sliding_window"},
    key_rule{"layer_types"},
    key_rule{"partial_rotary_factor"},
    key_rule{"use_mrope", only, "false"},
    key_rule{"rope_interleaved", only, "false"},
    key_rule{"max_window_layers", none}, // says which layers slide, and none does
    key_rule{"pretraining_tp", none},    // cuts products that are whole here
    key_rule{"max_sequence_length", none},
};

constexpr std::array picture_model{
    key_rule{"text_config"},         key_rule{"vision_config"},
    key_rule{"image_token_id"},      key_rule{"vision_start_token_id"},
    key_rule{"vision_end_token_id"}, key_rule{"video_token_id", none}, // no question here has a film
};

constexpr std::array vision{
    key_rule{"depth"},
    key_rule{"hidden_size"},
    key_rule{"hidden_act"},
    key_rule{"intermediate_size"},
    key_rule{"num_heads"},
    key_rule{"in_channels"},
    key_rule{"patch_size"},
    key_rule{"spatial_merge_size"},
    key_rule{"temporal_patch_size"},
    key_rule{"out_hidden_size"},
    key_rule{"num_position_embeddings"},
    key_rule{"deepstack_visual_indexes"},
    key_rule{"rope_parameters"},
};

constexpr std::array rope{
    key_rule{"rope_theta"},
    key_rule{"rope_type"},
    key_rule{"type"},
    key_rule{"factor"},
    key_rule{"low_freq_factor"},
    key_rule{"high_freq_factor"},
    key_rule{"original_max_position_embeddings"},
    key_rule{"mrope_section"},
    key_rule{"mrope_interleaved"},
    key_rule{"partial_rotary_factor", only, "1"},
    key_rule{"attention_factor", only, "1"},
};

constexpr std::array vision_rope{
    key_rule{"rope_theta"},
    key_rule{"rope_type", only, R"("default", "axial")"},
};

// What a request states for itself (temperature and the like) is the publisher's suggestion here; what would change the
// choice of tokens behind a request's back is refused.
constexpr std::array generation{
    key_rule{"eos_token_id"},
    key_rule{"temperature", none},
    key_rule{"top_p", none},
    key_rule{"top_k", none},
    key_rule{"min_p", none},
    key_rule{"typical_p", none},
    key_rule{"do_sample", none},
    key_rule{"repetition_penalty", none},
    key_rule{"presence_penalty", none},
    key_rule{"frequency_penalty", none},
    key_rule{"max_length", none},
    key_rule{"max_new_tokens", none},
    key_rule{"num_return_sequences", none},
    key_rule{"early_stopping", none}, // of beams
    key_rule{"length_penalty", none}, // of beams
    key_rule{"chat_format", none},
    key_rule{"cache_implementation", none},
    key_rule{"return_dict_in_generate", none},
    key_rule{"output_scores", none},
    key_rule{"output_logits", none},
    key_rule{"renormalize_logits", none},
    key_rule{"remove_invalid_values", none},
    key_rule{"min_length", only, "0"},
    key_rule{"min_new_tokens", only, "0"},
    key_rule{"no_repeat_ngram_size", only, "0"},
    key_rule{"encoder_no_repeat_ngram_size", only, "0"},
    key_rule{"encoder_repetition_penalty", only, "1"},
    key_rule{"diversity_penalty", only, "0"},
    key_rule{"num_beams", only, "1"},
    key_rule{"num_beam_groups", only, "1"},
    key_rule{"epsilon_cutoff", only, "0"},
    key_rule{"eta_cutoff", only, "0"},
    key_rule{"guidance_scale", only, "1"},
    key_rule{"suppress_tokens", only, "[]"},
    key_rule{"begin_suppress_tokens", only, "[]"},
    key_rule{"bad_words_ids", only, "[]"},
    key_rule{"force_words_ids", only, "[]"},
    key_rule{"stop_strings", only, "[]"},
    key_rule{"sequence_bias", only, "{}"},
};

constexpr std::array preprocessor{
    key_rule{"size"},
    key_rule{"min_pixels"},
    key_rule{"max_pixels"},
    key_rule{"patch_size"},
    key_rule{"temporal_patch_size"},
    key_rule{"merge_size"},
    key_rule{"rescale_factor"},
    key_rule{"image_mean"},
    key_rule{"image_std"},
    key_rule{"do_resize", only, "true"},
    key_rule{"do_rescale", only, "true"},
    key_rule{"do_normalize", only, "true"},
    key_rule{"do_convert_rgb", only, "true"},
    key_rule{"resample", only, "3"}, // bicubic
    key_rule{"do_center_crop", only, "false"},
    key_rule{"do_pad", only, "false"},
    key_rule{"image_processor_type", only, R"("Qwen2VLImageProcessor", "Qwen2VLImageProcessorFast")"},
    key_rule{"data_format", only, R"("channels_first")"},
    key_rule{"input_data_format", only},
    key_rule{"crop_size", none}, // of do_center_crop
    key_rule{"pad_size", none},  // of do_pad
    key_rule{"feature_extractor_type", none},
    key_rule{"default_to_square", none}, // of a `size` of other keys
    key_rule{"device", none},
    key_rule{"return_tensors", none},
    key_rule{"disable_grouping", none},
    // Of films.
    key_rule{"fps", none},
    key_rule{"min_frames", none},
    key_rule{"max_frames", none},
    key_rule{"num_frames", none},
    key_rule{"do_sample_frames", none},
};

constexpr std::array picture_size{
    key_rule{"shortest_edge"},
    key_rule{"longest_edge"},
};

constexpr std::array tokenizer_config{
    key_rule{"chat_template"},
    key_rule{"bos_token"},
    key_rule{"eos_token"},
    key_rule{"unk_token"},
    key_rule{"sep_token"},
    key_rule{"pad_token"},
    key_rule{"cls_token"},
    key_rule{"mask_token"},
    key_rule{"added_tokens_decoder"},
    key_rule{"add_prefix_space", only, "false"},
    key_rule{"split_special_tokens", only, "false"},
    key_rule{"do_lower_case", only, "false"},
    key_rule{"image_token", only, R"("<|image_pad|>")"},
    // Prompts are encoded as a chat template writes them, without what an encoder would put around them.
    key_rule{"add_bos_token", none},
    key_rule{"add_eos_token", none},
    key_rule{"additional_special_tokens", none}, // tokenizer.json says which tokens are special
    key_rule{"extra_special_tokens", none},
    key_rule{"model_specific_special_tokens", none},
    key_rule{"video_token", none},
    key_rule{"vision_bos_token", none},
    key_rule{"vision_eos_token", none},
    // Answers are the bytes of their tokens.
    key_rule{"clean_up_tokenization_spaces", none},
    key_rule{"spaces_between_special_tokens", none},
    key_rule{"errors", none},
    // Neither cut nor filled up: a prompt that is too long is refused.
    key_rule{"model_max_length", none},
    key_rule{"max_length", none},
    key_rule{"padding_side", none},
    key_rule{"padding", none},
    key_rule{"pad_to_multiple_of", none},
    key_rule{"pad_token_type_id", none},
    key_rule{"truncation_side", none},
    key_rule{"truncation_strategy", none},
    key_rule{"truncation", none},
    key_rule{"stride", none},
    // Of the library's own classes; what they do stands in tokenizer.json.
    key_rule{"backend", none},
    key_rule{"tokenizer_file", none},
    key_rule{"vocab_file", none},
    key_rule{"merges_file", none},
    key_rule{"model_input_names", none},
    key_rule{"name_or_path", none},
    key_rule{"special_tokens_map_file", none},
    key_rule{"sp_model_kwargs", none},
    key_rule{"legacy", none},
    key_rule{"use_fast", none},
    key_rule{"use_default_system_prompt", none},
    key_rule{"is_local", none},
    key_rule{"local_files_only", none},
    key_rule{"verbose", none},
    key_rule{"response_schema", none},
};

constexpr std::array tokenizer{
    key_rule{"added_tokens"},
    key_rule{"normalizer"},
    key_rule{"pre_tokenizer"},
    key_rule{"model"},
    key_rule{"decoder"},
    key_rule{"version", none},
    // transformers sets both anew for each text, and a chat template says itself what stands around one.
    key_rule{"truncation", none},
    key_rule{"padding", none},
    key_rule{"post_processor", none},
};

constexpr std::array bpe{
    key_rule{"type"},
    key_rule{"vocab"},
    key_rule{"merges"},
    key_rule{"dropout"},
    key_rule{"continuing_subword_prefix"},
    key_rule{"end_of_word_suffix"},
    key_rule{"byte_fallback"},
    key_rule{"ignore_merges"},
    // Every byte is a token, so that nothing is unknown.
    key_rule{"unk_token", none},
    key_rule{"fuse_unk", none},
};

constexpr std::array pre_tokenizer{
    key_rule{"type"},      key_rule{"pretokenizers"},
    key_rule{"behavior"},  key_rule{"invert"},
    key_rule{"pattern"},   key_rule{"add_prefix_space"},
    key_rule{"use_regex"}, key_rule{"trim_offsets", none}, // of places in the text, which nobody asks for
};

constexpr std::array added_token{
    key_rule{"id"},     key_rule{"content"}, key_rule{"special"},    key_rule{"single_word"},
    key_rule{"lstrip"}, key_rule{"rstrip"},  key_rule{"normalized"},
};

bool admits(const key_rule& rule, const nlohmann::json& value) {
  if (rule.what != only || value.is_null())
    return true;
  const auto valid = nlohmann::json::parse("[" + std::string{rule.valid} + "]");
  return std::ranges::find(valid, value) != valid.end();
}

bool is_off(std::string_view key, const nlohmann::json& value) {
  return key.starts_with('_') || value.is_null() || value == false;
}

} // namespace

key_rules general_keys() {
  static constexpr auto all = joined(library, running, general);
  return all;
}
key_rules text_keys() {
  return text;
}
key_rules picture_model_keys() {
  return picture_model;
}
key_rules vision_keys() {
  return vision;
}
key_rules rope_keys() {
  return rope;
}
key_rules vision_rope_keys() {
  return vision_rope;
}
key_rules generation_keys() {
  static constexpr auto all = joined(library, running, generation);
  return all;
}
key_rules preprocessor_keys() {
  static constexpr auto all = joined(library, preprocessor);
  return all;
}
key_rules picture_size_keys() {
  return picture_size;
}
key_rules tokenizer_config_keys() {
  static constexpr auto all = joined(library, tokenizer_config);
  return all;
}
key_rules tokenizer_keys() {
  return tokenizer;
}
key_rules bpe_keys() {
  return bpe;
}
key_rules pre_tokenizer_keys() {
  return pre_tokenizer;
}
key_rules added_token_keys() {
  return added_token;
}

std::optional<unaccounted_key> find_unaccounted(const nlohmann::json& object, std::initializer_list<key_rules> rules) {
  for (const auto& [name, value] : object.items()) {
    const key_rule* found = nullptr;
    for (const key_rules& each : rules)
      if (const auto at = std::ranges::find(each, std::string_view{name}, &key_rule::key); at != each.end())
        found = &*at;
    if (!found && !is_off(name, value))
      return unaccounted_key{name, "no such key: it is not known here, and may change what is computed"};
    if (found && !admits(*found, value))
      return unaccounted_key{name, found->valid.empty() ? "no such key" : std::string{found->valid}};
  }
  return std::nullopt;
}

} // namespace troupe::gpu::models
