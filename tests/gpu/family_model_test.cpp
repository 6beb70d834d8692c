#include <algorithm>
#include <array>
#include <cstring>
#include <random>

#include "gpu/models/safetensors.hpp"
#include "protocols/serve/prompt_positions.hpp"
#include "tests/gpu/model_support.hpp"
#include "tests/gpu/published_folder.hpp"

// The other families: against what transformers computed for small random models of each (tests/golden/families), and
// against themselves: any cut of the model, any cut of the prompt and any way to a token give the same logits.

using namespace troupe;
using namespace troupe::tests;
using nlohmann::json;

namespace {

struct published_family {
  const char* name;
  json config;
  bool input_bias, output_bias, mlp_bias, head_norms, tied;
};

json dense(const char* architecture, json more) {
  json config{{"architectures", {architecture}},
              {"hidden_size", 48},
              {"intermediate_size", 80},
              {"num_hidden_layers", 3},
              {"num_attention_heads", 4},
              {"num_key_value_heads", 2},
              {"vocab_size", 101},
              {"max_position_embeddings", 256},
              {"rms_norm_eps", 1e-5},
              {"eos_token_id", 7},
              {"hidden_act", "silu"}};
  config.update(more);
  return config;
}

const std::vector<published_family>& families() {
  static const std::vector<published_family> all{
      {"qwen3", dense("Qwen3ForCausalLM", {{"head_dim", 16}, {"rope_theta", 1e6}, {"tie_word_embeddings", true}}),
       false, false, false, true, true},
      {"qwen2", dense("Qwen2ForCausalLM", {{"vocab_size", 102}, {"rope_theta", 1e6}, {"rope_scaling", nullptr}}), true,
       false, false, false, false},
      {"llama3",
       dense("LlamaForCausalLM", {{"rope_theta", 500000.0},
                                  {"rope_scaling",
                                   {{"rope_type", "llama3"},
                                    {"factor", 8.0},
                                    {"low_freq_factor", 1.0},
                                    {"high_freq_factor", 4.0},
                                    {"original_max_position_embeddings", 64}}}}),
       false, false, false, false, false},
      {"llama with biases",
       dense("LlamaForCausalLM", {{"attention_bias", true},
                                  {"mlp_bias", true},
                                  {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 10000.0}}}}),
       true, true, true, false, false},
  };
  return all;
}

std::map<std::string, random_tensor> tensors_of(const published_family& kind) {
  const std::uint64_t hidden = 48, wide = 80, vocabulary = kind.config["vocab_size"];
  const std::uint64_t width = kind.config.value("head_dim", 12);
  std::map<std::string, random_tensor> all;
  const auto linear = [&](const std::string& name, std::uint64_t rows, std::uint64_t columns, bool bias) {
    all[name + ".weight"] = {{rows, columns}, rows % 3 == 0};
    if (bias)
      all[name + ".bias"] = {{rows}};
  };
  all["model.embed_tokens.weight"] = {{vocabulary, hidden}, false};
  for (int i = 0; i < 3; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    all[layer + "input_layernorm.weight"] = {{hidden}};
    all[layer + "post_attention_layernorm.weight"] = {{hidden}};
    linear(layer + "self_attn.q_proj", 4 * width, hidden, kind.input_bias);
    linear(layer + "self_attn.k_proj", 2 * width, hidden, kind.input_bias);
    linear(layer + "self_attn.v_proj", 2 * width, hidden, kind.input_bias);
    linear(layer + "self_attn.o_proj", hidden, 4 * width, kind.output_bias);
    linear(layer + "mlp.gate_proj", wide, hidden, kind.mlp_bias);
    linear(layer + "mlp.up_proj", wide, hidden, kind.mlp_bias);
    linear(layer + "mlp.down_proj", hidden, wide, kind.mlp_bias);
    if (kind.head_norms) {
      all[layer + "self_attn.q_norm.weight"] = {{width}};
      all[layer + "self_attn.k_norm.weight"] = {{width}};
    }
  }
  all["model.norm.weight"] = {{hidden}};
  if (!kind.tied)
    all["lm_head.weight"] = {{vocabulary, hidden}};
  return all;
}

std::vector<protocols::token_id> prompt_of(std::size_t length, unsigned seed) {
  std::mt19937 from{seed};
  std::uniform_int_distribution<protocols::token_id> draw{0, 100};
  std::vector<protocols::token_id> ids;
  for (std::size_t i = 0; i < length; ++i)
    ids.push_back(draw(from));
  return ids;
}

