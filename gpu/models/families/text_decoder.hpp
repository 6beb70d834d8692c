#pragma once

#include <array>
#include <functional>
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
  /// This rank's share of the named tensors as `element`, joined along their rows.
  using weight_source =
      std::function<protocols::result<void>(weight& into, const std::vector<std::string>& names, element_kind element)>;
  /// Errors: invalid_request (the layout is not this shard's); those of `weights`.
  static protocols::result<std::unique_ptr<text_model>>
  make(const model_config& config, const weight_source& weights, std::shared_ptr<const operations> run,
       const shard& part, const kv_layout& layout, std::span<std::byte> kv, element_kind element,
       protocols::duration step_max = protocols::limits::device_deadline);
  /// From published files. Errors: those of `make`; no_memory.
  static protocols::result<std::unique_ptr<text_model>> load(const model_config& config, const tensor_files& files,
                                                             std::shared_ptr<const operations> run, const shard& part,
                                                             const kv_layout& layout, std::span<std::byte> kv,
                                                             element_kind element, protocols::duration step_max);

  const kv_layout& kv() const noexcept override { return layout_; }
  std::uint32_t mesh_collectives(bool any_logits) const noexcept override;
  protocols::result<void> begin(std::span<const sequence> batch, stage_hops* hops, std::span<float> logits,
                                group* mesh) override;
  protocols::result<void> finish() override;
  protocols::result<void> gather_replicas(group& mesh, std::span<protocols::replica> all) override;
  std::shared_ptr<const stream_event> ready() const override {
    return run_->device() == device_kind::cpu ? nullptr : passed_[begun_ % passed_.size()];
  }
  std::uint32_t opening_collectives(const batch_options& how) const noexcept override;
  protocols::result<std::unique_ptr<running_batch>> open_batch(const batch_options& how, group* mesh) override;

private:
  friend class decode_batch; // the same layers, on rows of its own

  struct layer {
    weight input_norm;
    weight qkv, qkv_bias; ///< this rank's query heads, key heads, value heads
    weight query_norm, key_norm;
    weight output, output_bias;
    weight mlp_norm;
    weight gate_up, gate_up_bias;
    weight down, down_bias;
  };
  struct step_shape {
    std::int64_t tokens = 0;
    std::int64_t sequences = 0;
    std::int64_t blocks = 0; ///< most of any sequence
    std::int64_t rows = 0;   ///< of pictures
    std::int64_t logits = 0;
  };
  /// Tensors of a step. `delta` is what a layer's half adds to `hidden`, contiguous for the sum over the mesh.
  struct workspace {
    tensor_view hidden, qkv, mixed, delta, activated;
    tensor_view ids, last, cos, sin, rows;
    tensor_view last_hidden, logits, share;
    paged_tokens where;
  };

  text_decoder(const model_config& config, std::shared_ptr<const operations> run, const shard& part,
               const kv_layout& layout, std::span<std::byte> kv, element_kind element, protocols::duration step_max);
  protocols::result<void> load_weights(const weight_source& from);
  protocols::result<void> load_layer(const weight_source& from, std::uint32_t number, layer& into);

  protocols::result<step_shape> validate(std::span<const sequence> batch, const stage_hops* hops,
                                         std::span<const float> logits, const group* mesh) const;
  protocols::result<void> validate(const sequence& each) const;
  workspace describe(scratch& from, const step_shape& shape) const;
  void write_tables(std::span<const sequence> batch, const step_shape& shape);
  void upload_tables(const workspace& with);
  protocols::result<void> make_replicas();
  void embed(std::span<const sequence> batch, const workspace& with);
  void add_deepstack(std::span<const sequence> batch, std::uint32_t level, const workspace& with);
  protocols::result<void> attend(const layer& of, std::uint32_t local, const workspace& with, group* mesh);
  protocols::result<void> transform(const layer& of, const workspace& with, group* mesh);
  protocols::result<void> add_product(const tensor_view& x, const weight& matrix, const weight& bias,
                                      const workspace& with, group* mesh);
  protocols::result<void> run_layer(std::uint32_t local, const workspace& with, group* mesh);
  protocols::result<void> predict(const tensor_view& rows, const workspace& with, group* mesh);
  tensor_view pool_of(std::uint32_t local_layer) const;
  bool vocabulary_is_cut() const noexcept;

  model_config config_;
  std::shared_ptr<const operations> run_;
  std::unique_ptr<stream> stream_;
  shard part_;
  kv_layout layout_;
  std::span<std::byte> kv_;
  protocols::duration step_max_;
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

  weight replica_;            ///< f32 [1, words of a protocols::replica]: what is gathered; none without a mesh
  weight replicas_;           ///< f32 [1, members x words]
  tensor_view newest_hidden_; ///< [1, hidden], of the last token of the newest pass

  scratch scratch_;
  std::array<std::shared_ptr<stream_event>, 2> passed_; ///< behind the newest passes, by `begun_`
  std::uint64_t begun_ = 0;                             ///< passes
  wait_policy how_ = wait_policy::backoff;              ///< to wait for the newest
  // Tables of a step on the host; their capacity stays.
  std::vector<std::int32_t> ids_, slots_, first_, context_, blocks_, last_;
  std::vector<float> cos_, sin_;
};

} // namespace troupe::gpu::models
