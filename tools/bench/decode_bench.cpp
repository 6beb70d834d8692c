#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "gpu/cuda/cuda_operations.hpp"
#include "gpu/cuda/cuda_stream.hpp"
#include "gpu/models/families/decode_batch.hpp"
#include "runtime/base/clock.hpp"
#include "tools/bench/random_model.hpp"
#include "tools/bench/read_all.hpp"

// Decode steps of models of published shapes with random weights, made on the device. A step must read every weight and
// every key and value of its contexts once: those bytes over the card's read bandwidth, measured in the same run, are
// the limit. Beside it, the same graph launched in a bare loop, and what the host spends on a step.
//   decode_bench [8b|1b|4b] [batch context]...

using namespace troupe;
using bench::median;
using bench::must;
using bench::random_model;
using namespace troupe::gpu;
using namespace troupe::gpu::models;
using clock_type = std::chrono::steady_clock;

namespace {

constexpr int steps_timed = 100;
constexpr int rounds = 5;

/// Bytes a second that a kernel which does nothing else reads.
double read_bandwidth(random_model& with, const operations& run) {
  constexpr std::size_t bytes = std::size_t{4} << 30;
  const auto memory = must(run.allocate(bytes));
  const auto sink = must(run.allocate(4));
  int multiprocessors = 0;
  cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0);
  bench::fill_bf16(with.handle(), memory->data(), bytes / 2, 0.0F, 1.0F, 9);
  must(with.on().synchronize());
  cudaEvent_t began = nullptr;
  cudaEvent_t ended = nullptr;
  cudaEventCreate(&began);
  cudaEventCreate(&ended);
  std::vector<double> taken;
  for (int round = -2; round < 9; ++round) {
    cudaEventRecord(began, with.handle());
    for (int i = 0; i < 4; ++i)
      bench::read_all(with.handle(), memory->data(), bytes, reinterpret_cast<float*>(sink->data()), multiprocessors);
    cudaEventRecord(ended, with.handle());
    must(with.on().synchronize());
    float milliseconds = 0.0F;
    cudaEventElapsedTime(&milliseconds, began, ended);
    if (round >= 0)
      taken.push_back(milliseconds / 1e3 / 4);
  }
  return static_cast<double>(bytes) / median(taken);
}

protocols::time_point soon() {
  return base::now() + std::chrono::seconds{10};
}

void measure(random_model& with, double bandwidth, std::uint32_t rows, std::uint32_t context) {
  const auto opened = clock_type::now();
  const auto batch = must(with.model().open_batch({.rows_max = rows}, nullptr));
  const std::chrono::duration<double> opening = clock_type::now() - opened;
  const std::uint32_t each = with.blocks() / rows;
  for (std::uint32_t row = 0; row < rows; ++row) {
    std::vector<protocols::block_index> blocks;
    for (std::uint32_t i = 0; i < each; ++i)
      blocks.emplace_back(i * rows + row); // no two neighbours
    must(batch->join(
        {.newest = static_cast<protocols::token_id>(row + 1), .context = context, .blocks = blocks, .sampling = {}}));
  }
  for (int i = 0; i < 10; ++i) {
    must(batch->step(nullptr));
    must(batch->collect(soon()));
  }

  // As an executor steps: one ahead, tokens collected behind it.
  double host = 0.0;
  std::vector<double> taken;
  std::uint64_t steps = 10;
  for (int round = 0; round < rounds; ++round) {
    must(batch->step(nullptr));
    const auto began = clock_type::now();
    for (int i = 0; i < steps_timed; ++i) {
      const auto before = clock_type::now();
      must(batch->step(nullptr));
      host += std::chrono::duration<double>(clock_type::now() - before).count();
      must(batch->collect(soon()));
    }
    taken.push_back(std::chrono::duration<double>(clock_type::now() - began).count() / steps_timed);
    must(batch->collect(soon()));
    steps += steps_timed + 1;
  }
  host /= rounds * steps_timed;
  const double step = median(taken);

  // The same graph, and nothing else.
  auto& bare = static_cast<decode_batch&>(*batch);
  auto work = must(bare.on().capture([&] { return bare.run(rows, nullptr); }));
  std::vector<double> alone;
  for (int round = 0; round < rounds; ++round) {
    must(bare.on().launch(*work));
    must(bare.on().synchronize());
    const auto began = clock_type::now();
    for (int i = 0; i < steps_timed; ++i)
      must(bare.on().launch(*work));
    must(bare.on().synchronize());
    alone.push_back(std::chrono::duration<double>(clock_type::now() - began).count() / steps_timed);
  }

  const double tokens = static_cast<double>(rows) * (context + static_cast<double>(steps) / 2);
  const double limit = (with.weight_bytes() + with.kv_bytes(tokens)) / bandwidth;
  std::printf("| %s | %u | %u | %.3f | %.0f | %.3f | %.1f %% | %.3f | %.3f | %.1f | %.2f |\n",
              with.config().facts.name.c_str(), rows, context, step * 1e3, rows / step, limit * 1e3,
              100.0 * limit / step, median(alone) * 1e3, step / median(alone), host * 1e6, opening.count());
  std::fflush(stdout);
}

} // namespace

int main(int count, char** arguments) {
  const std::string name = count > 1 ? arguments[1] : "8b";
  auto wanted = bench::pairs_from(2, count, arguments);
  if (wanted.empty())
    wanted = {{1, 1024}, {8, 1024}, {32, 1024}, {1, 8192}, {8, 8192}, {32, 8192}};
  std::uint32_t kv_tokens = 0;
  for (const auto& [rows, context] : wanted)
    kv_tokens = std::max(kv_tokens, rows * (context + 2048));
  const auto run = must(cuda::make_operations(0));
  random_model model{run, name, kv_tokens};
  const double bandwidth = read_bandwidth(model, *run);
  std::printf("%s: %.2f GB of weights a step, read bandwidth %.0f GB/s\n\n", name.c_str(), model.weight_bytes() / 1e9,
              bandwidth / 1e9);
  std::printf(
      "| model | batch | context | ms a step | tokens/s | limit, ms | share of it | bare loop, ms | ratio | host, us a "
      "step | opening, s |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
  for (const auto& [rows, context] : wanted)
    measure(model, bandwidth, rows, context);
  return 0;
}