/// Logits after `ids`, prefilled in pieces of the given lengths.
std::vector<float> logits_after(text_company& company, std::span<const protocols::token_id> ids,
                                const std::vector<std::size_t>& pieces) {
  const auto blocks = blocks_from(3, 5);
  std::vector<float> logits;
  std::size_t at = 0;
  for (const std::size_t piece : pieces) {
    const auto positions = plain_positions(static_cast<std::int32_t>(at), piece);
    const models::text_model::sequence part{.ids = ids.subspan(at, piece),
                                            .positions = positions,
                                            .context = static_cast<std::uint32_t>(at),
                                            .blocks = blocks,
                                            .pictures = {},
                                            .wants_logits = true};
    logits = company.forward(std::span{&part, 1});
    at += piece;
  }
  REQUIRE(at == ids.size());
  return logits;
}

/// What transformers computed for one of tests/golden/families.
class reference {
public:
  explicit reference(const std::string& family)
      : folder_(golden_folder / "families" / family),
        files_(take(models::tensor_files::open_file(folder_ / "reference.safetensors"))),
        model_(take(models::open_folder(folder_))) {}

  models::model_folder& model() { return *model_; }
  template <class T>
  std::vector<T> values(const std::string& name) const {
    const models::published_tensor* found = files_->find(name);
    REQUIRE(found);
    std::vector<T> values(found->bytes.size() / sizeof(T));
    std::memcpy(values.data(), found->bytes.data(), found->bytes.size());
    return values;
  }
  std::vector<std::uint64_t> shape(const std::string& name) const { return files_->find(name)->shape; }

private:
  std::filesystem::path folder_;
  std::unique_ptr<const models::tensor_files> files_;
  std::unique_ptr<models::model_folder> model_;
};

constexpr double reference_tolerance = 2e-4;

} // namespace

TEST_CASE("every dense family gives the reference's logits") {
  for (const char* family : {"qwen3", "qwen2", "llama", "llama_biased"}) {
    CAPTURE(family);
    reference expected{family};
    const auto ids = expected.values<protocols::token_id>("ids");
    const auto logits = expected.values<float>("logits");
    const std::size_t vocabulary = expected.model().facts().vocabulary;
    REQUIRE(logits.size() == ids.size() * vocabulary);
    for (const std::uint32_t mesh : {1U, 2U}) {
      text_company company{expected.model(), mesh, 1};
      for (const std::size_t length : {1U, 16U, 33U, 50U}) {
        CAPTURE(length);
        const auto row = std::span{logits}.subspan((length - 1) * vocabulary, vocabulary);
        CHECK(relative_error(logits_after(company, std::span{ids}.first(length), {length}), row) < reference_tolerance);
      }
    }
  }
}

TEST_CASE("a Qwen3-VL of other sizes gives the reference's rows and logits, its deepstack levels on several stages") {
  // Given three vision heads, patches of 14, a separate head, and deepstack after the first and the third block.
  reference expected{"qwen3_vl"};
  const models::model_facts facts = expected.model().facts();
  const auto page = expected.values<std::byte>("page");
  const auto height = static_cast<std::uint32_t>(expected.shape("page")[0]);
  const auto width = static_cast<std::uint32_t>(expected.shape("page")[1]);
  const auto tokens = static_cast<std::uint32_t>(expected.shape("image_embeds")[0]);

  // When the tower runs on one rank and on three.
  std::vector<float> rows;
  for (const std::uint32_t tensor_parallel : {1U, 3U}) {
    const auto mesh = make_mesh(tensor_parallel);
    std::vector<std::vector<float>> all(tensor_parallel, std::vector<float>(tokens * facts.row_elements()));
    on_ranks(tensor_parallel, [&](std::uint32_t r) -> protocols::result<void> {
      const auto tower = take(expected.model().load_vision({.tensor_parallel = tensor_parallel, .mesh_rank = r}));
      const models::vision_model::picture picture{page, height, width, on_host(all[r], facts.row_elements())};
      mesh[r]->begin(protocols::call_id{1}, "encode", tower->collectives(picture, mesh[r].get()));
      auto done = tower->encode(picture, mesh[r].get());
      return done ? mesh[r]->end() : done;
    });
    rows = all[0];

    // Then each part of the rows is the reference's.
    std::size_t part = 0;
    for (const char* name : {"image_embeds", "deepstack_0", "deepstack_1"}) {
      std::vector<float> columns;
      for (std::uint32_t i = 0; i < tokens; ++i) {
        const auto row = rows.begin() + static_cast<std::ptrdiff_t>(i * facts.row_elements() + part * facts.hidden);
        columns.insert(columns.end(), row, row + facts.hidden);
      }
      CHECK(relative_error(columns, expected.values<float>(name)) < reference_tolerance);
      ++part;
    }
  }

  // And so are the logits, wherever the stages are cut.
  const auto ids = expected.values<protocols::token_id>("ids");
  const auto logits = expected.values<float>("logits");
  protocols::picture_item item;
  item.first_token = static_cast<std::uint32_t>(std::ranges::find(ids, facts.image_token) - ids.begin());
  item.tokens = tokens;
  item.grid = {1, height / facts.patch_pixels, width / facts.patch_pixels};
  const auto positions = protocols::positions_of(ids, std::span{&item, 1}, facts.merge);
  const auto blocks = blocks_from(0, 4);
  const models::text_model::rows_at picture{item.first_token, tokens, on_host(rows, facts.row_elements())};
  const models::text_model::sequence prompt{ids, positions.positions, 0, blocks, std::span{&picture, 1}, true};
  for (const auto& [mesh, stages] : {std::pair{1U, 1U}, std::pair{2U, 1U}, std::pair{1U, 3U}}) {
    CAPTURE(stages);
    text_company company{expected.model(), mesh, stages};
    CHECK(relative_error(company.forward(std::span{&prompt, 1}), std::span{logits}.last(facts.vocabulary)) <
          reference_tolerance);
  }
}

