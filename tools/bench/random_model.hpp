#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gpu/cuda/cuda_operations.hpp"
#include "gpu/cuda/cuda_stream.hpp"
#include "gpu/models/families/text_decoder.hpp"
#include "protocols/limits.hpp"
#include "tools/bench/fill_random.hpp"
#include "tools/bench/must.hpp"

/// Models of published shapes with random weights, made on the device: what benchmarks of whole steps run.
namespace troupe::bench {

inline double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// "8b": Qwen3 8B, "4b": Qwen3 4B, "1b": Llama 3.2 1B.
/// Numbers of the command line, two at a time, from argument `first` on.
inline std::vector<std::pair<std::uint32_t, std::uint32_t>> pairs_from(int first, int count, char** arguments) {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> pairs;
  for (int i = first; i + 1 < count; i += 2)
    pairs.emplace_back(std::strtoul(arguments[i], nullptr, 10), std::strtoul(arguments[i + 1], nullptr, 10));
  return pairs;
}

inline gpu::models::model_config shape_of(const std::string& name) {
  gpu::models::model_config config;
  gpu::models::model_facts& facts = config.facts;
  facts.name = name;
  facts.context_max = 40'960;
  facts.head_elements = 128;
  facts.query_heads = 32;
  facts.kv_heads = 8;
  config.text.prefix = "model.";
  config.text.rope.theta = 1e6;
  if (name == "8b") { // Qwen3 8B
    facts.vocabulary = 151'936;
    facts.hidden = 4096;
    facts.layers = 36;
    facts.intermediate = 12'288;
    config.text.head_norms = true;
  } else if (name == "4b") { // Qwen3 4B
    facts.vocabulary = 151'936;
    facts.hidden = 2560;
    facts.layers = 36;
    facts.intermediate = 9728;
    config.text.head_norms = true;
    config.text.tied = true;
  } else { // Llama 3.2 1B
    facts.vocabulary = 128'256;
    facts.hidden = 2048;
    facts.layers = 16;
    facts.head_elements = 64;
    facts.intermediate = 8192;
    config.text.tied = true;
  }
  return config;
}

/// One rank's text model with its pool. Threads: one. A benchmark that is refused memory ends.
class random_model {
public:
  random_model(std::shared_ptr<const gpu::operations> run, const std::string& name, std::uint32_t kv_tokens,
               const gpu::models::shard& part = {})
      : run_(std::move(run)), config_(shape_of(name)), stream_(run_->make_stream()),
        layout_(gpu::models::layout_of(config_.facts, part, kv_tokens, gpu::element_kind::bf16)),
        pool_(must(run_->allocate(layout_.bytes()))) {
    fill_bf16(handle(), pool_->data(), pool_->bytes() / 2, 0.0F, 1.0F, 1);
    const auto plan = gpu::models::plan_text(config_);
    std::uint32_t seed = 2; // the same on every rank of a mesh, for what all of them have whole
    const auto weights = [&](gpu::models::weight& into, const std::vector<std::string>& names,
                             gpu::element_kind element) -> protocols::result<void> {
      std::int64_t rows = 0;
      std::int64_t columns = 1;
      for (const std::string& each : names) {
        const auto found = std::ranges::find(plan, each, &gpu::models::tensor_plan::name);
        const std::int64_t ways = part.tensor_parallel;
        const bool by_rows = found->how == gpu::models::cut::rows || found->how == gpu::models::cut::rows_if_even;
        rows += static_cast<std::int64_t>(found->shape[0]) / (by_rows ? ways : 1);
        columns = found->shape.size() > 1 ? static_cast<std::int64_t>(found->shape[1]) : 1;
        columns /= found->how == gpu::models::cut::columns ? ways : 1;
      }
      const auto count = static_cast<std::size_t>(rows * columns);
      into.memory = must(run_->allocate(count * gpu::bytes_of(element)));
      into.view = {into.memory->data(), element, gpu::device_kind::cuda, {rows, columns}};
      if (element == gpu::element_kind::bf16) {
        fill_bf16(handle(), into.view.data(), count, 0.0F, 1.7F / std::sqrt(static_cast<float>(columns)), seed++);
        weight_bytes_ += names.front().find("embed_tokens") != std::string::npos && !config_.text.tied
                             ? 0 // of which a step reads a few rows
                             : count * 2;
      } else {
        fill_f32(handle(), into.view.data(), count, 1.0F, 0.1F, seed++);
      }
      return {};
    };
    model_ = must(gpu::models::text_decoder::make(config_, weights, run_, part, layout_,
                                                  {pool_->data(), pool_->bytes()}, gpu::element_kind::bf16));
    must(stream_->synchronize());
  }

  gpu::models::text_model& model() { return *model_; }
  const gpu::models::model_config& config() const { return config_; }
  double weight_bytes() const { return static_cast<double>(weight_bytes_); }
  double kv_bytes(double tokens) const {
    return tokens * static_cast<double>(layout_.block_bytes()) / protocols::limits::kv_block_tokens;
  }
  std::uint32_t blocks() const { return layout_.blocks; }
  cudaStream_t handle() { return static_cast<gpu::cuda::cuda_stream&>(*stream_).handle(); }
  gpu::stream& on() { return *stream_; }

private:
  std::shared_ptr<const gpu::operations> run_;
  gpu::models::model_config config_;
  std::unique_ptr<gpu::stream> stream_;
  gpu::models::kv_layout layout_;
  std::unique_ptr<gpu::buffer> pool_;
  std::unique_ptr<gpu::models::text_model> model_;
  std::size_t weight_bytes_ = 0;
};

} // namespace troupe::bench
