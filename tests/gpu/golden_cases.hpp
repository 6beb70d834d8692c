#pragma once

#include <cstring>

#include <nlohmann/json.hpp>

#include "gpu/models/pictures/picture.hpp"
#include "gpu/models/safetensors.hpp"
#include "tests/gpu/model_support.hpp"

/// What transformers computed for these pages with the weights of `reader` in float32; see tests/golden.
namespace troupe::tests {

struct golden_case {
  std::string name;
  models::rgb_picture page;
  std::vector<protocols::token_id> prompt;
  std::vector<protocols::token_id> answer;
  std::vector<std::array<std::int32_t, 3>> positions;
  std::int32_t delta = 0;
  protocols::picture_item picture;
  std::vector<float> image, logits;
  std::array<std::vector<float>, 2> deepstack;
};

inline std::vector<std::byte> file_bytes(const std::filesystem::path& file) {
  std::ifstream stream{file, std::ios::binary};
  REQUIRE(stream);
  const std::string text{std::istreambuf_iterator<char>{stream}, {}};
  const auto bytes = std::as_bytes(std::span{text});
  return {bytes.begin(), bytes.end()};
}

inline const std::vector<golden_case>& golden_cases() {
  static const std::vector<golden_case> cases = [] {
    std::ifstream stream{golden_folder / "cases.json"};
    const auto tensors = take(models::tensor_files::open_file(golden_folder / "tensors.safetensors"));
    const auto floats = [&](const std::string& name) {
      const models::published_tensor* found = tensors->find(name);
      REQUIRE(found);
      std::vector<float> values(found->bytes.size() / sizeof(float));
      std::memcpy(values.data(), found->bytes.data(), found->bytes.size());
      return values;
    };
    std::vector<golden_case> all;
    for (const auto& each : nlohmann::json::parse(stream)) {
      golden_case one;
      one.name = each["name"];
      one.page = take(models::read_picture(file_bytes(golden_folder / (one.name + ".png")), one.name, 8192));
      one.prompt = each["input_ids"].get<std::vector<protocols::token_id>>();
      one.answer = each["generated_ids"].get<std::vector<protocols::token_id>>();
      one.delta = each["rope_delta"];
      for (std::size_t i = 0; i < one.prompt.size(); ++i)
        one.positions.push_back({each["position_ids"][0][i], each["position_ids"][1][i], each["position_ids"][2][i]});
      one.picture.grid = each["image_grid_thw"].get<std::array<std::uint32_t, 3>>();
      one.picture.tokens = one.picture.grid[1] * one.picture.grid[2] / 4;
      one.picture.first_token =
          static_cast<std::uint32_t>(std::ranges::find(one.prompt, protocols::token_id{261}) - one.prompt.begin());
      one.image = floats(one.name + ".image_embeds");
      one.deepstack = {floats(one.name + ".deepstack_0"), floats(one.name + ".deepstack_1")};
      one.logits = floats(one.name + ".logits");
      all.push_back(std::move(one));
    }
    REQUIRE(all.size() == 8);
    return all;
  }();
  return cases;
}

/// Columns [first, first + width) of rows of `stride`.
inline std::vector<float> columns(std::span<const float> rows, std::size_t stride, std::size_t first,
                                  std::size_t width) {
  std::vector<float> out;
  for (std::size_t at = 0; at < rows.size(); at += stride)
    out.insert(out.end(), rows.begin() + static_cast<std::ptrdiff_t>(at + first),
               rows.begin() + static_cast<std::ptrdiff_t>(at + first + width));
  return out;
}

} // namespace troupe::tests
