#include <cmath>
#include <numbers>

#include "gpu/models/config.hpp"
#include "protocols/cluster_spec.hpp"
#include "tests/gpu/model_support.hpp"
#include "tests/gpu/published_folder.hpp"

using namespace troupe;
using namespace troupe::tests;
using nlohmann::json;
using protocols::role_kind;

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

std::string layout_refusal(const models::model_facts& facts, role_kind role, std::uint32_t mesh, std::uint32_t stages) {
  const auto valid = models::check_layout(facts, role, mesh, stages);
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
    for (const role_kind role : {role_kind::encode, role_kind::prefill, role_kind::decode, role_kind::all})
      CHECK(models::check_layout(facts, role, mesh, 1));
  CHECK(models::check_layout(facts, role_kind::prefill, 2, 8));
  CHECK(models::check_layout(facts, role_kind::front, 3, 9));
  CHECK(layout_refusal(facts, role_kind::prefill, 3, 1) ==
        "tensor_parallel 3 does not divide the 8 query heads of reader; valid here: 1, 2, 4");
  CHECK(layout_refusal(facts, role_kind::decode, 8, 1) ==
        "tensor_parallel 8 does not divide the 4 kv heads of reader; valid here: 1, 2, 4");
  CHECK(layout_refusal(facts, role_kind::encode, 8, 1) ==
        "tensor_parallel 8 does not divide the 4 vision heads of reader; valid here: 1, 2, 4");
  CHECK(layout_refusal(facts, role_kind::decode, 0, 1).starts_with("tensor_parallel 0 does not divide"));
  CHECK(layout_refusal(facts, role_kind::decode, 1, 9) ==
        "pipeline_parallel 9 cannot cut the 8 layers of reader; valid here: 1 to 8");
  CHECK(layout_refusal(facts, role_kind::encode, 1, 2) ==
        "pipeline_parallel 2 cannot cut the vision tower of reader, which is whole on every stage; valid here: 1");
  auto text_only = facts;
  text_only.has_vision = false;
  CHECK(models::check_layout(text_only, role_kind::all, 4, 1));
  CHECK(layout_refusal(text_only, role_kind::encode, 1, 1) ==
        "reader (Qwen3VLForConditionalGeneration) has no vision tower; valid here: no pool of role encode");
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

  const auto bytes = [&](role_kind role, const models::shard& part, gpu::element_kind element) {
    const auto counted = models::weight_bytes(folder, role, part, element);
    REQUIRE(counted);
    return *counted;
  };
  const auto tower = bytes(role_kind::encode, {}, gpu::element_kind::bf16);
  const auto text = bytes(role_kind::decode, {}, gpu::element_kind::bf16);
  CHECK(tower + text == published);
  CHECK(bytes(role_kind::decode, {}, gpu::element_kind::f32) == 2 * text);

  // and: two stages hold the whole between them, the tied embedding twice, for the last predicts with it
  const auto first = bytes(role_kind::prefill, {.pipeline_parallel = 2, .stage = 0}, gpu::element_kind::bf16);
  const auto halves = bytes(role_kind::prefill, {.tensor_parallel = 2}, gpu::element_kind::bf16);
  CHECK(first > text / 2);
  CHECK(first < text);
  CHECK(halves > text / 2);
  CHECK(halves < text);
}
