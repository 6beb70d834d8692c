#include <array>
#include <limits>

#include "gpu/models/families/text_decoder.hpp"
#include "protocols/limits.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::gpu::models {

using protocols::fail;
using protocols::fault;
using protocols::result;
using protocols::limits::kv_block_tokens;

result<std::unique_ptr<text_model>> text_decoder::make(const model_config& config, const weight_source& weights,
                                                       std::shared_ptr<const operations> run, const shard& part,
                                                       const kv_layout& layout, std::span<std::byte> kv,
                                                       element_kind element, protocols::duration step_max) {
  const kv_layout own = layout_of(config.facts, part, layout.blocks * kv_block_tokens, element);
  if (own.first_head != layout.first_head || own.heads != layout.heads || own.first_layer != layout.first_layer ||
      own.layers != layout.layers || own.head_elements != layout.head_elements || own.element != layout.element ||
      kv.size() != layout.bytes() ||
      std::uint64_t{layout.blocks} * kv_block_tokens > std::numeric_limits<std::int32_t>::max())
    return fail(fault::invalid_request, "a pool of " + std::to_string(kv.size()) +
                                            " bytes that is not laid out for this shard of " + config.facts.name +
                                            "; valid here: layout_of, " + std::to_string(own.bytes()) + " bytes");
  std::unique_ptr<text_decoder> model{new text_decoder{config, std::move(run), part, layout, kv, element, step_max}};
  if (auto loaded = model->load_weights(weights).and_then([&] { return model->make_replicas(); }); !loaded)
    return tl::unexpected(loaded.error());
  return model;
}

result<void> text_decoder::make_replicas() {
  if (part_.tensor_parallel == 1)
    return {};
  const auto make = [&](weight& into, std::int64_t count) -> result<void> {
    auto memory = run_->allocate(static_cast<std::size_t>(count) * sizeof(float));
    if (!memory)
      return tl::unexpected(memory.error());
    into.memory = *std::move(memory);
    into.view = {into.memory->data(), element_kind::f32, run_->device(), {1, count}};
    return {};
  };
  constexpr std::int64_t words = protocols::replica_words;
  const std::array<float, words> none{};
  return make(replica_, words).and_then([&] { return make(replicas_, words * part_.tensor_parallel); }).map([&] {
    run_->upload(*stream_, std::as_bytes(std::span{none}), replica_.view);
  });
}

result<std::unique_ptr<text_model>> text_decoder::load(const model_config& config, const tensor_files& files,
                                                       std::shared_ptr<const operations> run, const shard& part,
                                                       const kv_layout& layout, std::span<std::byte> kv,
                                                       element_kind element, protocols::duration step_max) {
  const auto stream = run->make_stream();
  shard_loader loader{files, plan_text(config), *run, *stream, part};
  auto model = make(
      config,
      [&](weight& into, const std::vector<std::string>& names, element_kind kind) {
        return loader.load(into, names, kind);
      },
      std::move(run), part, layout, kv, element, step_max);
  if (!model)
    return model;
  if (auto done = stream->synchronize(base::now() + protocols::limits::device_deadline, wait_policy::backoff); !done)
    return tl::unexpected(done.error());
  return model;
}

result<void> text_decoder::load_weights(const weight_source& from) {
  const std::string& prefix = config_.text.prefix;
  const std::string embeddings = prefix + "embed_tokens.weight";
  const bool tied_head = part_.last_stage() && config_.text.tied;
  if (part_.first_stage() || tied_head)
    if (auto loaded = from(embeddings_, {embeddings}, element_); !loaded)
      return loaded;
  layers_.resize(layout_.layers);
  for (std::uint32_t i = 0; i < layout_.layers; ++i)
    if (auto loaded = load_layer(from, layout_.first_layer + i, layers_[i]); !loaded)
      return loaded;
  if (!part_.last_stage())
    return {};
  if (auto loaded = from(norm_, {prefix + "norm.weight"}, element_kind::f32); !loaded)
    return loaded;
  if (!tied_head) {
    auto loaded = from(head_, {"lm_head.weight"}, element_);
    head_view_ = head_.view;
    return loaded;
  }
  const std::int64_t share = config_.facts.vocabulary / part_.tensor_parallel;
  head_view_ = vocabulary_is_cut() ? embeddings_.view.rows(share * part_.mesh_rank, share) : embeddings_.view;
  return {};
}

result<void> text_decoder::load_layer(const weight_source& from, std::uint32_t number, layer& into) {
  const std::string name = config_.text.prefix + "layers." + std::to_string(number) + ".";
  const auto all = [&](std::vector<std::string> parts, const char* kind) {
    for (std::string& part : parts)
      part = name + part + kind;
    return parts;
  };
  struct wanted {
    weight& into;
    std::vector<std::string> names;
    element_kind element; ///< a bias is of the kind of what it is added to
    bool there = true;
  };
  const text_config& text = config_.text;
  const std::vector<std::string> qkv{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
  const std::vector<std::string> gate_up{"mlp.gate_proj", "mlp.up_proj"};
  for (const wanted& each : {
           wanted{into.input_norm, all({"input_layernorm"}, ".weight"), element_kind::f32},
           wanted{into.qkv, all(qkv, ".weight"), element_},
           wanted{into.qkv_bias, all(qkv, ".bias"), element_, text.input_bias},
           wanted{into.query_norm, all({"self_attn.q_norm"}, ".weight"), element_kind::f32, text.head_norms},
           wanted{into.key_norm, all({"self_attn.k_norm"}, ".weight"), element_kind::f32, text.head_norms},
           wanted{into.output, all({"self_attn.o_proj"}, ".weight"), element_},
           wanted{into.output_bias, all({"self_attn.o_proj"}, ".bias"), element_kind::f32, text.output_bias},
           wanted{into.mlp_norm, all({"post_attention_layernorm"}, ".weight"), element_kind::f32},
           wanted{into.gate_up, all(gate_up, ".weight"), element_},
           wanted{into.gate_up_bias, all(gate_up, ".bias"), element_, text.mlp_bias},
           wanted{into.down, all({"mlp.down_proj"}, ".weight"), element_},
           wanted{into.down_bias, all({"mlp.down_proj"}, ".bias"), element_kind::f32, text.mlp_bias},
       })
    if (each.there)
      if (auto loaded = from(each.into, each.names, each.element); !loaded)
        return loaded;
  return {};
}

} // namespace troupe::gpu::models
