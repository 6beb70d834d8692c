#include <algorithm>
#include <numeric>

#include "gpu/models/model.hpp"
#include "protocols/cluster/cluster_spec.hpp"
#include "protocols/limits.hpp"

/// How a model is cut: by heads and columns over a mesh, by layers over stages.
namespace troupe::gpu::models {

using protocols::fail;
using protocols::fault;
using protocols::result;
using protocols::limits::kv_block_tokens;

namespace {

/// One width of the model that the mesh must divide.
struct cut {
  std::uint32_t size = 0;
  const char* what = "";
};

std::string divisors(std::uint32_t number) {
  std::string list;
  for (std::uint32_t i = 1; i <= number; ++i)
    if (number % i == 0)
      list += (list.empty() ? "" : ", ") + std::to_string(i);
  return list;
}

result<void> check_mesh(const model_facts& facts, std::span<const cut> cuts, std::uint32_t tensor_parallel) {
  std::uint32_t common = 0;
  for (const cut& each : cuts)
    common = std::gcd(common, each.size);
  for (const cut& each : cuts)
    if (tensor_parallel == 0 || each.size % tensor_parallel != 0)
      return fail(fault::config_invalid, "tensor_parallel " + std::to_string(tensor_parallel) +
                                             " does not divide the " + std::to_string(each.size) + " " + each.what +
                                             " of " + facts.name + "; valid here: " + divisors(common));
  return {};
}

} // namespace

result<void> check_layout(const model_facts& facts, protocols::model_parts parts, std::uint32_t tensor_parallel,
                          std::uint32_t pipeline_parallel) {
  const auto [text, vision] = parts;
  if (!text && !vision)
    return {};
  if (vision && !facts.has_vision)
    return fail(fault::config_invalid, facts.name + " (" + facts.architecture + ") has no vision tower");

  std::vector<cut> cuts;
  if (text)
    cuts = {{facts.query_heads, "query heads"}, {facts.kv_heads, "kv heads"}, {facts.intermediate, "mlp columns"}};
  if (vision) {
    cuts.push_back({facts.vision_heads, "vision heads"});
    cuts.push_back({facts.vision_intermediate, "vision mlp columns"});
  }
  if (auto mesh = check_mesh(facts, cuts, tensor_parallel); !mesh)
    return mesh;

  const std::uint32_t stages_max = text ? facts.layers : 1;
  if (pipeline_parallel == 0 || pipeline_parallel > stages_max)
    return fail(fault::config_invalid,
                "pipeline_parallel " + std::to_string(pipeline_parallel) +
                    (text ? " cannot cut the " + std::to_string(facts.layers) + " layers of " + facts.name
                          : " cannot cut the vision tower of " + facts.name + ", which is whole on every stage") +
                    "; valid here: 1" + (stages_max > 1 ? " to " + std::to_string(stages_max) : ""));
  return {};
}

std::pair<std::uint32_t, std::uint32_t> layers_of(const model_facts& facts, const shard& part) noexcept {
  const std::uint32_t each = facts.layers / part.pipeline_parallel;
  const std::uint32_t longer = facts.layers % part.pipeline_parallel;
  const std::uint32_t first = part.stage * each + std::min(part.stage, longer);
  return {first, first + each + (part.stage < longer ? 1 : 0)};
}

kv_layout layout_of(const model_facts& facts, const shard& part, std::uint32_t kv_tokens_max,
                    element_kind element) noexcept {
  const auto [first, last] = layers_of(facts, part);
  const std::uint32_t heads = facts.kv_heads / part.tensor_parallel;
  return {.blocks = static_cast<std::uint32_t>((std::uint64_t{kv_tokens_max} + kv_block_tokens - 1) / kv_block_tokens),
          .first_head = part.mesh_rank * heads,
          .heads = heads,
          .first_layer = first,
          .layers = last - first,
          .head_elements = facts.head_elements,
          .element = element};
}

std::uint64_t kv_layout::run_bytes() const noexcept {
  return std::uint64_t{2} * kv_block_tokens * head_elements * bytes_of(element);
}

std::uint64_t kv_layout::block_bytes() const noexcept {
  return run_bytes() * heads * layers;
}

std::uint64_t kv_layout::offset(std::uint32_t block, std::uint32_t head, std::uint32_t layer) const noexcept {
  return block * block_bytes() + (std::uint64_t{head - first_head} * layers + (layer - first_layer)) * run_bytes();
}

} // namespace troupe::gpu::models
