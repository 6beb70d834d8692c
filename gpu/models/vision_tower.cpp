#include "gpu/models/vision_tower.hpp"

#include <algorithm>
#include <cmath>

namespace troupe::gpu::models {

using protocols::fail;
using protocols::fault;
using protocols::result;

/// Tensors of one picture. `delta` is what half a block adds to `hidden`; both it and `rows` are contiguous for the sum
/// over the mesh.
struct vision_tower::workspace {
  tensor_view patches, hidden, normed, qkv, mixed, delta, wide, joined, rows;
  tensor_view corners, weights, cos, sin;
};

namespace {

constexpr float norm_epsilon = 1e-6F; // fixed by the published architecture

} // namespace

vision_tower::vision_tower(const model_config& config, const normalisation& how, std::shared_ptr<const operations> run,
                           const shard& part, element_kind element)
    : config_(config), how_(how), run_(std::move(run)), stream_(run_->make_stream()), part_(part), element_(element),
      heads_(config.facts.vision_heads / part.tensor_parallel),
      head_elements_(config.vision->hidden / config.facts.vision_heads), scratch_(*run_) {}

result<std::unique_ptr<vision_model>> vision_tower::load(const model_config& config, const normalisation& how,
                                                         const tensor_files& files,
                                                         std::shared_ptr<const operations> run, const shard& part,
                                                         element_kind element) {
  std::unique_ptr<vision_tower> tower{new vision_tower{config, how, std::move(run), part, element}};
  shard_loader loader{files, plan_vision(config), *tower->run_, *tower->stream_, part};
  if (auto loaded = tower->load_weights(loader); !loaded)
    return tl::unexpected(loaded.error());
  if (auto done = tower->stream_->synchronize(); !done)
    return tl::unexpected(done.error());
  return tower;
}

result<void> vision_tower::load_weights(shard_loader& from) {
  result<void> outcome;
  const auto load = [&](weight& into, const std::string& name, element_kind element) {
    if (outcome)
      outcome = from.load(into, {name}, element);
  };
  const auto load_linear = [&](linear& into, const std::string& name, element_kind result) {
    load(into.matrix, name + ".weight", element_);
    load(into.bias, name + ".bias", result);
  };
  const auto load_norm = [&](norm& into, const std::string& name) {
    load(into.scale, name + ".weight", element_kind::f32);
    load(into.shift, name + ".bias", element_kind::f32);
  };
  const auto load_merger = [&](merger& into, const std::string& name) {
    load_norm(into.before, name + "norm");
    load_linear(into.up, name + "linear_fc1", element_);
    load_linear(into.down, name + "linear_fc2", element_kind::f32);
  };
  const std::string& prefix = config_.vision->prefix;
  load_linear(patch_, prefix + "patch_embed.proj", element_kind::f32);
  load(positions_, prefix + "pos_embed.weight", element_kind::f32);
  blocks_.resize(config_.facts.vision_layers);
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const std::string name = prefix + "blocks." + std::to_string(i) + ".";
    load_norm(blocks_[i].before_attention, name + "norm1");
    load_linear(blocks_[i].qkv, name + "attn.qkv", element_);
    load_linear(blocks_[i].proj, name + "attn.proj", element_kind::f32);
    load_norm(blocks_[i].before_mlp, name + "norm2");
    load_linear(blocks_[i].up, name + "mlp.linear_fc1", element_);
    load_linear(blocks_[i].down, name + "mlp.linear_fc2", element_kind::f32);
  }
  load_merger(merger_, prefix + "merger.");
  deepstack_.resize(config_.facts.deepstack_levels);
  for (std::size_t i = 0; i < deepstack_.size(); ++i)
    load_merger(deepstack_[i], prefix + "deepstack_merger_list." + std::to_string(i) + ".");
  return outcome;
}

std::uint32_t vision_tower::collectives(std::size_t pictures) const noexcept {
  // Two sums a block, and one for the rows of all mergers together.
  return part_.tensor_parallel == 1 ? 0 : static_cast<std::uint32_t>(pictures) * (2 * config_.facts.vision_layers + 1);
}