TEST_CASE("every dense family gives the same logits however model and prompt are cut") {
  constexpr double tolerance = 1e-5;
  for (const published_family& kind : families()) {
    CAPTURE(kind.name);
    const scratch_folder folder{"family"};
    folder.write("config.json", kind.config);
    folder.write("model.safetensors", random_safetensors(tensors_of(kind), 11));
    const auto model = take(models::open_folder(folder.path()));
    CHECK_FALSE(model->facts().has_vision);
    const auto ids = prompt_of(50, 5);

    text_company alone{*model, 1, 1};
    const auto whole = logits_after(alone, ids, {50});
    REQUIRE(whole.size() == model->facts().vocabulary);
    CHECK(relative_error(logits_after(alone, ids, {16, 17, 3, 14}), whole) < tolerance);
    CHECK(relative_error(logits_after(alone, ids, {49, 1}), whole) < tolerance);
    CHECK(relative_error(logits_after(alone, ids, {46, 1, 1, 1, 1}), whole) < tolerance);
    for (const auto& [mesh, stages] : {std::pair{2U, 1U}, std::pair{1U, 3U}, std::pair{2U, 2U}}) {
      CAPTURE(mesh);
      CAPTURE(stages);
      text_company cut{*model, mesh, stages};
      CHECK(relative_error(logits_after(cut, ids, {50}), whole) < tolerance);
      CHECK(relative_error(logits_after(cut, ids, {20, 29, 1}), whole) < tolerance);
    }
  }
}

TEST_CASE("a step that does not fit the model is refused before anything is computed") {
  const auto reader = take(models::open_folder(reader_folder));
  const models::shard part;
  const models::kv_layout layout = models::layout_of(reader->facts(), part, 64);
  std::vector<std::byte> pool(layout.bytes());
  const auto model = take(reader->load_text(part, layout, pool));
  const std::vector<protocols::token_id> ids{65, 66};
  const auto positions = plain_positions(0, 2);
  const auto blocks = blocks_from(0, 1);
  std::vector<float> logits(320);
  const models::text_model::sequence good{ids, positions, 0, blocks, {}, true};
  const auto refusal = [&](const models::text_model::sequence& each, std::span<float> into) {
    const auto done = model->forward(std::span{&each, 1}, nullptr, into, nullptr);
    return done ? std::string{} : std::string{protocols::name(done.error().code)} + ": " + done.error().what;
  };
  REQUIRE(refusal(good, logits).empty());

  auto bad = good;
  const std::vector<protocols::token_id> unknown{65, 320};
  bad.ids = unknown;
  CHECK(refusal(bad, logits) == "invalid_request: token 320; the vocabulary has 320");
  bad = good;
  bad.context = 15;
  CHECK(refusal(bad, logits) == "invalid_request: 1 KV blocks for 17 tokens; 2 needed");
  bad = good;
  const auto outside = blocks_from(4, 1);
  bad.blocks = outside;
  CHECK(refusal(bad, logits) == "invalid_request: KV block 4 of 4");
  bad = good;
  bad.positions = std::span{positions}.first(1);
  CHECK(refusal(bad, logits) == "invalid_request: 2 tokens with 1 positions");
  bad = good;
  bad.context = 4095;
  CHECK(refusal(bad, logits) == "context_exceeded: 4097 tokens; at most 4096");
  bad = good;
  const std::vector<float> rows(576);
  const models::text_model::rows_at beyond{1, 2, on_host(rows, 288)};
  bad.pictures = std::span{&beyond, 1};
  CHECK(refusal(bad, logits) == "invalid_request: picture rows at 1, 2 of them, among 2 tokens");
  CHECK(refusal(good, std::span{logits}.first(319)) ==
        "invalid_request: a step of 2 tokens gives 320 logits, and was given room for 319");

  const models::shard first{1, 0, 2, 0};
  const models::kv_layout half = models::layout_of(reader->facts(), first, 64);
  std::vector<std::byte> half_pool(half.bytes());
  const auto stage = take(reader->load_text(first, half, half_pool));
  const auto done = stage->forward(std::span{&good, 1}, nullptr, {}, nullptr);
  REQUIRE_FALSE(done);
  CHECK(done.error().what == "stage 0 of 2 without its neighbours");
}
