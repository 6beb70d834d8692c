#pragma once

#include <array>
#include <memory>
#include <vector>

#include "gpu/models/config.hpp"
#include "gpu/models/model.hpp"
#include "gpu/models/pictures/picture.hpp"
#include "gpu/models/scratch.hpp"
#include "gpu/models/shard_plan.hpp"

namespace troupe::gpu::models {

/// Qwen3-VL's vision tower: patches with learned and rotary positions, blocks of full attention, and mergers that join
/// merge x merge patches into one token; the deepstack mergers do so after earlier blocks.
/// Pictures are encoded one after another: each is a matrix product of hundreds of rows already, and memory is bounded
/// by the largest picture instead of the largest request.
/// Where the device gains by capture, the work of a size that comes for the second time is captured, and launched whole
/// from then on; the first of a size runs operation by operation, which finds kernels and memory. The last sizes are
/// kept with what depends on them alone. Every rank of a mesh sees the same pictures in the same order and so captures
/// the same (G1, G6).
/// Contract: G5, G11.
/// Threads: the executor's.
class vision_tower final : public vision_model {
public:
  /// Errors: no_memory.
  static protocols::result<std::unique_ptr<vision_model>> load(const model_config& config, const normalisation& how,
                                                               const tensor_files& files,
                                                               std::shared_ptr<const operations> run, const shard& part,
                                                               const compute_options& how_computed);

  std::uint32_t collectives(const picture& which, const group* mesh) const noexcept override;
  protocols::result<void> begin(const picture& which, group* mesh) override;
  protocols::result<void> finish() override;
  std::shared_ptr<const stream_event> ready() const override;
  capture_counts captures() const noexcept override;

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
  /// A size that has come, and what depends on it alone.
  struct known_size {
    known_size(const operations& run, std::uint32_t height_of, std::uint32_t width_of)
        : height(height_of), width(width_of), memory(run) {}

    std::uint32_t height, width;
    scratch memory;
    tensor_view corners, weights, cos, sin;
    std::uint64_t last = 0; ///< which picture, counted from the first, had it last; 0: none yet
    std::unique_ptr<captured_work> work;
    std::uint32_t captured_at = 0; ///< moves of the scratch memory before
  };

  vision_tower(const model_config& config, const normalisation& how, std::shared_ptr<const operations> run,
               const shard& part, const compute_options& how_computed);
  protocols::result<void> load_weights(shard_loader& from);

  protocols::result<void> validate(const picture& each, const group* mesh) const;
  bool captures(const group* mesh) const noexcept;
  known_size* find(std::uint32_t height, std::uint32_t width) const noexcept;
  bool is_captured(const known_size& size) const noexcept;
  protocols::result<known_size*> know(std::uint32_t height, std::uint32_t width);
  protocols::result<void> write_tables(known_size& of);
  workspace describe(scratch& from, std::int64_t patches) const;
  void upload_patches(const picture& each, const workspace& with);
  protocols::result<void> attend(const block& of, const known_size& size, const workspace& with, group* mesh);
  protocols::result<void> transform(const block& of, const workspace& with, group* mesh);
  void merge(const merger& of, bool joined_norm, const workspace& with, const tensor_view& out);
  protocols::result<void> run(const known_size& size, const workspace& with, group* mesh);
  protocols::result<void> launch(known_size& size, const workspace& with, group* mesh);

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

  protocols::duration step_max_;
  const std::atomic<bool>* captures_;
  scratch scratch_;
  std::vector<float> patches_;
  std::vector<std::unique_ptr<known_size>> sizes_;
  std::uint64_t begun_ = 0; ///< pictures
  std::uint32_t eager_ = 0;
  std::shared_ptr<stream_event> passed_; ///< behind the newest
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
