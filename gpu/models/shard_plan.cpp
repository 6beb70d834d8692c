#include "gpu/models/shard_plan.hpp"

#include <algorithm>
#include <charconv>
#include <numeric>

namespace troupe::gpu::models {

using protocols::fail;
using protocols::fault;
using protocols::result;

namespace {

class plan_writer {
public:
  explicit plan_writer(std::vector<tensor_plan>& into) : into_(into) {}

  void matrix(const std::string& name, std::uint64_t rows, std::uint64_t columns, cut how) {
    into_.push_back({name + ".weight", {rows, columns}, how});
  }
  void vector(const std::string& name, std::uint64_t size, cut how = cut::whole) {
    into_.push_back({name, {size}, how});
  }
  /// Weight and bias of a layer whose bias is cut as its outputs are.
  void linear(const std::string& name, std::uint64_t rows, std::uint64_t columns, cut how) {
    matrix(name, rows, columns, how);
    vector(name + ".bias", rows, how == cut::columns ? cut::first_rank : how);
  }
  void norm(const std::string& name, std::uint64_t size) {
    vector(name + ".weight", size);
    vector(name + ".bias", size);
  }
  void tensor(const std::string& name, std::vector<std::uint64_t> shape) {
    into_.push_back({name, std::move(shape), cut::whole});
  }

private:
  std::vector<tensor_plan>& into_;
};

std::string shown(const std::vector<std::uint64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i)
    text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

/// A tensor as rows and columns; what is deeper than a matrix is a matrix of its first dimension.
struct flat_shape {
  std::uint64_t rows = 0;
  std::uint64_t columns = 1;
};
flat_shape flatten(const std::vector<std::uint64_t>& shape) {
  return {shape.front(), std::accumulate(shape.begin() + 1, shape.end(), std::uint64_t{1}, std::multiplies{})};
}

} // namespace

std::vector<tensor_plan> plan_text(const model_config& config) {
  const model_facts& facts = config.facts;
  const text_config& text = config.text;
  const std::uint64_t queries = std::uint64_t{facts.query_heads} * facts.head_elements;
  const std::uint64_t keys = std::uint64_t{facts.kv_heads} * facts.head_elements;
  std::vector<tensor_plan> plan;
  plan_writer add{plan};
  add.matrix(text.prefix + "embed_tokens", facts.vocabulary, facts.hidden, cut::whole);
  for (std::uint32_t i = 0; i < facts.layers; ++i) {
    const std::string layer = text.prefix + "layers." + std::to_string(i) + ".";
    const auto projection = [&](const char* name, std::uint64_t rows, std::uint64_t columns, cut how, bool bias) {
      bias ? add.linear(layer + name, rows, columns, how) : add.matrix(layer + name, rows, columns, how);
    };
    add.vector(layer + "input_layernorm.weight", facts.hidden);
    projection("self_attn.q_proj", queries, facts.hidden, cut::rows, text.input_bias);
    projection("self_attn.k_proj", keys, facts.hidden, cut::rows, text.input_bias);
    projection("self_attn.v_proj", keys, facts.hidden, cut::rows, text.input_bias);
    projection("self_attn.o_proj", facts.hidden, queries, cut::columns, text.output_bias);
    if (text.head_norms) {
      add.vector(layer + "self_attn.q_norm.weight", facts.head_elements);
      add.vector(layer + "self_attn.k_norm.weight", facts.head_elements);
    }
    add.vector(layer + "post_attention_layernorm.weight", facts.hidden);
    projection("mlp.gate_proj", facts.intermediate, facts.hidden, cut::rows, text.mlp_bias);
    projection("mlp.up_proj", facts.intermediate, facts.hidden, cut::rows, text.mlp_bias);
    projection("mlp.down_proj", facts.hidden, facts.intermediate, cut::columns, text.mlp_bias);
  }
  add.vector(text.prefix + "norm.weight", facts.hidden);
  if (!text.tied)
    add.matrix("lm_head", facts.vocabulary, facts.hidden, cut::rows_if_even);
  return plan;
}

std::vector<tensor_plan> plan_vision(const model_config& config) {
  const model_facts& facts = config.facts;
  const vision_config& vision = *config.vision;
  const std::uint64_t width = vision.hidden;
  const std::uint64_t joined = width * facts.merge * facts.merge;
  std::vector<tensor_plan> plan;
  plan_writer add{plan};
  add.tensor(vision.prefix + "patch_embed.proj.weight",
             {width, vision.channels, vision.temporal, facts.patch_pixels, facts.patch_pixels});
  add.vector(vision.prefix + "patch_embed.proj.bias", width);
  add.matrix(vision.prefix + "pos_embed", std::uint64_t{vision.grid} * vision.grid, width, cut::whole);
  for (std::uint32_t i = 0; i < facts.vision_layers; ++i) {
    const std::string block = vision.prefix + "blocks." + std::to_string(i) + ".";
    add.norm(block + "norm1", width);
    add.linear(block + "attn.qkv", 3 * width, width, cut::thirds);
    add.linear(block + "attn.proj", width, width, cut::columns);
    add.norm(block + "norm2", width);
    add.linear(block + "mlp.linear_fc1", facts.vision_intermediate, width, cut::rows);
    add.linear(block + "mlp.linear_fc2", width, facts.vision_intermediate, cut::columns);
  }
  const auto merger = [&](const std::string& name, std::uint64_t norm) {
    add.norm(name + "norm", norm);
    add.linear(name + "linear_fc1", joined, joined, cut::rows);
    add.linear(name + "linear_fc2", facts.hidden, joined, cut::columns);
  };
  merger(vision.prefix + "merger.", width);
  for (std::uint32_t i = 0; i < facts.deepstack_levels; ++i)
    merger(vision.prefix + "deepstack_merger_list." + std::to_string(i) + ".", joined);
  return plan;
}

result<void> check_plan(const tensor_files& files, const std::vector<tensor_plan>& plan, const std::string& model) {
  for (const tensor_plan& each : plan) {
    const published_tensor* found = files.find(each.name);
    if (!found)
      return fail(fault::config_invalid,
                  model + ": tensor " + each.name + " is missing; valid here: shape " + shown(each.shape));
    if (found->shape != each.shape)
      return fail(fault::config_invalid, found->file + ": tensor " + each.name + " has shape " + shown(found->shape) +
                                             "; valid here, by config.json: " + shown(each.shape));
    if (found->type != "BF16" && found->type != "F32")
      return fail(fault::config_invalid,
                  found->file + ": tensor " + each.name + " is of dtype " + found->type + "; valid here: BF16, F32");
  }
  return {};
}

result<void> check_layers(const tensor_files& files, const model_config& config, const std::filesystem::path& folder) {
  const auto check = [&](const std::string& prefix, const char* key, std::uint32_t counted) -> result<void> {
    std::uint64_t held = 0;
    for (auto at = files.tensors().lower_bound(prefix); at != files.tensors().end() && at->first.starts_with(prefix);
         ++at) {
      std::uint64_t number = 0;
      const auto* const end = at->first.data() + at->first.size();
      if (std::from_chars(at->first.data() + prefix.size(), end, number).ec == std::errc{})
        held = std::max(held, number + 1);
    }
    if (held <= counted)
      return {};
    return fail(fault::config_invalid, (folder / "config.json").string() + ": " + key + " is " +
                                           std::to_string(counted) + ", and the weights have " + std::to_string(held) +
                                           " layers (" + prefix + std::to_string(held - 1) +
                                           "); valid here: " + std::to_string(held));
  };
  if (auto text = check(config.text.prefix + "layers.",
                        config.vision ? "text_config.num_hidden_layers" : "num_hidden_layers", config.facts.layers);
      !text || !config.vision)
    return text;
  return check(config.vision->prefix + "blocks.", "vision_config.depth", config.facts.vision_layers);
}

result<std::uint64_t> weight_bytes(const std::filesystem::path& folder, protocols::model_parts one, const shard& part,
                                   element_kind element) {
  const auto config = read_config(folder);
  if (!config)
    return tl::unexpected(config.error());
  const bool tower = one.tower;
  const auto [first, last] = layers_of(config->facts, part);
  const std::string layers = config->text.prefix + "layers.";
  std::uint64_t elements = 0;
  for (const tensor_plan& each : tower ? plan_vision(*config) : plan_text(*config)) {
    if (!tower && each.name.starts_with(layers)) {
      const auto number = std::stoul(each.name.substr(layers.size()));
      if (number < first || number >= last)
        continue;
    }
    const std::uint64_t whole =
        std::accumulate(each.shape.begin(), each.shape.end(), std::uint64_t{1}, std::multiplies{});
    elements += each.how == cut::whole || each.how == cut::first_rank ? whole : whole / part.tensor_parallel;
  }
  return elements * bytes_of(element);
}

shard_loader::shard_loader(const tensor_files& files, std::vector<tensor_plan> plan, const operations& run, stream& on,
                           shard part)
    : files_(files), plan_(std::move(plan)), run_(run), on_(on), part_(part) {}

const tensor_plan& shard_loader::planned(const std::string& name) const {
  const auto at = std::ranges::find(plan_, name, &tensor_plan::name);
  TROUPE_ASSERT("plan", at != plan_.end());
  return *at;
}

std::vector<published_slice> shard_loader::slices(const std::string& name) const {
  const tensor_plan& plan = planned(name);
  const published_tensor* file = files_.find(name);
  TROUPE_ASSERT("plan", file && file->shape == plan.shape);
  const flat_shape shape = flatten(plan.shape);
  const bool wide = file->type == "F32";
  const std::uint64_t row_bytes = shape.columns * (wide ? 4 : 2);
  const std::uint64_t mesh = part_.tensor_parallel;
  const auto slice = [&](std::uint64_t row, std::uint64_t rows, std::uint64_t column, std::uint64_t columns) {
    return published_slice{.data = file->bytes.data() + row * row_bytes + column * (wide ? 4 : 2),
                           .kind = wide ? published_kind::f32 : published_kind::bf16,
                           .rows = static_cast<std::int64_t>(rows),
                           .columns = static_cast<std::int64_t>(columns),
                           .row_bytes = static_cast<std::int64_t>(row_bytes)};
  };
  const auto share_of = [&](std::uint64_t first, std::uint64_t rows) {
    TROUPE_ASSERT("plan", rows % mesh == 0);
    return slice(first + rows / mesh * part_.mesh_rank, rows / mesh, 0, shape.columns);
  };
  switch (plan.how) {
  case cut::whole:
    return {slice(0, shape.rows, 0, shape.columns)};
  case cut::rows:
    return {share_of(0, shape.rows)};
  case cut::thirds: {
    const std::uint64_t third = shape.rows / 3;
    return {share_of(0, third), share_of(third, third), share_of(2 * third, third)};
  }
  case cut::columns:
    TROUPE_ASSERT("plan", shape.columns % mesh == 0);
    return {slice(0, shape.rows, shape.columns / mesh * part_.mesh_rank, shape.columns / mesh)};
  case cut::first_rank:
    return part_.mesh_rank == 0 ? std::vector{slice(0, shape.rows, 0, shape.columns)} : std::vector<published_slice>{};
  case cut::rows_if_even:
    return {shape.rows % mesh == 0 ? share_of(0, shape.rows) : slice(0, shape.rows, 0, shape.columns)};
  }
  return {};
}

result<void> shard_loader::load(weight& into, const std::vector<std::string>& names, element_kind element) {
  std::vector<published_slice> parts;
  for (const std::string& name : names)
    for (const published_slice& each : slices(name))
      parts.push_back(each);
  if (parts.empty())
    return {};
  std::int64_t rows = 0;
  for (const published_slice& each : parts)
    rows += each.rows;
  const std::int64_t columns = parts.front().columns;
  auto memory = run_.allocate(static_cast<std::size_t>(rows * columns) * bytes_of(element));
  if (!memory)
    return fail(memory.error().code, names.front() + ": " + memory.error().what);
  into.memory = std::move(*memory);
  into.view = {into.memory->data(), element, run_.device(), {rows, columns}};
  std::int64_t at = 0;
  for (const published_slice& each : parts) {
    run_.upload_published(on_, each, into.view.rows(at, each.rows));
    at += each.rows;
  }
  return {};
}

} // namespace troupe::gpu::models
