#include "gpu/backend.hpp"
#include "gpu/models/families/text_decoder.hpp"
#include "gpu/models/families/vision_tower.hpp"
#include "gpu/models/pictures/picture.hpp"
#include "gpu/models/shard_plan.hpp"
#include "protocols/cluster/cluster_spec.hpp"

namespace troupe::gpu::models {

using protocols::fail;
using protocols::fault;
using protocols::result;

namespace {

class mapped_folder final : public model_folder {
public:
  mapped_folder(model_config config, normalisation pixels, std::unique_ptr<const tensor_files> files,
                const compute_options& with)
      : config_(std::move(config)), pixels_(pixels), files_(std::move(files)), with_(with) {}

  const model_facts& facts() const noexcept override { return config_.facts; }
  std::uint64_t fingerprint() const override { return files_->fingerprint(); }

  result<std::unique_ptr<vision_model>> load_vision(const shard& part) override {
    if (auto valid = check_layout(config_.facts, {.tower = true}, part.tensor_parallel, 1); !valid)
      return tl::unexpected(valid.error());
    if (auto loaded = load_operations(); !loaded)
      return tl::unexpected(loaded.error());
    return vision_tower::load(config_, pixels_, *files_, run_, part, with_);
  }

  result<std::unique_ptr<text_model>> load_text(const shard& part, const kv_layout& layout,
                                                std::span<std::byte> kv) override {
    if (auto valid = check_layout(config_.facts, {.text = true}, part.tensor_parallel, part.pipeline_parallel); !valid)
      return tl::unexpected(valid.error());
    if (auto loaded = load_operations(); !loaded)
      return tl::unexpected(loaded.error());
    return text_decoder::load(config_, *files_, run_, part, layout, kv, with_.element, with_.step_max);
  }

private:
  /// Only a rank that computes pays for the plug-in.
  result<void> load_operations() {
    if (run_)
      return {};
    auto opened = open_operations(with_.device, with_.threads);
    if (!opened)
      return tl::unexpected(opened.error());
    run_ = *std::move(opened);
    return {};
  }

  model_config config_;
  normalisation pixels_;
  std::unique_ptr<const tensor_files> files_;
  compute_options with_;
  std::shared_ptr<const operations> run_;
};

} // namespace

result<std::unique_ptr<model_folder>> open_folder(const std::filesystem::path& folder, const compute_options& with) {
  auto config = read_config(folder);
  if (!config)
    return tl::unexpected(config.error());
  auto files = tensor_files::open_folder(folder);
  if (!files)
    return tl::unexpected(files.error());
  if (auto valid = check_layers(**files, *config, folder); !valid)
    return tl::unexpected(valid.error());
  if (auto valid = check_plan(**files, plan_text(*config), folder.string()); !valid)
    return tl::unexpected(valid.error());
  normalisation pixels;
  if (config->facts.has_vision) {
    if (auto valid = check_plan(**files, plan_vision(*config), folder.string()); !valid)
      return tl::unexpected(valid.error());
    const auto read = read_normalisation(folder);
    if (!read)
      return tl::unexpected(read.error());
    pixels = *read;
  }
  return std::make_unique<mapped_folder>(std::move(*config), pixels, std::move(*files), with);
}

} // namespace troupe::gpu::models
