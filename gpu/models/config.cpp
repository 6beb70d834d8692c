#include "gpu/models/config.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "gpu/models/end_tokens.hpp"
#include "gpu/models/json_file.hpp"
#include "gpu/models/pictures/preprocessor.hpp"

namespace troupe::gpu::models {

using nlohmann::json;
using protocols::result;

namespace {

// Beyond any published model; they keep every product of two sizes within 64 bits.
constexpr std::uint32_t width_max = 1U << 20;
constexpr std::uint32_t layers_max = 1024;
constexpr std::uint32_t heads_max = 1024;
constexpr std::uint32_t vocabulary_max = 1U << 22;
constexpr std::uint32_t context_max = 1U << 24;
constexpr std::uint32_t picture_pixels_max = 1U << 26;

struct family {
  const char* architecture;
  bool vision;
  bool head_norms;
  bool fixed_input_bias; ///< q, k and v have biases whatever the config says, o has none
  const char* model_type;
  bool slides; ///< `sliding_window` counts where `use_sliding_window` is set
};
constexpr std::array families{
    family{"Qwen3VLForConditionalGeneration", true, true, false, "qwen3_vl", false},
    family{"Qwen3ForCausalLM", false, true, false, "qwen3", true},
    family{"Qwen2ForCausalLM", false, false, true, "qwen2", true},
    family{"LlamaForCausalLM", false, false, false, "llama", false},
};

const family* family_of(const json& config) {
  const auto names = config.find("architectures");
  if (names == config.end() || !names->is_array() || names->size() != 1 || !names->front().is_string())
    return nullptr;
  const auto& name = names->front().get_ref<const std::string&>();
  const auto at = std::ranges::find_if(families, [&](const family& each) { return name == each.architecture; });
  return at == families.end() ? nullptr : &*at;
}

std::string known_families() {
  std::string names;
  for (const family& each : families)
    names += (names.empty() ? "one of " : ", ") + std::string{each.architecture};
  return names;
}

/// The base, which may stand in two places, and in files of some versions in both.
double read_theta(key_reader& text, key_reader& keys, bool vision) {
  const double outside = text.number_or("rope_theta", 10'000.0);
  const double theta = keys.number_or("rope_theta", outside);
  if (keys.has("rope_theta") && text.has("rope_theta") && theta != outside)
    keys.refuse("rope_theta", "the same as rope_theta outside, or only one of the two");
  if (vision && !keys.has("rope_theta") && !text.has("rope_theta"))
    keys.refuse("rope_theta", "a positive number: versions of the library differ in what they take without it");
  return theta;
}

/// The kind of scaling, of two names for the key; that of pictures' positions is none.
std::string read_rope_type(key_reader& keys, bool vision) {
  const auto type_at = [&](const char* key) {
    const std::string type = keys.text_or(key, "default");
    return vision && type == "mrope" ? "default" : type;
  };
  const char* const key = keys.has("rope_type") ? "rope_type" : "type";
  const std::string type = type_at(key);
  if (keys.has("rope_type") && keys.has("type") && type_at("type") != type)
    keys.refuse("type", "the same as rope_type");
  if (type != "llama3" && type != "default")
    keys.refuse(key, R"("default" or "llama3")");
  return type;
}

rope_config read_rope(key_reader& text, const model_facts& facts, bool vision) {
  // Versions of transformers differ in which of the two they take.
  if (text.differ("rope_scaling", "rope_parameters"))
    text.refuse("rope_scaling", "the same as rope_parameters, or only one of the two");
  const char* const key = text.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  key_reader keys = text.child(key);
  keys.account_for({rope_keys()});
  rope_config rope;
  rope.theta = read_theta(text, keys, vision);

  if (read_rope_type(keys, vision) == "llama3") {
    rope_config::llama3_stretch stretch;
    stretch.factor = keys.number("factor");
    stretch.low_frequency_factor = keys.number("low_freq_factor");
    stretch.high_frequency_factor = keys.number("high_freq_factor");
    stretch.original_context = keys.number("original_max_position_embeddings");
    if (stretch.high_frequency_factor <= stretch.low_frequency_factor)
      keys.refuse("high_freq_factor", "more than low_freq_factor");
    rope.stretch = stretch;
  } else if (keys.number_or("factor", 1.0) != 1.0) {
    keys.refuse("factor", "none without a rope_type that takes it");
  }

  if (vision) {
    const auto sections = keys.counts("mrope_section", facts.head_elements);
    if (sections.size() != 3 || sections[0] + sections[1] + sections[2] != facts.head_elements / 2)
      keys.refuse("mrope_section", "three numbers that sum to " + std::to_string(facts.head_elements / 2));
    else
      std::ranges::copy(sections, rope.sections.begin());
    if (!keys.flag_or("mrope_interleaved", true))
      keys.refuse("mrope_interleaved", "true");
  }
  return rope;
}

/// Every layer here looks at all that came before.
void read_windows(key_reader& keys, const family& kind, const model_facts& facts) {
  if (keys.flag_or("use_sliding_window", false))
    keys.refuse("use_sliding_window", "false");
  if (!kind.slides && keys.has("sliding_window") && keys.count("sliding_window", context_max) < facts.context_max)
    keys.refuse("sliding_window", "null, or at least max_position_embeddings");
  const auto layers = keys.texts("layer_types");
  const bool whole = std::ranges::all_of(layers, [](const std::string& each) { return each == "full_attention"; });
  if (!layers.empty() && (!whole || layers.size() != facts.layers))
    keys.refuse("layer_types", "\"full_attention\" for each layer");
}

void read_text(key_reader& top, key_reader& keys, const family& kind, model_config& into) {
  model_facts& facts = into.facts;
  facts.vocabulary = keys.count("vocab_size", vocabulary_max);
  facts.hidden = keys.count("hidden_size", width_max);
  facts.layers = keys.count("num_hidden_layers", layers_max);
  facts.query_heads = keys.count("num_attention_heads", heads_max);
  facts.kv_heads = keys.count_or("num_key_value_heads", facts.query_heads, heads_max);
  facts.head_elements = keys.count_or("head_dim", std::max(1U, facts.hidden / facts.query_heads), width_max);
  facts.intermediate = keys.count("intermediate_size", width_max);
  facts.context_max = keys.count("max_position_embeddings", context_max);
  if (facts.query_heads % facts.kv_heads != 0)
    keys.refuse("num_key_value_heads", "a divisor of num_attention_heads, " + std::to_string(facts.query_heads));
  if (facts.head_elements % 2 != 0)
    keys.refuse("head_dim", "an even number");
  if (keys.text_or("hidden_act", "silu") != "silu")
    keys.refuse("hidden_act", R"("silu")");
  read_windows(keys, kind, facts);
  if (keys.has("partial_rotary_factor") && keys.number_or("partial_rotary_factor", 1.0) != 1.0)
    keys.refuse("partial_rotary_factor", "1");

  text_config& text = into.text;
  if (kind.vision)
    keys.account_for({general_keys(), text_keys()});
  text.prefix = kind.vision ? "model.language_model." : "model.";
  text.norm_epsilon = static_cast<float>(keys.number_or("rms_norm_eps", 1e-6));
  text.rope = read_rope(keys, facts, kind.vision);
  text.output_bias = !kind.fixed_input_bias && keys.flag_or("attention_bias", false);
  text.input_bias = kind.fixed_input_bias || text.output_bias;
  text.mlp_bias = keys.flag_or("mlp_bias", false);
  text.head_norms = kind.head_norms;
  const bool tied_inside = keys.flag_or("tie_word_embeddings", false);
  text.tied = top.flag_or("tie_word_embeddings", tied_inside);
  if (keys.has("tie_word_embeddings") && tied_inside != text.tied)
    keys.refuse("tie_word_embeddings", "the same as tie_word_embeddings outside");
}

void read_vision(key_reader& top, model_config& into) {
  model_facts& facts = into.facts;
  key_reader keys = top.child("vision_config");
  keys.account_for({general_keys(), vision_keys()});
  vision_config vision;
  vision.prefix = "model.visual.";
  vision.hidden = keys.count("hidden_size", width_max);
  vision.channels = keys.count_or("in_channels", 3, 16);
  vision.temporal = keys.count_or("temporal_patch_size", 2, 16);
  facts.has_vision = true;
  facts.vision_layers = keys.count("depth", layers_max);
  facts.vision_heads = keys.count("num_heads", heads_max);
  facts.vision_intermediate = keys.count("intermediate_size", width_max);
  facts.patch_pixels = keys.count_or("patch_size", 16, 256);
  facts.merge = keys.count_or("spatial_merge_size", 2, 16);
  if (vision.channels != 3)
    keys.refuse("in_channels", "3");
  if (vision.hidden % facts.vision_heads != 0 || vision.hidden / facts.vision_heads % 4 != 0)
    keys.refuse("num_heads",
                "a number that cuts hidden_size " + std::to_string(vision.hidden) + " into heads of a multiple of 4");
  if (keys.count("out_hidden_size", width_max) != facts.hidden)
    keys.refuse("out_hidden_size", "the text model's hidden_size, " + std::to_string(facts.hidden));

  const std::uint32_t positions = keys.count("num_position_embeddings", width_max);
  vision.grid = static_cast<std::uint32_t>(std::lround(std::sqrt(positions)));
  if (vision.grid * vision.grid != positions)
    keys.refuse("num_position_embeddings", "a square number");

  const std::string activation = keys.text_or("hidden_act", "gelu_pytorch_tanh");
  vision.tanh_gelu = activation == "gelu_pytorch_tanh";
  if (!vision.tanh_gelu && activation != "gelu")
    keys.refuse("hidden_act", R"("gelu_pytorch_tanh" or "gelu")");

  vision.deepstack = keys.counts("deepstack_visual_indexes", facts.vision_layers - 1);
  if (vision.deepstack.size() > facts.layers ||
      std::ranges::adjacent_find(vision.deepstack, std::greater_equal{}) != vision.deepstack.end())
    keys.refuse("deepstack_visual_indexes", "rising, at most as many as text layers");
  facts.deepstack_levels = static_cast<std::uint32_t>(vision.deepstack.size());
  key_reader rope = keys.child("rope_parameters");
  rope.account_for({vision_rope_keys()});
  vision.theta = rope.number_or("rope_theta", vision.theta);

  facts.image_token = top.token("image_token_id", facts.vocabulary);
  facts.vision_start_token = top.token("vision_start_token_id", facts.vocabulary);
  facts.vision_end_token = top.token("vision_end_token_id", facts.vocabulary);
  into.vision = std::move(vision);
}

/// The picture sizes that the preprocessor admits; it must cut patches as the tower does.
result<void> read_preprocessor(const std::filesystem::path& folder, model_config& into) {
  const auto found = find_preprocessor(folder);
  if (!found)
    return tl::unexpected(found.error());
  std::optional<protocols::failure> problem;
  key_reader keys{found->object, found->where, problem};
  key_reader size = keys.child("size");
  keys.account_for({preprocessor_keys()});
  size.account_for({picture_size_keys()});
  model_facts& facts = into.facts;
  // As published: min_pixels and max_pixels, where they are given, take the place of the edges of `size`.
  const auto bound = [&](const char* key, const char* edge) {
    return keys.has(key) || !size.has(edge) ? keys.count(key, picture_pixels_max)
                                            : size.count(edge, picture_pixels_max);
  };
  facts.picture_pixels_min = bound("min_pixels", "shortest_edge");
  facts.picture_pixels_max = bound("max_pixels", "longest_edge");
  if (facts.picture_pixels_max < facts.picture_pixels_min)
    keys.refuse(keys.has("max_pixels") ? "max_pixels" : "size",
                "a largest picture of at least the smallest, in pixels");
  if (keys.count_or("patch_size", facts.patch_pixels, 256) != facts.patch_pixels)
    keys.refuse("patch_size", "the tower's " + std::to_string(facts.patch_pixels));
  if (keys.count_or("merge_size", facts.merge, 16) != facts.merge)
    keys.refuse("merge_size", "the tower's " + std::to_string(facts.merge));
  if (keys.count_or("temporal_patch_size", into.vision->temporal, 16) != into.vision->temporal)
    keys.refuse("temporal_patch_size", "the tower's " + std::to_string(into.vision->temporal));
  if (problem)
    return tl::unexpected(*problem);
  return {};
}

} // namespace

std::vector<float> rope_config::frequencies(std::uint32_t head_elements) const {
  std::vector<float> values(head_elements / 2);
  for (std::uint32_t i = 0; i < values.size(); ++i) {
    double turn = std::pow(theta, -2.0 * i / head_elements);
    if (stretch) {
      const double length = 2.0 * std::numbers::pi / turn;
      if (length > stretch->original_context / stretch->low_frequency_factor) {
        turn /= stretch->factor;
      } else if (length >= stretch->original_context / stretch->high_frequency_factor) {
        const double kept = (stretch->original_context / length - stretch->low_frequency_factor) /
                            (stretch->high_frequency_factor - stretch->low_frequency_factor);
        turn = (1.0 - kept) * turn / stretch->factor + kept * turn;
      }
    }
    values[i] = static_cast<float>(turn);
  }
  return values;
}

std::vector<std::uint8_t> rope_config::axes(std::uint32_t head_elements) const {
  std::vector<std::uint8_t> axis(head_elements / 2, 0);
  for (std::uint8_t of = 1; of < 3; ++of)
    for (std::size_t i = of; i < std::min<std::size_t>(3U * sections[of], axis.size()); i += 3)
      axis[i] = of;
  return axis;
}

result<model_config> read_config(const std::filesystem::path& folder) {
  const auto file = folder / "config.json";
  const auto object = read_object(file);
  if (!object)
    return tl::unexpected(object.error());

  std::optional<protocols::failure> problem;
  key_reader top{*object, file.string() + ": ", problem};
  const family* kind = family_of(*object);
  if (!kind) {
    top.refuse("architectures", known_families());
    return tl::unexpected(*problem);
  }
  model_config config;
  config.facts.name = folder.has_filename() ? folder.filename().string() : folder.parent_path().filename().string();
  config.facts.architecture = kind->architecture;
  key_reader text = kind->vision ? top.child("text_config") : top;
  top.account_for({general_keys(), kind->vision ? picture_model_keys() : text_keys()});
  if (top.text_or("model_type", kind->model_type) != kind->model_type)
    top.refuse("model_type", "\"" + std::string{kind->model_type} + "\", that of the architecture");
  read_text(top, text, *kind, config);
  if (kind->vision && !problem)
    read_vision(top, config);
  if (problem)
    return tl::unexpected(*problem);
  if (kind->vision)
    if (auto read = read_preprocessor(folder, config); !read)
      return tl::unexpected(read.error());
  auto ends = find_end_tokens(folder, *object, config.facts.vocabulary);
  if (!ends)
    return tl::unexpected(ends.error());
  config.facts.end_tokens = *std::move(ends);
  return config;
}

result<model_facts> read_facts(const std::filesystem::path& folder) {
  return read_config(folder).map([](model_config config) { return std::move(config.facts); });
}

std::uint32_t model_facts::picture_tokens_max() const noexcept {
  if (!has_vision)
    return 0;
  const std::uint64_t side = std::uint64_t{patch_pixels} * merge;
  return static_cast<std::uint32_t>(picture_pixels_max / (side * side));
}

} // namespace troupe::gpu::models
