#include "gpu/models/families/vision_tower.hpp"

#include <algorithm>
#include <cmath>

#include "runtime/base/clock.hpp"

namespace troupe::gpu::models {

using protocols::fail;
using protocols::fault;
using protocols::result;
namespace limits = protocols::limits;

/// Tensors of one picture. `delta` is what half a block adds to `hidden`; both it and `rows` are contiguous for the sum
/// over the mesh.
struct vision_tower::workspace {
  tensor_view patches, hidden, normed, qkv, mixed, delta, wide, joined, rows;
};

namespace {

constexpr float norm_epsilon = 1e-6F; // fixed by the published architecture
/// So many blocks pass between two looks at how far the device has come.
constexpr std::uint32_t blocks_a_mark = 8;

} // namespace

vision_tower::vision_tower(const model_config& config, const normalisation& how, std::shared_ptr<const operations> run,
                           const shard& part, const compute_options& how_computed)
    : config_(config), how_(how), run_(std::move(run)), stream_(run_->make_stream()), part_(part),
      element_(how_computed.element), heads_(config.facts.vision_heads / part.tensor_parallel),
      head_elements_(config.vision->hidden / config.facts.vision_heads), step_max_(how_computed.step_max),
      captures_(how_computed.captures), scratch_(*run_) {}

result<std::unique_ptr<vision_model>> vision_tower::load(const model_config& config, const normalisation& how,
                                                         const tensor_files& files,
                                                         std::shared_ptr<const operations> run, const shard& part,
                                                         const compute_options& how_computed) {
  std::unique_ptr<vision_tower> tower{new vision_tower{config, how, std::move(run), part, how_computed}};
  const auto stream = tower->run_->make_stream(); // what carries weights is not kept
  shard_loader loader{files, plan_vision(config), *tower->run_, *stream, part};
  if (auto loaded = tower->load_weights(loader); !loaded)
    return tl::unexpected(loaded.error());
  if (auto done = stream->synchronize(base::now() + limits::device_deadline, wait_policy::backoff); !done)
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

// ---- sizes of pictures --------------------------------------------------------------------------------------------

bool vision_tower::captures(const group* mesh) const noexcept {
  return stream_->gains_by_capture() && *captures_ && (part_.tensor_parallel == 1 || mesh->capturable());
}

vision_tower::known_size* vision_tower::find(std::uint32_t height, std::uint32_t width) const noexcept {
  const auto found =
      std::ranges::find_if(sizes_, [&](const auto& each) { return each->height == height && each->width == width; });
  return found == sizes_.end() ? nullptr : found->get();
}

/// Scratch memory that has grown since lies elsewhere, and what was captured names the old place.
bool vision_tower::is_captured(const known_size& size) const noexcept {
  return size.work && size.captured_at == scratch_.moves();
}

result<vision_tower::known_size*> vision_tower::know(std::uint32_t height, std::uint32_t width) {
  if (auto* const known = find(height, width))
    return known;
  auto made = std::make_unique<known_size>(*run_, height, width);
  if (auto written = write_tables(*made); !written)
    return tl::unexpected(written.error());
  if (sizes_.size() < limits::tower_sizes_max)
    return sizes_.emplace_back(std::move(made)).get();
  auto& oldest =
      *std::ranges::min_element(sizes_, {}, [](const std::unique_ptr<known_size>& each) { return each->last; });
  oldest = std::move(made);
  return oldest.get();
}

result<void> vision_tower::write_tables(known_size& of) {
  const std::uint32_t side = config_.facts.patch_pixels;
  const std::int64_t patches = of.height / side * (of.width / side);
  const auto placed = of.memory.place([&](scratch& from) {
    of.corners = from.take({patches, 4}, element_kind::i32);
    of.weights = from.take({patches, 4});
    of.cos = from.take({patches, head_elements_ / 2});
    of.sin = from.take({patches, head_elements_ / 2});
    return of.corners;
  });
  if (!placed)
    return tl::unexpected(placed.error());
  const patch_tables tables = tables_of(config_.facts, *config_.vision, of.height / side, of.width / side);
  run_->upload(*stream_, std::as_bytes(std::span{tables.corners}), of.corners);
  run_->upload(*stream_, std::as_bytes(std::span{tables.weights}), of.weights);
  run_->upload(*stream_, std::as_bytes(std::span{tables.cos}), of.cos);
  run_->upload(*stream_, std::as_bytes(std::span{tables.sin}), of.sin);
  return {};
}

capture_counts vision_tower::captures() const noexcept {
  const auto kept = std::ranges::count_if(sizes_, [&](const auto& each) { return is_captured(*each); });
  return {.graphs = static_cast<std::uint32_t>(kept), .eager = eager_};
}

std::uint32_t vision_tower::collectives(const picture& which, const group* mesh) const noexcept {
  const auto* const known = find(which.height, which.width);
  if (part_.tensor_parallel == 1 || (known && captures(mesh) && is_captured(*known)))
    return 0;
  return 2 * config_.facts.vision_layers + 1; // two sums a block, and one for the rows of all mergers together
}

// ---- a picture ----------------------------------------------------------------------------------------------------

result<void> vision_tower::validate(const picture& each, const group* mesh) const {
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
  return with;
}

void vision_tower::upload_patches(const picture& each, const workspace& with) {
  patches_.resize(static_cast<std::size_t>(with.patches.elements()));
  patchify(each.rgb, each.height, each.width, how_, patches_);
  const std::int64_t columns = with.patches.shape(1);
  run_->upload_published(*stream_,
                         {.data = std::as_bytes(std::span{patches_}).data(),
                          .kind = published_kind::f32,
                          .rows = with.patches.shape(0),
                          .columns = columns,
                          .row_bytes = columns * std::int64_t{sizeof(float)}},
                         with.patches);
}

result<void> vision_tower::attend(const block& of, const known_size& size, const workspace& with, group* mesh) {
  const std::int64_t width = heads_ * head_elements_;
  const tensor_view q = with.qkv.columns(0, width).split_last(heads_);
  const tensor_view k = with.qkv.columns(width, width).split_last(heads_);
  const tensor_view v = with.qkv.columns(2 * width, width).split_last(heads_);
  run_->layer_norm(*stream_, with.hidden, of.before_attention.scale.view, of.before_attention.shift.view, norm_epsilon,
                   with.normed);
  run_->matmul(*stream_, with.normed, of.qkv.matrix.view, of.qkv.bias.view, with.qkv);
  run_->rotate(*stream_, q, size.cos, size.sin);
  run_->rotate(*stream_, k, size.cos, size.sin);
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

/// Everything between patches and rows, as it is captured.
result<void> vision_tower::run(const known_size& size, const workspace& with, group* mesh) {
  run_->matmul(*stream_, with.patches, patch_.matrix.view, patch_.bias.view, with.hidden);
  run_->add_weighted(*stream_, positions_.view, size.corners, size.weights, with.hidden);
  const std::vector<std::uint32_t>& levels = config_.vision->deepstack;
  const std::int64_t width = config_.facts.hidden;
  for (std::uint32_t i = 0; i < blocks_.size(); ++i) {
    if (i % blocks_a_mark == 0)
      stream_->mark("tower block", i);
    if (auto done = attend(blocks_[i], size, with, mesh); !done)
      return done;
    if (auto done = transform(blocks_[i], with, mesh); !done)
      return done;
    if (const auto level = std::ranges::find(levels, i) - levels.begin(); level < std::ssize(levels))
      merge(deepstack_[static_cast<std::size_t>(level)], true, with, with.rows.columns(width * (1 + level), width));
  }
  merge(merger_, false, with, with.rows.columns(0, width));
  return mesh ? mesh->all_reduce_sum(*stream_, with.rows) : result<void>{};
}

result<void> vision_tower::launch(known_size& size, const workspace& with, group* mesh) {
  if (!is_captured(size)) {
    auto work = stream_->capture([this, &size, with, mesh] { return run(size, with, mesh); });
    if (!work)
      return tl::unexpected(work.error());
    size.work = *std::move(work);
    size.captured_at = scratch_.moves();
  }
  return stream_->launch(*size.work);
}

result<void> vision_tower::begin(const picture& which, group* mesh) {
  if (auto valid = validate(which, mesh); !valid)
    return valid;
  const auto known = know(which.height, which.width);
  if (!known)
    return tl::unexpected(known.error());
  known_size& size = **known;
  const std::int64_t side = config_.facts.patch_pixels;
  const auto placed =
      scratch_.place([&](scratch& from) { return describe(from, which.height / side * (which.width / side)); });
  if (!placed)
    return tl::unexpected(placed.error());
  const workspace& with = *placed;

  upload_patches(which, with);
  const bool came_before = size.last != 0;
  size.last = ++begun_;
  group* const sums = part_.tensor_parallel > 1 ? mesh : nullptr;
  const bool launches = captures(mesh) && came_before;
  eager_ += stream_->gains_by_capture() && !launches ? 1 : 0;
  if (auto done = launches ? launch(size, with, sums) : run(size, with, sums); !done)
    return done;
  if (which.rows)
    copy_across(*run_, *stream_, with.rows, which.rows);
  passed_ = stream_->make_event(); // the one before may be held by a transfer
  stream_->record(*passed_);
  return {};
}

result<void> vision_tower::finish() {
  return stream_->synchronize(base::now() + step_max_, wait_policy::backoff);
}

std::shared_ptr<const stream_event> vision_tower::ready() const {
  return run_->device() == device_kind::cpu ? nullptr : passed_;
}

} // namespace troupe::gpu::models