result<void> vision_tower::judge(const picture& each, const group* mesh) const {
  const model_facts& facts = config_.facts;
  const std::uint64_t side = std::uint64_t{facts.patch_pixels} * facts.merge;
  const std::uint64_t pixels = std::uint64_t{each.height} * each.width;
  const std::uint64_t tokens = pixels / (side * side);
  if (pixels == 0 || each.height % side != 0 || each.width % side != 0 || pixels > facts.picture_pixels_max)
    return fail(fault::invalid_request, "a picture of " + std::to_string(each.height) + " x " +
                                            std::to_string(each.width) + "; valid here: multiples of " +
                                            std::to_string(side) + ", at most " +
                                            std::to_string(facts.picture_pixels_max) + " pixels");
  const auto wanted = static_cast<std::int64_t>(tokens * facts.row_elements());
  if (each.rgb.size() != pixels * 3 || (each.rows && each.rows.elements() != wanted))
    return fail(fault::invalid_request, std::to_string(each.rgb.size()) + " bytes in and " +
                                            std::to_string(each.rows.elements()) +
                                            " floats out for a picture that has " + std::to_string(pixels * 3) +
                                            " and " + std::to_string(wanted));
  if ((mesh ? mesh->size() : 1) != part_.tensor_parallel)
    return fail(fault::invalid_request, "a mesh of " + std::to_string(mesh ? mesh->size() : 1) +
                                            " ranks for a shard of " + std::to_string(part_.tensor_parallel));
  return {};
}

vision_tower::workspace vision_tower::describe(scratch& from, std::int64_t patches) const {
  const model_facts& facts = config_.facts;
  const vision_config& vision = *config_.vision;
  const std::int64_t mesh = part_.tensor_parallel;
  const std::int64_t cell = std::int64_t{facts.merge} * facts.merge;
  workspace with;
  with.patches = from.take({patches, vision.patch_elements(facts)}, element_);
  with.hidden = from.take({patches, vision.hidden});
  with.normed = from.take({patches, vision.hidden}, element_);
  with.qkv = from.take({patches, 3 * heads_ * head_elements_}, element_);
  with.mixed = from.take({patches, heads_ * head_elements_}, element_);
  with.delta = from.take({patches, vision.hidden});
  with.wide = from.take({patches, facts.vision_intermediate / mesh}, element_);
  with.joined = from.take({patches / cell, vision.hidden * cell / mesh}, element_);
  with.rows = from.take({patches / cell, facts.row_elements()});
  with.corners = from.take({patches, 4}, element_kind::i32);
  with.weights = from.take({patches, 4});
  with.cos = from.take({patches, head_elements_ / 2});
  with.sin = from.take({patches, head_elements_ / 2});
  return with;
}

void vision_tower::upload_patches(const picture& each, const workspace& with) {
  const std::uint32_t side = config_.facts.patch_pixels;
  patches_.resize(static_cast<std::size_t>(with.patches.elements()));
  patchify(each.rgb, each.height, each.width, how_, patches_);
  const patch_tables tables = tables_of(config_.facts, *config_.vision, each.height / side, each.width / side);
  const std::int64_t columns = with.patches.shape(1);
  run_->upload_published(*stream_,
                         {.data = std::as_bytes(std::span{patches_}).data(),
                          .kind = published_kind::f32,
                          .rows = with.patches.shape(0),
                          .columns = columns,
                          .row_bytes = columns * std::int64_t{sizeof(float)}},
                         with.patches);
  run_->upload(*stream_, std::as_bytes(std::span{tables.corners}), with.corners);
  run_->upload(*stream_, std::as_bytes(std::span{tables.weights}), with.weights);
  run_->upload(*stream_, std::as_bytes(std::span{tables.cos}), with.cos);
  run_->upload(*stream_, std::as_bytes(std::span{tables.sin}), with.sin);
}

result<void> vision_tower::attend(const block& of, const workspace& with, group* mesh) {
  const std::int64_t width = heads_ * head_elements_;
  const tensor_view q = with.qkv.columns(0, width).split_last(heads_);
  const tensor_view k = with.qkv.columns(width, width).split_last(heads_);
  const tensor_view v = with.qkv.columns(2 * width, width).split_last(heads_);
  run_->layer_norm(*stream_, with.hidden, of.before_attention.scale.view, of.before_attention.shift.view, norm_epsilon,
                   with.normed);
  run_->matmul(*stream_, with.normed, of.qkv.matrix.view, of.qkv.bias.view, with.qkv);
  run_->rotate(*stream_, q, with.cos, with.sin);
  run_->rotate(*stream_, k, with.cos, with.sin);
  run_->attention(*stream_, q, k, v, 1.0F / std::sqrt(static_cast<float>(head_elements_)),
                  with.mixed.split_last(heads_));
  run_->matmul(*stream_, with.mixed, of.proj.matrix.view, of.proj.bias.view, with.delta);
  if (mesh)
    if (auto summed = mesh->all_reduce_sum(*stream_, with.delta); !summed)
      return summed;
  run_->add(*stream_, with.hidden, with.delta);
  return {};
}

