#include <cmath>
#include <numbers>

#include "gpu/models/config.hpp"
#include "protocols/cluster/cluster_spec.hpp"
#include "tests/gpu/model_support.hpp"
#include "tests/gpu/published_folder.hpp"

using namespace troupe;
using namespace troupe::tests;
using nlohmann::json;

namespace {

json published(const char* name) {
  std::ifstream stream{reader_folder / name};
  return json::parse(stream);
}

/// The reader's configuration with one pointer changed; null removes.
struct change {
  const char* file;
  const char* pointer;
  json value;
};
std::string refusal(const change& what) {
  const scratch_folder folder{"config"};
  for (const char* name : {"config.json", "generation_config.json", "preprocessor_config.json"}) {
    json object = published(name);
    if (name == std::string_view{what.file})
      object = object.patch(json::array(
          {{{"op", what.value.is_null() ? "remove" : "add"}, {"path", what.pointer}, {"value", what.value}}}));
    folder.write(name, object);
  }
  const auto facts = models::read_facts(folder.path());
  if (facts)
    return "accepted";
  CHECK(facts.error().code == protocols::fault::config_invalid);
  const std::string prefix = (folder.path() / "").string();
  REQUIRE(facts.error().what.starts_with(prefix));
  return facts.error().what.substr(prefix.size());
}

constexpr protocols::model_parts tower_alone{.tower = true};
constexpr protocols::model_parts text_alone{.text = true};
constexpr protocols::model_parts both_parts{.text = true, .tower = true};

std::string layout_refusal(const models::model_facts& facts, protocols::model_parts parts, std::uint32_t mesh,
                           std::uint32_t stages) {
  const auto valid = models::check_layout(facts, parts, mesh, stages);
  return valid ? "" : valid.error().what;
}

} // namespace

TEST_CASE("the facts of the reader are those that were published") {
  const auto facts = take(models::read_facts(reader_folder));
  CHECK(facts.name == "reader");
  CHECK(facts.architecture == "Qwen3VLForConditionalGeneration");
  CHECK(facts.vocabulary == 320);
  CHECK(facts.hidden == 192);
  CHECK(facts.layers == 8);
  CHECK(facts.query_heads == 8);
  CHECK(facts.kv_heads == 4);
  CHECK(facts.head_elements == 32);
  CHECK(facts.context_max == 4096);
  CHECK(facts.end_tokens == std::vector<protocols::token_id>{258, 256});
  CHECK(facts.has_vision);
  CHECK(facts.deepstack_levels == 2);
  CHECK(facts.row_elements() == 576);
  CHECK(facts.image_token == 261);
  CHECK(facts.picture_tokens_max() == 72);
  CHECK(facts.picture_bytes_max() == 221184);
}

TEST_CASE("a configuration that cannot be used is refused with file, key, what is there and what would be valid") {
  CHECK(refusal({"config.json", "/architectures", {"MambaForCausalLM"}}) ==
        "config.json: architectures is [\"MambaForCausalLM\"]; valid here: one of Qwen3VLForConditionalGeneration, "
        "Qwen3ForCausalLM, Qwen2ForCausalLM, LlamaForCausalLM");
  CHECK(refusal({"config.json", "/architectures", nullptr}).starts_with("config.json: architectures is missing"));
  CHECK(refusal({"config.json", "/text_config/hidden_size", "wide"}) ==
        "config.json: text_config.hidden_size is \"wide\"; valid here: an integer from 1 to 1048576");
  CHECK(refusal({"config.json", "/text_config/vocab_size", nullptr}) ==
        "config.json: text_config.vocab_size is missing; valid here: an integer from 1 to 4194304");
  CHECK(refusal({"config.json", "/text_config/num_hidden_layers", -1})
            .starts_with("config.json: text_config.num_hidden"));
  CHECK(refusal({"config.json", "/text_config/num_key_value_heads", 3}) ==
        "config.json: text_config.num_key_value_heads is 3; valid here: a divisor of num_attention_heads, 8");
  CHECK(refusal({"config.json", "/text_config/hidden_act", "relu"}) ==
        "config.json: text_config.hidden_act is \"relu\"; valid here: \"silu\"");
  CHECK(refusal({"config.json", "/text_config/rope_parameters/rope_type", "yarn"}) ==
        "config.json: text_config.rope_parameters.rope_type is \"yarn\"; valid here: \"default\" or \"llama3\"");
  CHECK(refusal({"config.json", "/text_config/rope_parameters/mrope_section", {6, 5, 6}}) ==
        "config.json: text_config.rope_parameters.mrope_section is [6,5,6]; valid here: three numbers that sum to 16");
  CHECK(refusal({"config.json", "/vision_config/num_position_embeddings", 255}) ==
        "config.json: vision_config.num_position_embeddings is 255; valid here: a square number");
  CHECK(refusal({"config.json", "/vision_config/deepstack_visual_indexes", {3, 1}})
            .starts_with("config.json: vision_config.deepstack_visual_indexes is [3,1]"));
  CHECK(refusal({"config.json", "/vision_config/out_hidden_size", 128}) ==
        "config.json: vision_config.out_hidden_size is 128; valid here: the text model's hidden_size, 192");
  CHECK(refusal({"config.json", "/vision_config", 7}) == "config.json: vision_config is 7; valid here: an object");
  CHECK(refusal({"config.json", "/image_token_id", 320}) ==
        "config.json: image_token_id is 320; valid here: a token id below the vocabulary's 320");
  CHECK(refusal({"preprocessor_config.json", "/patch_size", 14}) ==
        "preprocessor_config.json: patch_size is 14; valid here: the tower's 16");
  CHECK(refusal({"preprocessor_config.json", "/size/shortest_edge", 100000})
            .starts_with("preprocessor_config.json: size is {"));
  CHECK(refusal({"generation_config.json", "/eos_token_id", {258, 999}})
            .starts_with("generation_config.json: eos_token_id is [258,999]"));
  CHECK(refusal({"generation_config.json", "/eos_token_id", nullptr}) ==
        "config.json: eos_token_id is missing; valid here: a token id or a list of them, here or in "
        "generation_config.json");
}

