#pragma once

#include <array>
#include <memory>
#include <vector>

#include "gpu/models/config.hpp"
#include "gpu/models/picture.hpp"
#include "gpu/models/scratch.hpp"
#include "gpu/models/shard_plan.hpp"

namespace troupe::gpu::models {

/// Qwen3-VL's vision tower: patches with learned and rotary positions, blocks of full attention, and mergers that join
/// merge x merge patches into one token; the deepstack mergers do so after earlier blocks.
/// Pictures are encoded one after another: each is a matrix product of hundreds of rows already, and memory is bounded
/// by the largest picture instead of the largest request.
/// Threads: the executor's.
class vision_tower final : public vision_model {
public:
  /// Errors: no_memory.
  static protocols::result<std::unique_ptr<vision_model>> load(const model_config& config, const normalisation& how,
                                                               const tensor_files& files,
                                                               std::shared_ptr<const operations> run, const shard& part,
                                                               element_kind element);

  std::uint32_t collectives(std::size_t pictures) const noexcept override;
  protocols::result<void> encode(std::span<const picture> pictures, group* mesh) override;

private:
  struct linear {
    weight matrix, bias;
  };
  struct norm {
    weight scale, shift;
  };
  struct block {
    norm before_attention;
    linear qkv, proj;
    norm before_mlp;
    linear up, down;
  };
  struct merger {
    norm before;
    linear up, down;
  };
  struct workspace;

  vision_tower(const model_config& config, const normalisation& how, std::shared_ptr<const operations> run,
               const shard& part, element_kind element);
  protocols::result<void> load_weights(shard_loader& from);

  protocols::result<void> judge(const picture& each, const group* mesh) const;
  workspace describe(scratch& from, std::int64_t patches) const;
  void upload_patches(const picture& each, const workspace& with);
  protocols::result<void> attend(const block& of, const workspace& with, group* mesh);
  protocols::result<void> transform(const block& of, const workspace& with, group* mesh);
  void merge(const merger& of, bool joined_norm, const workspace& with, const tensor_view& out);
  protocols::result<void> encode_one(const picture& each, group* mesh);

  model_config config_;
  normalisation how_;
  std::shared_ptr<const operations> run_;
  std::unique_ptr<stream> stream_;
  shard part_;
  element_kind element_; ///< of matrices and what products are made of
  std::int64_t heads_;   ///< of this rank
  std::int64_t head_elements_;

  linear patch_;
  weight positions_; ///< [grid x grid, hidden]
  std::vector<block> blocks_;
  merger merger_;
  std::vector<merger> deepstack_;

  scratch scratch_;
  std::vector<float> patches_;
};

/// What of a tower depends on a picture's shape alone; patches in merge order.
struct patch_tables {
  std::vector<std::int32_t> corners; ///< [patches, 4]: cells of the learned grid around each patch
  std::vector<float> weights;        ///< [patches, 4]: of the bilinear interpolation
  std::vector<float> cos, sin;       ///< [patches, head_elements / 2]: rows turn the first half, columns the second
};
patch_tables tables_of(const model_facts& facts, const vision_config& vision, std::uint32_t rows,
                       std::uint32_t columns);

} // namespace troupe::gpu::models
