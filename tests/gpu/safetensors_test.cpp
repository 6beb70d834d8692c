#include <cstring>

#include "gpu/models/safetensors.hpp"
#include "tests/gpu/model_support.hpp"
#include "tests/gpu/published_folder.hpp"

using namespace troupe;
using namespace troupe::tests;

namespace {

std::string file_of(const std::string& header, std::size_t data, std::uint64_t length) {
  return std::string{reinterpret_cast<const char*>(&length), sizeof length} + header + std::string(data, '\1');
}
std::string file_of(const std::string& header, std::size_t data) {
  return file_of(header, data, header.size());
}

std::string refusal(const std::string& bytes) {
  const scratch_folder folder{"safetensors"};
  folder.write("m.safetensors", bytes);
  const auto files = models::tensor_files::open_file(folder.path() / "m.safetensors");
  if (files)
    return "accepted";
  CHECK(files.error().code == protocols::fault::config_invalid);
  return files.error().what.substr((folder.path() / "").string().size());
}

std::string entry(const char* type, const char* shape, const char* offsets) {
  return std::string{R"({"dtype":")"} + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

} // namespace

TEST_CASE("tensors of a file are found with type, shape and bytes") {
  const scratch_folder folder{"found"};
  const std::string header = R"({"__metadata__":{"format":"pt"},"a":)" + entry("BF16", "[2,3]", "[0,12]") + R"(,"b":)" +
                             entry("F32", "[]", "[12,16]") + R"(,"none":)" + entry("F32", "[0,4]", "[12,12]") + "}";
  folder.write("m.safetensors", file_of(header, 16));
  const auto files = take(models::tensor_files::open_file(folder.path() / "m.safetensors"));
  REQUIRE(files->find("a"));
  CHECK(files->find("a")->type == "BF16");
  CHECK(files->find("a")->shape == std::vector<std::uint64_t>{2, 3});
  CHECK(files->find("a")->bytes.size() == 12);
  CHECK(files->find("b")->bytes.size() == 4);
  CHECK(files->find("none")->bytes.empty());
  CHECK_FALSE(files->find("c"));
}

TEST_CASE("a folder whose weights cannot be looked up is refused by its name") {
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
    const scratch_folder folder{"loop"};
    std::filesystem::create_symlink(name, folder.path() / name); // leads to itself
    const auto files = models::tensor_files::open_folder(folder.path());
    REQUIRE_FALSE(files);
    CHECK(files.error().code == protocols::fault::config_invalid);
    CHECK(files.error().what.starts_with(folder.path().string() + ": the weights cannot be looked up: "));
  }
}