TEST_CASE("K10: every key of a folder is honoured, known to change nothing here, or refused by name") {
  const char* const none = "valid here: no such key";
  const std::vector<std::pair<change, std::string>> refused{
      {{"config.json", "/text_config/rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}},
       "text_config.rope_scaling is {\"factor\":4.0,\"rope_type\":\"yarn\"}; valid here: the same as rope_parameters"},
      {{"config.json", "/text_config/rope_theta", 10000.0},
       "rope_parameters.rope_theta is 500000.0; valid here: the same"},
      {{"config.json", "/text_config/rope_parameters/rope_theta", nullptr}, "rope_theta is missing"},
      {{"config.json", "/text_config/rope_parameters/type", "linear"}, "rope_parameters.type is \"linear\""},
      {{"config.json", "/text_config/rope_parameters/factor", 2.0}, "rope_parameters.factor is 2.0"},
      {{"config.json", "/text_config/rope_parameters/rope_type", "llama3"}, "rope_parameters.factor is missing"},
      {{"config.json", "/text_config/rope_parameters/beta_fast", 32}, none},
      {{"config.json", "/text_config/rope_parameters/partial_rotary_factor", 0.5}, "partial_rotary_factor is 0.5"},
      {{"config.json", "/text_config/sliding_window", 128}, "text_config.sliding_window is 128; valid here: null"},
      {{"config.json", "/text_config/use_sliding_window", true}, "use_sliding_window is true; valid here: false"},
      {{"config.json", "/text_config/layer_types", {"sliding_attention"}}, "\"full_attention\" for each layer"},
      {{"config.json", "/text_config/tie_word_embeddings", false}, "the same as tie_word_embeddings outside"},
      {{"config.json", "/text_config/logit_scale", 0.5}, none},
      {{"config.json", "/text_config/num_experts", 8}, none},
      {{"config.json", "/logit_scale", 0.5}, none},
      {{"config.json", "/quantization_config", {{"bits", 4}}}, none},
      {{"config.json", "/auto_map", {{"AutoModel", "x.Y"}}}, none},
      {{"config.json", "/model_type", "qwen2_vl"}, "model_type is \"qwen2_vl\"; valid here: \"qwen3_vl\""},
      {{"config.json", "/vision_config/rope_parameters/rope_type", "yarn"}, "vision_config.rope_parameters.rope_type"},
      {{"config.json", "/vision_config/fullatt_block_indexes", {1}}, none},
      {{"preprocessor_config.json", "/do_resize", false}, "do_resize is false; valid here: true"},
      {{"preprocessor_config.json", "/do_rescale", false}, "do_rescale is false; valid here: true"},
      {{"preprocessor_config.json", "/do_normalize", false}, "do_normalize is false; valid here: true"},
      {{"preprocessor_config.json", "/do_convert_rgb", false}, "do_convert_rgb is false; valid here: true"},
      {{"preprocessor_config.json", "/do_center_crop", true}, "do_center_crop is true; valid here: false"},
      {{"preprocessor_config.json", "/do_pad", true}, "do_pad is true; valid here: false"},
      {{"preprocessor_config.json", "/resample", 2}, "resample is 2; valid here: 3"},
      {{"preprocessor_config.json", "/size/height", 224}, "size.height is 224; " + std::string{none}},
      {{"preprocessor_config.json", "/image_processor_type", "CLIPImageProcessor"},
       "valid here: \"Qwen2VLImageProcessor\""},
      {{"preprocessor_config.json", "/max_pixels", 100}, "max_pixels is 100; valid here: a largest picture"},
      {{"preprocessor_config.json", "/sharpen", 2}, none},
      {{"generation_config.json", "/suppress_tokens", {7}}, "suppress_tokens is [7]; valid here: []"},
      {{"generation_config.json", "/stop_strings", {"\n"}}, "valid here: []"},
      {{"generation_config.json", "/num_beams", 4}, "num_beams is 4; valid here: 1"},
      {{"generation_config.json", "/forced_eos_token_id", 258}, none},
  };
  for (const auto& [what, says] : refused) {
    CAPTURE(what.pointer);
    const std::string said = refusal(what);
    CAPTURE(said);
    CHECK(said.starts_with(what.file));
    CHECK(said.find(says) != std::string::npos);
  }
  const std::vector<change> accepted{
      {"config.json", "/_name_or_path", "somewhere"},
      {"config.json", "/text_config/_attn_implementation_autoset", true},
      {"config.json", "/text_config/use_bidirectional_attention", false},
      {"config.json", "/text_config/sliding_window", 4096},
      {"config.json", "/text_config/max_window_layers", 28},
      {"config.json", "/text_config/rope_theta", 500000.0},
      {"config.json", "/text_config/rope_parameters/type", "mrope"},
      {"config.json", "/text_config/layer_types", std::vector<std::string>(8, "full_attention")},
      {"config.json", "/torch_dtype", "float16"},
      {"generation_config.json", "/temperature", 0.7},
      {"generation_config.json", "/num_beams", 1},
      {"preprocessor_config.json", "/image_mean", {0.0, 0.0, 0.0}},
      {"preprocessor_config.json", "/do_pad", false},
      {"preprocessor_config.json", "/crop_size", {{"height", 224}}},
  };
  for (const change& what : accepted) {
    CAPTURE(what.pointer);
    CHECK(refusal(what) == "accepted");
  }
}

TEST_CASE("K10: min_pixels and max_pixels take the place of the edges of a picture's size") {
  const auto facts = [](const json& changed) {
    const scratch_folder folder{"pixels"};
    for (const char* name : {"config.json", "generation_config.json"})
      folder.write(name, published(name));
    json object = published("preprocessor_config.json");
    object.merge_patch(changed);
    folder.write("preprocessor_config.json", object);
    return take(models::read_facts(folder.path()));
  };
  CHECK(facts({{"max_pixels", 24576}}).picture_pixels_max == 24576);
  CHECK(facts({{"max_pixels", 24576}}).picture_pixels_min == 12288);
  CHECK(facts({{"min_pixels", 20000}}).picture_pixels_min == 20000);
  CHECK(facts({{"max_pixels", nullptr}}).picture_pixels_max == 73728);
  CHECK(facts({{"size", nullptr}, {"min_pixels", 3136}, {"max_pixels", 50000}}).picture_pixels_max == 50000);
}

TEST_CASE("K10: a processor's configuration may hold that of pictures, and may not contradict it") {
  const scratch_folder folder{"processor"};
  for (const char* name : {"config.json", "generation_config.json"})
    folder.write(name, published(name));
  json nested = published("preprocessor_config.json");
  nested["size"]["longest_edge"] = 50000;
  folder.write("processor_config.json", json{{"image_processor", nested}, {"processor_class", "Qwen3VLProcessor"}});
  CHECK(take(models::read_facts(folder.path())).picture_pixels_max == 50000);

  folder.write("preprocessor_config.json", published("preprocessor_config.json"));
  const auto both = models::read_facts(folder.path());
  REQUIRE_FALSE(both);
  CHECK(both.error().what.find("processor_config.json: image_processor is another one than") != std::string::npos);

  nested["resample"] = 2;
  folder.write("processor_config.json", json{{"image_processor", nested}});
  std::filesystem::remove(folder.path() / "preprocessor_config.json");
  const auto refused = models::read_facts(folder.path());
  REQUIRE_FALSE(refused);
  CHECK(refused.error().what.find("processor_config.json: image_processor.resample is 2") != std::string::npos);
}

TEST_CASE("K10: every end-of-turn token that the folder names ends an answer") {
  using tokens = std::vector<protocols::token_id>;
  const auto ends = [](const json& generation, const json& config, const json& tokenizer) {
    const scratch_folder folder{"ends"};
    json of_model = published("config.json"), of_words = published("tokenizer_config.json");
    of_model.merge_patch(config);
    of_words.merge_patch(tokenizer);
    folder.write("config.json", of_model);
    folder.write("tokenizer_config.json", of_words);
    folder.write("generation_config.json", generation);
    for (const char* name : {"preprocessor_config.json", "tokenizer.json"})
      folder.write(name, published(name));
    return take(models::read_facts(folder.path())).end_tokens;
  };
  const json nothing = json::object();
  CHECK(ends({{"eos_token_id", 256}}, nothing, nothing) == tokens{256, 258}); // tokenizer_config.json: <|im_end|>
  CHECK(ends(nothing, nothing, nothing) == tokens{258});
  CHECK(ends({{"eos_token_id", 256}}, {{"eos_token_id", 7}}, {{"eos_token", nullptr}}) == tokens{256, 7});
  CHECK(ends({{"eos_token_id", {256, 258}}}, {{"text_config", {{"eos_token_id", {9, 256}}}}}, nothing) ==
        tokens{256, 258, 9});
  CHECK(ends({{"eos_token_id", 256}}, nothing, {{"eos_token", {{"content", "<|im_end|>"}}}}) == tokens{256, 258});
  CHECK(ends({{"eos_token_id", 256}}, nothing, {{"eos_token", "of nobody"}}) == tokens{256});
  // An id that stands in tokenizer_config.json itself.
  CHECK(ends({{"eos_token_id", 256}}, nothing,
             {{"eos_token", "<e>"}, {"added_tokens_decoder", {{"300", {{"content", "<e>"}}}}}}) == tokens{256, 300});
  CHECK(ends({{"eos_token_id", 256}}, nothing,
             {{"eos_token", "<e>"}, {"added_tokens_decoder", {{"320", {{"content", "<e>"}}}}}}) == tokens{256});
}

TEST_CASE("a configuration file is bounded in length and depth before it is parsed") {
  const scratch_folder folder{"hostile-config"};
  const auto refused = [&](const std::string& text) {
    folder.write("config.json", text);
    const auto facts = models::read_facts(folder.path());
    REQUIRE_FALSE(facts);
    return facts.error().what.substr((folder.path() / "").string().size());
  };
  CHECK(refused(std::string(200'000, '[')) == "config.json: nested 200000 deep; at most 16");
  CHECK(refused(std::string(2 << 20, ' ')) == "config.json: 2097152 bytes; at most 1048576");
  CHECK(refused("{\"a\": }") == "config.json: not JSON at byte 7");
  CHECK(refused("[1]") == "config.json: is array; valid here: a JSON object");
  CHECK(refused("").starts_with("config.json: not JSON at byte"));
  const auto missing = models::read_facts(folder.path() / "nowhere");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().what.ends_with("nowhere/config.json: No such file or directory"));
}

TEST_CASE("a layout must divide heads, columns and layers, and the refusal lists what would") {
  const auto facts = take(models::read_facts(reader_folder));
  for (const std::uint32_t mesh : {1U, 2U, 4U})
    for (const auto parts : {tower_alone, text_alone, both_parts})
      CHECK(models::check_layout(facts, parts, mesh, 1));
  CHECK(models::check_layout(facts, text_alone, 2, 8));
  CHECK(models::check_layout(facts, protocols::model_parts{}, 3, 9));
  CHECK(layout_refusal(facts, text_alone, 3, 1) ==
        "tensor_parallel 3 does not divide the 8 query heads of reader; valid here: 1, 2, 4");
  CHECK(layout_refusal(facts, text_alone, 8, 1) ==
        "tensor_parallel 8 does not divide the 4 kv heads of reader; valid here: 1, 2, 4");
  CHECK(layout_refusal(facts, tower_alone, 8, 1) ==
        "tensor_parallel 8 does not divide the 4 vision heads of reader; valid here: 1, 2, 4");
  CHECK(layout_refusal(facts, text_alone, 0, 1).starts_with("tensor_parallel 0 does not divide"));
  CHECK(layout_refusal(facts, text_alone, 1, 9) ==
        "pipeline_parallel 9 cannot cut the 8 layers of reader; valid here: 1 to 8");
  CHECK(layout_refusal(facts, tower_alone, 1, 2) ==
        "pipeline_parallel 2 cannot cut the vision tower of reader, which is whole on every stage; valid here: 1");
  auto text_only = facts;
  text_only.has_vision = false;
  CHECK(models::check_layout(text_only, text_alone, 4, 1));
  for (const auto parts : {both_parts, tower_alone})
    CHECK(layout_refusal(text_only, parts, 1, 1) == "reader (Qwen3VLForConditionalGeneration) has no vision tower");
}

TEST_CASE("stages take consecutive layers, the earlier ones one more where they do not divide") {
  models::model_facts facts;
  for (std::uint32_t layers = 1; layers <= 40; ++layers)
    for (std::uint32_t stages = 1; stages <= layers; ++stages) {
      facts.layers = layers;
      std::uint32_t next = 0;
      std::uint32_t longest = layers;
      for (std::uint32_t stage = 0; stage < stages; ++stage) {
        const auto [first, last] = models::layers_of(facts, {.pipeline_parallel = stages, .stage = stage});
        REQUIRE(first == next);
        REQUIRE(last > first);
        REQUIRE(last - first <= longest);
        REQUIRE(last - first >= layers / stages);
        longest = last - first;
        next = last;
      }
      REQUIRE(next == layers);
    }
}

TEST_CASE("Llama 3's stretch leaves high frequencies, divides low ones and blends between") {
  models::rope_config rope;
  rope.theta = 500'000.0;
  const auto plain = rope.frequencies(128);
  rope.stretch = models::rope_config::llama3_stretch{8.0, 1.0, 4.0, 8192.0};
  const auto stretched = rope.frequencies(128);
  for (std::size_t i = 0; i < plain.size(); ++i) {
    CAPTURE(i);
    const double length = 2 * std::numbers::pi / plain[i];
    if (length < 8192.0 / 4)
      CHECK(stretched[i] == plain[i]);
    else if (length > 8192.0)
      CHECK(stretched[i] == doctest::Approx(plain[i] / 8));
    else {
      CHECK(stretched[i] < plain[i]);
      CHECK(stretched[i] > plain[i] / 8);
    }
  }
}

TEST_CASE("interleaved sections turn every third angle by height and by width") {
  models::rope_config rope;
  CHECK(rope.axes(8) == std::vector<std::uint8_t>(4, 0));
  rope.sections = {6, 5, 5};
  CHECK(rope.axes(32) == std::vector<std::uint8_t>{0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0});
  rope.sections = {24, 20, 20};
  const auto axes = rope.axes(128);
  CHECK(std::ranges::count(axes, 0) == 24);
  CHECK(std::ranges::count(axes, 1) == 20);
  CHECK(std::ranges::count(axes, 2) == 20);
}

TEST_CASE("weights are counted as the ranks of a layout will hold them, without opening them") {
  // given: what stands in the published file behind its header
  const auto folder = reader_folder;
  std::ifstream file{folder / "model.safetensors", std::ios::binary};
  std::uint64_t header = 0;
  file.read(reinterpret_cast<char*>(&header), sizeof header);
  const auto published = std::filesystem::file_size(folder / "model.safetensors") - sizeof header - header;

  const auto bytes = [&](protocols::model_parts one, const models::shard& part, gpu::element_kind element) {
    const auto counted = models::weight_bytes(folder, one, part, element);
    REQUIRE(counted);
    return *counted;
  };
  const auto tower = bytes(tower_alone, {}, gpu::element_kind::bf16);
  const auto text = bytes(text_alone, {}, gpu::element_kind::bf16);
  CHECK(tower + text == published);
  CHECK(bytes(text_alone, {}, gpu::element_kind::f32) == 2 * text);

  // and: two stages hold the whole between them, the tied embedding twice, for the last predicts with it
  const auto first = bytes(text_alone, {.pipeline_parallel = 2, .stage = 0}, gpu::element_kind::bf16);
  const auto halves = bytes(text_alone, {.tensor_parallel = 2}, gpu::element_kind::bf16);
  CHECK(first > text / 2);
  CHECK(first < text);
  CHECK(halves > text / 2);
  CHECK(halves < text);
}
