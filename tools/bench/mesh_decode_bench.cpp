/// Decode steps of one model, random weights, cut over the GPUs of this machine: a process for each, steps begun one
/// ahead as an executor does, against the same model on one of them in the same run. Every rank chooses from the same
/// logits; that all have chosen the same is checked.
///   mesh_decode_bench [8b|4b|1b] [members] [batch context]...
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "gpu/cuda/cuda_operations.hpp"
#include "runtime/base/clock.hpp"
#include "tools/bench/device_mesh.hpp"
#include "tools/bench/random_model.hpp"

namespace {

using namespace troupe;
using bench::forked_members;
using bench::median;
using bench::must;
using bench::random_model;

constexpr int steps_timed = 200;
constexpr int rounds = 5;

struct load {
  std::uint32_t rows = 1;
  std::uint32_t context = 1024;
};

std::uint32_t kv_tokens_for(const std::vector<load>& loads) {
  std::uint32_t most = 0;
  for (const auto& each : loads)
    most = std::max(most, each.rows * (each.context + 2 * rounds * steps_timed));
  return most;
}

class decoder {
public:
  /// `all`: none on one GPU.
  decoder(std::uint32_t self, const std::string& shape, std::uint32_t kv_tokens, forked_members* all)
      : self_(self), all_(all), mesh_(all != nullptr ? bench::make_mesh(self, *all) : nullptr),
        model_(must(gpu::cuda::make_operations(self)), shape, kv_tokens,
               {.tensor_parallel = all != nullptr ? all->count() : 1, .mesh_rank = self}) {}

  /// Seconds a step.
  double time(const load& what) {
    const gpu::models::batch_options how{.rows_max = what.rows};
    if (mesh_)
      must(mesh_->begin(call_, "warm", model_.model().opening_collectives(how)));
    call_ = call_.next();
    const auto batch = must(model_.model().open_batch(how, mesh_.get()));
    if (mesh_)
      must(mesh_->end());
    const auto each = model_.blocks() / what.rows;
    for (std::uint32_t row = 0; row < what.rows; ++row) {
      std::vector<protocols::block_index> blocks;
      for (std::uint32_t i = 0; i < each; ++i)
        blocks.emplace_back(i * what.rows + row); // no two neighbours
      must(batch->join({.newest = static_cast<protocols::token_id>(row + 1),
                        .context = what.context,
                        .blocks = blocks,
                        .sampling = {}}));
    }
    std::vector<double> taken;
    for (int round = -1; round < rounds; ++round) {
      if (all_ != nullptr)
        all_->meet();
      must(batch->step(mesh_.get()));
      const auto begun = base::now();
      for (int i = 0; i < steps_timed; ++i) {
        must(batch->step(mesh_.get()));
        collect(*batch);
      }
      if (round >= 0)
        taken.push_back(std::chrono::duration<double>(base::now() - begun).count() / steps_timed);
      collect(*batch);
      agree();
    }
    return median(taken);
  }

private:
  void collect(gpu::models::running_batch& batch) {
    for (const auto& one : must(batch.collect(base::now() + std::chrono::seconds{10})))
      chosen_ = chosen_ * 1'000'003 + static_cast<std::uint64_t>(one.id);
  }
  void agree() {
    if (all_ == nullptr)
      return;
    for (const auto theirs : must(gpu::exchange(bench::seat_of(self_, *all_), chosen_)))
      if (theirs != chosen_) {
        std::printf("rank %u has chosen other tokens\n", self_);
        std::exit(1);
      }
  }

  std::uint32_t self_;
  forked_members* all_;
  std::unique_ptr<gpu::group> mesh_;
  random_model model_;
  protocols::call_id call_{1};
  std::uint64_t chosen_ = 0; ///< of all steps
};

} // namespace

int main(int count, char** arguments) {
  const std::string shape = count > 1 ? arguments[1] : "8b";
  const auto members = static_cast<std::uint32_t>(count > 2 ? std::atoi(arguments[2]) : 2);
  std::vector<load> loads;
  for (int i = 3; i + 1 < count; i += 2)
    loads.push_back(
        {static_cast<std::uint32_t>(std::atoi(arguments[i])), static_cast<std::uint32_t>(std::atoi(arguments[i + 1]))});
  if (loads.empty())
    loads = {{1, 1024}, {8, 1024}, {32, 1024}};
  return forked_members::run(members, [&](std::uint32_t self, forked_members& all) {
    std::vector<double> alone(loads.size());
    if (self == 0) {
      decoder one{0, shape, kv_tokens_for(loads), nullptr};
      for (std::size_t i = 0; i < loads.size(); ++i)
        alone[i] = one.time(loads[i]);
    }
    all.meet();
    decoder here{self, shape, kv_tokens_for(loads), &all};
    if (self == 0)
      std::printf("| model | batch | context | one GPU, ms a step | %u GPUs | times |\n| --- | --- | --- | --- | --- | "
                  "--- |\n",
                  members);
    for (std::size_t i = 0; i < loads.size(); ++i) {
      const double together = here.time(loads[i]);
      if (self == 0)
        std::printf("| %s | %u | %u | %.3f | %.3f | %.2f |\n", shape.c_str(), loads[i].rows, loads[i].context,
                    alone[i] * 1e3, together * 1e3, alone[i] / together);
    }
    return 0;
  });
}
