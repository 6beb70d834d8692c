#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "gpu/observed_operations.hpp"
#include "tools/bench/random_model.hpp"

// Prompts through models of published shapes with random weights, made on the device: forwards of pieces of a prompt,
// from token ids to the last token's logits on the host, as an executor runs them. The limit is the operations of all
// products and of causal attention over the rate of the largest product, measured in the same run on random numbers.
// Then, with a mark behind each operation, where the time goes: in the pieces asked for, or those of the runtime.
//   prefill_bench [8b|1b|4b] [tokens piece]...

using namespace troupe;
using bench::median;
using bench::must;
using bench::random_model;
using namespace troupe::gpu;
using clock_type = std::chrono::steady_clock;

namespace {

constexpr int rounds = 5;

/// Device time from one operation's end to the next one's, by name and matrix; off until `begin`. What the device waits
/// for the host between two forwards counts as the next one's first upload.
class marks {
public:
  ~marks() {
    for (const cudaEvent_t each : events_)
      cudaEventDestroy(each);
  }

  void begin() {
    names_.clear();
    watching_ = true;
  }
  void after(cudaStream_t on, const char* name, const tensor_view& what) {
    if (!watching_)
      return;
    std::string words = name;
    if (words.find("matmul") != std::string::npos)
      words.append(" ").append(std::to_string(what.shape(0))).append(" x ").append(std::to_string(what.shape(1)));
    if (names_.size() == events_.size())
      cudaEventCreate(&events_.emplace_back());
    cudaEventRecord(events_[names_.size()], on);
    names_.push_back(std::move(words));
  }
  /// Calls and seconds of each; the stream has been synchronized.
  std::map<std::string, std::pair<int, double>> end() {
    watching_ = false;
    std::map<std::string, std::pair<int, double>> found;
    for (std::size_t i = 1; i < names_.size(); ++i) {
      float milliseconds = 0.0F;
      cudaEventElapsedTime(&milliseconds, events_[i - 1], events_[i]);
      auto& [calls, seconds] = found[names_[i]];
      ++calls;
      seconds += milliseconds / 1e3;
    }
    return found;
  }

private:
  std::vector<cudaEvent_t> events_;
  std::vector<std::string> names_;
  bool watching_ = false;
};

/// Operations a second of a bf16 product of 8192 cubed.
double product_rate(const operations& run, random_model& with) {
  constexpr std::int64_t side = 8192;
  constexpr int calls = 8;
  std::vector<std::unique_ptr<buffer>> memory;
  std::vector<tensor_view> matrices;
  for (std::uint32_t i = 0; i < 3; ++i) {
    memory.push_back(must(run.allocate(side * side * 2)));
    bench::fill_bf16(with.handle(), memory.back()->data(), side * side, 0.0F, 1.7F, 100 + i);
    matrices.emplace_back(memory.back()->data(), element_kind::bf16, device_kind::cuda,
                          std::initializer_list<std::int64_t>{side, side});
  }
  std::vector<double> taken;
  for (int round = -2; round < 9; ++round) {
    must(with.on().synchronize());
    const auto began = clock_type::now();
    for (int i = 0; i < calls; ++i)
      run.matmul(with.on(), matrices[0], matrices[1], {}, matrices[2]);
    must(with.on().synchronize());
    if (round >= 0)
      taken.push_back(std::chrono::duration<double>(clock_type::now() - began).count() / calls);
  }
  return 2.0 * side * side * side / median(taken);
}

/// A prompt, and its blocks in no order.
class prompt {
public:
  prompt(random_model& with, std::uint32_t tokens) : with_(with), logits_(with.config().facts.vocabulary) {
    const std::uint32_t blocks = (tokens + protocols::limits::kv_block_tokens - 1) / protocols::limits::kv_block_tokens;
    for (std::uint32_t i = 0; i < blocks; ++i)
      blocks_.emplace_back(static_cast<std::uint32_t>(std::uint64_t{i} * 7919 % with.blocks()));
    for (std::uint32_t i = 0; i < tokens; ++i) {
      ids_.push_back(static_cast<protocols::token_id>(std::uint64_t{i} * 104'729 % logits_.size()));
      const auto at = static_cast<std::int32_t>(i);
      positions_.push_back({at, at, at});
    }
  }

  /// All of it, `piece` tokens at a time.
  void run(std::size_t piece) {
    for (std::size_t begin = 0; begin < ids_.size(); begin += piece) {
      const std::size_t count = std::min(piece, ids_.size() - begin);
      const bool last = begin + count == ids_.size();
      const models::text_model::sequence one{.ids = std::span{ids_}.subspan(begin, count),
                                             .positions = std::span{positions_}.subspan(begin, count),
                                             .context = static_cast<std::uint32_t>(begin),
                                             .blocks = blocks_,
                                             .pictures = {},
                                             .wants_logits = last};
      must(with_.model().forward({&one, 1}, nullptr, last ? std::span{logits_} : std::span<float>{}, nullptr));
    }
  }

  /// Of all products, the last row's logits, and attention of each token to those before it and itself.
  double operations() const {
    const auto& facts = with_.config().facts;
    const auto tokens = static_cast<double>(ids_.size());
    const double queries = static_cast<double>(facts.query_heads) * facts.head_elements;
    const double keys = static_cast<double>(facts.kv_heads) * facts.head_elements;
    const double weights = facts.hidden * (2 * queries + 2 * keys + 3.0 * facts.intermediate);
    const double layer = 2 * tokens * weights + 4 * queries * tokens * (tokens + 1) / 2;
    return facts.layers * layer + 2.0 * facts.hidden * facts.vocabulary;
  }

private:
  random_model& with_;
  std::vector<protocols::token_id> ids_;
  std::vector<std::array<std::int32_t, 3>> positions_;
  std::vector<protocols::block_index> blocks_;
  std::vector<float> logits_;
};

void measure(random_model& with, double rate, std::uint32_t tokens, std::uint32_t piece) {
  prompt one{with, tokens};
  std::vector<double> taken;
  for (int round = -1; round < rounds; ++round) {
    const auto began = clock_type::now();
    one.run(piece);
    if (round >= 0)
      taken.push_back(std::chrono::duration<double>(clock_type::now() - began).count());
  }
  const double seconds = median(taken);
  std::printf("| %s | %u | %u | %.1f | %.0f | %.0f | %.1f %% |\n", with.config().facts.name.c_str(), tokens, piece,
              seconds * 1e3, tokens / seconds, one.operations() / seconds / 1e12,
              100.0 * one.operations() / seconds / rate);
  std::fflush(stdout);
}

void divide(random_model& with, marks& seen, std::uint32_t tokens, std::uint32_t piece) {
  prompt one{with, tokens};
  for (int round = 0; round < 2; ++round) { // the first makes the marks
    seen.begin();
    one.run(piece);
    seen.end();
  }
  const auto began = clock_type::now();
  seen.begin();
  one.run(piece);
  const std::chrono::duration<double> whole = clock_type::now() - began;
  std::printf("\n%u tokens in pieces of %u, %.1f ms\n\n| operation | calls | ms | share |\n| --- | --- | --- | --- |\n",
              tokens, piece, whole.count() * 1e3);
  for (const auto& [name, what] : seen.end())
    std::printf("| %s | %d | %.2f | %.1f %% |\n", name.c_str(), what.first, what.second * 1e3,
                100.0 * what.second / whole.count());
  std::fflush(stdout);
}

} // namespace

int main(int count, char** arguments) {
  const std::string name = count > 1 ? arguments[1] : "8b";
  auto wanted = bench::pairs_from(2, count, arguments);
  if (wanted.empty())
    for (const std::uint32_t tokens : {2048U, 8192U})
      for (const std::uint32_t piece : {512U, 1024U, 2048U, 4096U, 8192U})
        if (piece <= tokens)
          wanted.emplace_back(tokens, piece);
  std::uint32_t most = 0;
  for (const auto& [tokens, piece] : wanted)
    most = std::max(most, tokens);

  marks seen;
  const auto bare = must(cuda::make_operations(0));
  const auto run = observe_operations(bare, [&](stream& on, const char* called, const tensor_view& what) {
    seen.after(static_cast<cuda::cuda_stream&>(on).handle(), called, what);
  });
  random_model model{run, name, most + 1024};
  const double rate = product_rate(*bare, model);
  std::printf("bf16 product of 8192 cubed: %.0f TFLOP/s\n\n"
              "| model | tokens | piece | ms | tokens/s | TFLOP/s | share of the rate |\n"
              "| --- | --- | --- | --- | --- | --- | --- |\n",
              rate / 1e12);
  for (const auto& [tokens, piece] : wanted)
    measure(model, rate, tokens, piece);
  for (const auto& [tokens, piece] : wanted)
    if (count > 2 || piece == std::min(tokens, protocols::limits::prefill_chunk_tokens))
      divide(model, seen, tokens, piece);
  return 0;
}