result<void> vision_tower::transform(const block& of, const workspace& with, group* mesh) {
  run_->layer_norm(*stream_, with.hidden, of.before_mlp.scale.view, of.before_mlp.shift.view, norm_epsilon,
                   with.normed);
  run_->matmul(*stream_, with.normed, of.up.matrix.view, of.up.bias.view, with.wide);
  run_->gelu(*stream_, with.wide, config_.vision->tanh_gelu ? gelu_kind::tanh : gelu_kind::erf);
  run_->matmul(*stream_, with.wide, of.down.matrix.view, of.down.bias.view, with.delta);
  if (mesh)
    if (auto summed = mesh->all_reduce_sum(*stream_, with.delta); !summed)
      return summed;
  run_->add(*stream_, with.hidden, with.delta);
  return {};
}

/// This rank's part of a merger's tokens; they are summed with the others' at the end. The main merger normalises
/// patches, the deepstack ones what was joined.
void vision_tower::merge(const merger& of, bool joined_norm, const workspace& with, const tensor_view& out) {
  const std::int64_t cell = std::int64_t{config_.facts.merge} * config_.facts.merge;
  const auto joined = [&](const tensor_view& view) {
    return view.reshape({view.shape(0) / cell, view.shape(1) * cell});
  };
  const tensor_view from = joined_norm ? joined(with.hidden) : with.hidden;
  const tensor_view to = joined_norm ? joined(with.normed) : with.normed;
  run_->layer_norm(*stream_, from, of.before.scale.view, of.before.shift.view, norm_epsilon, to);
  run_->matmul(*stream_, joined_norm ? to : joined(to), of.up.matrix.view, of.up.bias.view, with.joined);
  run_->gelu(*stream_, with.joined, gelu_kind::erf);
  run_->matmul(*stream_, with.joined, of.down.matrix.view, of.down.bias.view, out);
}

result<void> vision_tower::encode_one(const picture& each, group* mesh) {
  const std::int64_t side = config_.facts.patch_pixels;
  const std::int64_t patches = each.height / side * (each.width / side);
  const auto placed = scratch_.place([&](scratch& from) { return describe(from, patches); });
  if (!placed)
    return tl::unexpected(placed.error());
  const workspace& with = *placed;

  upload_patches(each, with);
  run_->matmul(*stream_, with.patches, patch_.matrix.view, patch_.bias.view, with.hidden);
  run_->add_weighted(*stream_, positions_.view, with.corners, with.weights, with.hidden);
  const std::vector<std::uint32_t>& levels = config_.vision->deepstack;
  const std::int64_t width = config_.facts.hidden;
  for (std::uint32_t i = 0; i < blocks_.size(); ++i) {
    if (auto done = attend(blocks_[i], with, mesh); !done)
      return done;
    if (auto done = transform(blocks_[i], with, mesh); !done)
      return done;
    if (const auto level = std::ranges::find(levels, i) - levels.begin(); level < std::ssize(levels))
      merge(deepstack_[static_cast<std::size_t>(level)], true, with, with.rows.columns(width * (1 + level), width));
  }
  merge(merger_, false, with, with.rows.columns(0, width));
  if (mesh)
    if (auto summed = mesh->all_reduce_sum(*stream_, with.rows); !summed)
      return summed;
  if (each.rows)
    copy_across(*run_, *stream_, with.rows, each.rows);
  return stream_->synchronize();
}

result<void> vision_tower::encode(std::span<const picture> pictures, group* mesh) {
  for (const picture& each : pictures)
    if (auto valid = judge(each, mesh); !valid)
      return valid;
  for (const picture& each : pictures)
    if (auto done = encode_one(each, part_.tensor_parallel > 1 ? mesh : nullptr); !done)
      return done;
  return {};
}

} // namespace troupe::gpu::models