TEST_CASE("a hostile or truncated file is refused by name before a tensor is used") {
  const std::string good = R"({"a":)" + entry("F32", "[2]", "[0,8]") + "}";
  CHECK(refusal(file_of(good, 8)) == "accepted");
  CHECK(refusal("short") == "m.safetensors: is no safetensors file: 5 bytes");
  CHECK(refusal(file_of(good, 8, 1ULL << 60)) ==
        "m.safetensors: a header of 1152921504606846976 bytes in a file of 70; is it truncated?");
  CHECK(refusal(file_of(good, 8, ~0ULL)).find("is it truncated?") != std::string::npos);
  CHECK(refusal(file_of(good, 7)) == "m.safetensors: tensor a stands at bytes 0 to 8 of 7; is the file truncated?");
  CHECK(refusal(file_of(good, 9)) == "m.safetensors: 1 bytes after the last tensor belong to none");
  CHECK(refusal(file_of(R"({"a":)" + entry("F32", "[2]", "[0,4]") + "}", 4)) ==
        "m.safetensors: tensor a has 4 bytes; its shape and dtype make 8");
  CHECK(refusal(file_of(R"({"a":)" + entry("F32", "[2]", "[8,0]") + "}", 8)).find("stands at bytes 8 to 0") !=
        std::string::npos);
  CHECK(refusal(file_of(R"({"a":)" + entry("Q4", "[2]", "[0,8]") + "}", 8)) ==
        "m.safetensors: tensor a is of dtype Q4; valid here: the published types, such as BF16");
  CHECK(refusal(file_of(R"({"a":)" + entry("F32", "[4294967296,4294967296,4]", "[0,8]") + "}", 8)) ==
        "m.safetensors: tensor a has a shape beyond 64 bits");
  CHECK(refusal(file_of(R"({"a":)" + entry("F32", "[-2]", "[0,8]") + "}", 8)).find("no valid entry") !=
        std::string::npos);
  CHECK(refusal(file_of(R"({"a":)" + entry("F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]") + "}", 8)).find("no valid entry") !=
        std::string::npos);
  CHECK(refusal(file_of(R"({"a":7})", 0)).find("tensor a has no valid entry") != std::string::npos);
  CHECK(refusal(file_of(R"({"a":)" + entry("F32", "[2]", "[0,8]") + R"(,"b":)" + entry("F32", "[2]", "[4,12]") + "}",
                        12)) == "m.safetensors: two tensors overlap, or bytes between them belong to none, at byte 4 "
                                "of the data");
  CHECK(refusal(file_of(R"({"a":)" + entry("F32", "[1]", "[0,4]") + R"(,"b":)" + entry("F32", "[1]", "[8,12]") + "}",
                        12)) == "m.safetensors: two tensors overlap, or bytes between them belong to none, at byte 8 "
                                "of the data");
  CHECK(refusal(file_of(std::string(100'000, '['), 0)) == "m.safetensors (header): nested 100000 deep; at most 3");
  CHECK(refusal(file_of("not json", 0)).find("not JSON at byte") != std::string::npos);
  CHECK(refusal(file_of("[]", 0)) == "m.safetensors (header): is array; valid here: a JSON object");
  const auto missing = models::tensor_files::open_file("/nowhere/m.safetensors");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().what == "/nowhere/m.safetensors: No such file or directory");
}

TEST_CASE("every truncation of a real file is refused") {
  std::ifstream stream{golden_folder / "tensors.safetensors", std::ios::binary};
  const std::string whole{std::istreambuf_iterator<char>{stream}, {}};
  for (std::size_t length = 0; length < whole.size(); length += 1 + length / 3) {
    CAPTURE(length);
    CHECK(refusal(whole.substr(0, length)) != "accepted");
  }
}

TEST_CASE("a model in several files loads by its index, and an index that lies is refused") {
  const std::string one = random_safetensors({{"a", {{4}}}, {"b", {{2, 2}}}}, 1);
  const std::string two = random_safetensors({{"c", {{8}, false}}}, 2);
  const auto opened = [&](const nlohmann::json& map) -> std::string {
    const scratch_folder folder{"index"};
    folder.write("x-1.safetensors", one);
    folder.write("x-2.safetensors", two);
    folder.write("model.safetensors.index.json",
                 nlohmann::json{{"metadata", {{"total_size", 48}}}, {"weight_map", map}});
    const auto files = models::tensor_files::open_folder(folder.path());
    if (files)
      return (*files)->find("a") && (*files)->find("c") ? "accepted" : "incomplete";
    return files.error().what.substr((folder.path() / "").string().size());
  };
  CHECK(opened({{"a", "x-1.safetensors"}, {"b", "x-1.safetensors"}, {"c", "x-2.safetensors"}}) == "accepted");
  CHECK(opened({{"a", "x-1.safetensors"}, {"c", "x-1.safetensors"}}) ==
        "model.safetensors.index.json: tensor c is not in x-1.safetensors, which it names");
  CHECK(opened({{"a", "x-3.safetensors"}}) == "x-3.safetensors: No such file or directory");
  CHECK(opened({{"a", "../x-1.safetensors"}}) ==
        "model.safetensors.index.json: tensor a is in \"../x-1.safetensors\"; valid here: a file of this folder");
  CHECK(opened({{"a", 3}}).find("valid here: a file of this folder") != std::string::npos);
  const scratch_folder empty{"empty"};
  const auto nothing = models::tensor_files::open_folder(empty.path());
  REQUIRE_FALSE(nothing);
  CHECK(nothing.error().what.find("no weights; valid here: model.safetensors") != std::string::npos);
}

TEST_CASE("a folder whose tensors do not fit its config is refused with tensor, what is there and what is valid") {
  const auto opened = [&](const std::map<std::string, random_tensor>& changed, const std::string& removed) {
    const scratch_folder folder{"fit"};
    folder.write("config.json", nlohmann::json{{"architectures", {"LlamaForCausalLM"}},
                                               {"hidden_size", 8},
                                               {"intermediate_size", 8},
                                               {"num_hidden_layers", 1},
                                               {"num_attention_heads", 2},
                                               {"vocab_size", 10},
                                               {"max_position_embeddings", 64},
                                               {"eos_token_id", 1}});
    const std::string layer = "model.layers.0.";
    std::map<std::string, random_tensor> tensors{{"model.embed_tokens.weight", {{10, 8}}},
                                                 {"lm_head.weight", {{10, 8}}},
                                                 {"model.norm.weight", {{8}}},
                                                 {layer + "input_layernorm.weight", {{8}}},
                                                 {layer + "post_attention_layernorm.weight", {{8}}}};
    for (const char* name :
         {"self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down"})
      tensors[layer + name + "_proj.weight"] = {{8, 8}};
    for (const auto& [name, tensor] : changed)
      tensors[name] = tensor;
    tensors.erase(removed);
    folder.write("model.safetensors", random_safetensors(tensors, 3));
    const auto model = models::open_folder(folder.path());
    return model ? "accepted" : model.error().what.substr(folder.path().string().size());
  };
  CHECK(opened({}, "") == "accepted");
  CHECK(opened({}, "model.norm.weight") == ": tensor model.norm.weight is missing; valid here: shape [8]");
  CHECK(opened({{"model.norm.weight", {{9}}}}, "") ==
        "/model.safetensors: tensor model.norm.weight has shape [9]; valid here, by config.json: [8]");
  CHECK(opened({{"model.layers.0.self_attn.q_proj.weight", {{8, 4}}}}, "").find("has shape [8, 4]") !=
        std::string::npos);
}

TEST_CASE("G8: the fingerprint changes with a byte, a name and a shape, and not with the place in the file") {
  const auto print = [](const std::string& bytes) {
    const scratch_folder folder{"print"};
    folder.write("m.safetensors", bytes);
    return take(models::tensor_files::open_file(folder.path() / "m.safetensors"))->fingerprint();
  };
  const std::string base = random_safetensors({{"a", {{4}}}, {"b", {{2, 2}}}}, 1);
  std::string changed = base;
  changed.back() = static_cast<char>(changed.back() ^ 1);
  CHECK(print(base) == print(base));
  CHECK(print(changed) != print(base));
  CHECK(print(random_safetensors({{"a", {{4}}}, {"c", {{2, 2}}}}, 1)) != print(base));
  CHECK(print(random_safetensors({{"a", {{4}}}, {"b", {{4}}}}, 1)) != print(base));
}
