#pragma once

#include <memory>
#include <vector>

#include "gpu/models/config.hpp"
#include "gpu/models/scratch.hpp"
#include "gpu/models/shard_plan.hpp"

namespace troupe::gpu::models {

/// The decoder of Qwen3-VL's text part, Qwen3, Qwen2.5 and Llama: one stage's layers, one mesh rank's heads.
/// A layer is two sums over the mesh: attention and mlp end in a product that each rank does over its own columns.
/// What passes from layer to layer and is summed over the mesh stays f32, whatever the products are made of.
/// Rows of a picture replace the embeddings of its tokens; their deepstack parts are added after the first layers.
/// Threads: the executor's.
class text_decoder final : public text_model {
public:
  /// Errors: invalid_request (the layout is not this shard's), no_memory.
  static protocols::result<std::unique_ptr<text_model>> load(const model_config& config, const tensor_files& files,
                                                             std::shared_ptr<const operations> run, const shard& part,
                                                             const kv_layout& layout, std::span<std::byte> kv,
                                                             element_kind element);

  const kv_layout& kv() const noexcept override { return layout_; }
  std::uint32_t mesh_collectives(bool any_logits) const noexcept override;
  protocols::result<void> forward(std::span<const sequence> batch, std::span<const float> hidden_in,
                                  std::span<float> hidden_out, std::span<float> logits, group* mesh) override;

private:
  struct layer {
    weight input_norm;
    weight qkv, qkv_bias; ///< this rank's query heads, key heads, value heads
    weight query_norm, key_norm;
    weight output, output_bias;
    weight mlp_norm;
    weight gate_up, gate_up_bias;
    weight down, down_bias;
  };
  struct workspace;
  struct step_shape;

  text_decoder(const model_config& config, std::shared_ptr<const operations> run, const shard& part,
               const kv_layout& layout, std::span<std::byte> kv, element_kind element);
  protocols::result<void> load_weights(shard_loader& from);
  protocols::result<void> load_layer(shard_loader& from, std::uint32_t number, layer& into);

  protocols::result<step_shape> judge(std::span<const sequence> batch, std::span<const float> hidden_in,
                                      std::span<const float> hidden_out, std::span<const float> logits,
                                      const group* mesh) const;
  protocols::result<void> judge(const sequence& each) const;
  workspace describe(scratch& from, const step_shape& shape) const;
  void write_tables(std::span<const sequence> batch, const step_shape& shape);
  void upload_tables(const workspace& with);
  void embed(std::span<const sequence> batch, const workspace& with);
  void add_deepstack(std::span<const sequence> batch, std::uint32_t level, const workspace& with);
  protocols::result<void> attend(const layer& of, std::uint32_t local, const workspace& with, group* mesh);
  protocols::result<void> transform(const layer& of, const workspace& with, group* mesh);
  protocols::result<void> predict(const workspace& with, std::span<float> logits, group* mesh);
  tensor_view pool_of(std::uint32_t local_layer) const;
  bool vocabulary_is_cut() const noexcept;

  model_config config_;
  std::shared_ptr<const operations> run_;
  std::unique_ptr<stream> stream_;
  shard part_;
  kv_layout layout_;
  std::span<std::byte> kv_;
  element_kind element_;      ///< of matrices, keys and values, and what products are made of
  std::uint32_t query_heads_; ///< of this rank
  std::uint32_t intermediate_;
  std::vector<float> frequencies_;
  std::vector<std::uint8_t> axes_;

  weight embeddings_; ///< first stage
  std::vector<layer> layers_;
  weight norm_; ///< last stage
  weight head_; ///< last stage, unless it is a part of `embeddings_`
  tensor_view head_view_;

  scratch scratch_;
  // Tables of a step on the host; their capacity stays.
  std::vector<std::int32_t> ids_, slots_, first_, context_, blocks_, last_;
  std::vector<float> cos_, sin_;
};

} // namespace troupe::gpu::models
