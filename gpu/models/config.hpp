#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "gpu/models/model.hpp"

/// config.json with its neighbours, read once into what the models are built from.
namespace troupe::gpu::models {

/// Rotary positions of the text model.
struct rope_config {
  double theta = 10'000.0;
  /// Llama 3.1's stretching of the low frequencies; published as rope_type "llama3".
  struct llama3_stretch {
    double factor = 1.0;
    double low_frequency_factor = 1.0;
    double high_frequency_factor = 4.0;
    double original_context = 8192.0;
  };
  std::optional<llama3_stretch> stretch;
  /// Of (t, h, w), interleaved; all zero without pictures.
  std::array<std::uint32_t, 3> sections{};

  /// What one position advances each of head_elements / 2 angles by, in f32 as the reference computes it.
  std::vector<float> frequencies(std::uint32_t head_elements) const;
  /// Which of (t, h, w) turns each angle.
  std::vector<std::uint8_t> axes(std::uint32_t head_elements) const;
};

struct text_config {
  std::string prefix; ///< of the published tensor names: "model." or "model.language_model."
  float norm_epsilon = 1e-6F;
  rope_config rope;
  bool input_bias = false;  ///< of q, k and v
  bool output_bias = false; ///< of o
  bool mlp_bias = false;
  bool head_norms = false; ///< q_norm and k_norm
  bool tied = false;       ///< the embeddings are the head
};

struct vision_config {
  std::string prefix; ///< "model.visual."
  std::uint32_t hidden = 0;
  std::uint32_t channels = 3;
  std::uint32_t temporal = 2; ///< frames of a patch
  std::uint32_t grid = 0;     ///< side of the learned position grid
  double theta = 10'000.0;
  bool tanh_gelu = true;                ///< of the blocks; the mergers' is exact
  std::vector<std::uint32_t> deepstack; ///< blocks after which a level is taken

  std::uint32_t patch_elements(const model_facts& facts) const noexcept {
    return channels * temporal * facts.patch_pixels * facts.patch_pixels;
  }
};

struct model_config {
  model_facts facts;
  text_config text;
  std::optional<vision_config> vision;
};

/// Errors: config_invalid with file, key, what is there and what would be valid.
protocols::result<model_config> read_config(const std::filesystem::path& folder);

} // namespace troupe::gpu::models
