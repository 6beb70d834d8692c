#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "gpu/cuda/cuda_operations.hpp"
#include "gpu/cuda/cuda_stream.hpp"
#include "tools/bench/must.hpp"
#include "tools/bench/read_all.hpp"

// The CUDA plug-in's operations at the shapes of an 8B model, each against what the card can do: bytes over the read
// bandwidth, or floating-point operations over the rate of the largest product, both measured in the same run.
// Times are a call's share of a queue of calls, by the device's clock: the median of rounds after a warm-up. The inputs
// rotate through more memory than the second-level cache holds.
//   kernels_bench [part of an operation's name]

using namespace troupe;
using bench::must;
using gpu::element_kind;
using gpu::tensor_view;

namespace {

constexpr int rounds = 15;
constexpr int calls_a_round = 24;
constexpr std::size_t rotated_bytes = std::size_t{2} << 30;
constexpr std::int64_t block_tokens = 16;
constexpr std::int64_t pool_layers = 36; // of a prompt's pool: a layer's keys lie between those of the others

enum class limit : std::uint8_t { bytes, operations };

class card {
public:
  explicit card(std::string wanted)
      : run_(must(gpu::cuda::make_operations(0))), stream_(run_->make_stream()), wanted_(std::move(wanted)) {
    cudaEventCreate(&began_);
    cudaEventCreate(&ended_);
    cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, 0);
    noise_ = must(run_->allocate(rotated_bytes));
    std::mt19937 from{7};
    std::normal_distribution<float> draw;
    std::vector<gpu::bfloat16> some(1 << 20);
    for (gpu::bfloat16& each : some)
      each = gpu::narrow(draw(from));
    const auto bytes = std::as_bytes(std::span{some});
    for (std::size_t at = 0; at + bytes.size() <= rotated_bytes; at += bytes.size())
      run_->upload(*stream_, bytes,
                   {noise_->data() + at, element_kind::bf16, gpu::device_kind::cuda, {std::int64_t{1} << 20}});
    must(stream_->synchronize());
  }

  const gpu::operations& run() const { return *run_; }
  gpu::stream& on() { return *stream_; }
  cudaStream_t handle() { return static_cast<gpu::cuda::cuda_stream&>(*stream_).handle(); }
  int multiprocessors() const { return multiprocessors_; }

  /// The `turn`th piece of random bf16 memory: another one each time, as far as there are.
  tensor_view noise(int turn, std::initializer_list<std::int64_t> shape) const {
    const tensor_view measure{nullptr, element_kind::bf16, gpu::device_kind::cuda, shape};
    const std::size_t each = (measure.bytes() + 255) / 256 * 256;
    const std::size_t places = std::max<std::size_t>(1, rotated_bytes / each);
    return {noise_->data() + static_cast<std::size_t>(turn) % places * each, element_kind::bf16, gpu::device_kind::cuda,
            shape};
  }
  tensor_view room(std::initializer_list<std::int64_t> shape, element_kind element = element_kind::bf16) {
    const tensor_view measure{nullptr, element, gpu::device_kind::cuda, shape};
    rooms_.push_back(must(run_->allocate(measure.bytes())));
    return {rooms_.back()->data(), element, gpu::device_kind::cuda, shape};
  }
  tensor_view integers(const std::vector<std::int32_t>& values, std::initializer_list<std::int64_t> shape) {
    const tensor_view view = room(shape, element_kind::i32);
    run_->upload(*stream_, std::as_bytes(std::span{values}), view);
    return view;
  }
  void forget() { rooms_.clear(); }

  /// Seconds of one call of `body(turn)`.
  double seconds(const std::function<void(int)>& body) {
    int turn = 0;
    std::vector<double> taken;
    for (int round = -3; round < rounds; ++round) {
      cudaEventRecord(began_, handle());
      for (int i = 0; i < calls_a_round; ++i)
        body(turn++);
      cudaEventRecord(ended_, handle());
      must(stream_->synchronize());
      float milliseconds = 0.0F;
      cudaEventElapsedTime(&milliseconds, began_, ended_);
      if (round >= 0)
        taken.push_back(milliseconds / 1e3 / calls_a_round);
    }
    std::nth_element(taken.begin(), taken.begin() + rounds / 2, taken.end());
    return taken[rounds / 2];
  }

  void ceilings() {
    const double copy = seconds([&](int) {
      cudaMemcpyAsync(noise_->data(), noise_->data() + rotated_bytes / 2, rotated_bytes / 2, cudaMemcpyDeviceToDevice,
                      handle());
    });
    const tensor_view sink = room({1}, element_kind::f32);
    const double read = seconds(
        [&](int) { troupe::bench::read_all(handle(), noise_->data(), rotated_bytes, sink.f32(), multiprocessors_); });
    const tensor_view product = room({8192, 8192});
    const double multiply = seconds([&](int turn) {
      run_->matmul(*stream_, noise(turn, {8192, 8192}), noise(turn + 1, {8192, 8192}), {}, product);
    });
    bytes_a_second_ = static_cast<double>(rotated_bytes) / read;
    operations_a_second_ = 2.0 * 8192 * 8192 * 8192 / multiply;
    std::printf("copy %.0f GB/s read and written, read %.0f GB/s, bf16 product %.0f TFLOP/s\n\n",
                static_cast<double>(rotated_bytes) / copy / 1e9, bytes_a_second_ / 1e9, operations_a_second_ / 1e12);
    std::printf("%-52s %10s %12s %8s\n", "operation, bf16", "us", "reached", "share");
  }

  /// `work`: bytes that must move, or floating-point operations, of one call. Rooms are forgotten unless they are kept.
  void measure(const std::string& name, limit by, double work, const std::function<void(int)>& body,
               bool keep = false) {
    if (name.find(wanted_) != std::string::npos)
      show(name, by, work, body);
    if (!keep)
      forget();
  }

private:
  void show(const std::string& name, limit by, double work, const std::function<void(int)>& body) {
    const double each = seconds(body);
    const double reached = work / each;
    const bool moves = by == limit::bytes;
    std::printf("%-52s %10.2f %7.1f %s %7.1f%%\n", name.c_str(), each * 1e6, reached / (moves ? 1e9 : 1e12),
                moves ? "GB/s" : "TF/s", 100.0 * reached / (moves ? bytes_a_second_ : operations_a_second_));
    std::fflush(stdout);
  }

  std::shared_ptr<const gpu::operations> run_;
  std::unique_ptr<gpu::stream> stream_;
  std::string wanted_;
  std::unique_ptr<gpu::buffer> noise_;
  std::vector<std::unique_ptr<gpu::buffer>> rooms_;
  cudaEvent_t began_ = nullptr;
  cudaEvent_t ended_ = nullptr;
  int multiprocessors_ = 0;
  double bytes_a_second_ = 1.0;
  double operations_a_second_ = 1.0;
};

std::string number(std::int64_t value) {
  return std::to_string(value);
}

struct matrix {
  const char* name;
  std::int64_t n, k;
};
constexpr matrix matrices[]{{"q, k, v", 6144, 4096},
                            {"output", 4096, 4096},
                            {"gate, up", 28672, 4096},
                            {"down", 4096, 14336},
                            {"vocabulary", 128256, 4096}};

void products(card& with) {
  for (const std::int64_t m : {1, 8, 32, 2048})
    for (const matrix& each : matrices) {
      if (m == 2048 && each.n > 100'000)
        continue; // nobody wants the logits of a whole prompt
      const tensor_view x = with.noise(0, {m, each.k});
      const tensor_view out = with.room({m, each.n});
      const bool few = m < 256;
      const double work = few ? 2.0 * static_cast<double>(each.n * each.k + m * (each.n + each.k))
                              : 2.0 * static_cast<double>(m * each.n * each.k);
      with.measure("matmul " + number(m) + " x " + number(each.n) + " x " + number(each.k) + " (" + each.name + ")",
                   few ? limit::bytes : limit::operations, work, [&](int turn) {
                     with.run().matmul(with.on(), x, with.noise(turn + 1, {each.n, each.k}), {}, out);
                   });
    }
}

void rows(card& with) {
  for (const std::int64_t m : {1, 32, 8192}) {
    const double elements = static_cast<double>(m) * 4096;
    const std::string size = number(m) + " x ";
    const tensor_view scale = with.room({4096}, element_kind::f32);
    const tensor_view hidden = with.room({m, 4096}, element_kind::f32);
    const tensor_view normed = with.room({m, 4096});
    with.measure("rms_norm " + size + "4096, f32 to bf16", limit::bytes, elements * 6,
                 [&](int) { with.run().rms_norm(with.on(), hidden, scale, 1e-6F, normed); });
    const tensor_view sum = with.room({m, 4096}, element_kind::f32);
    const tensor_view delta = with.room({m, 4096}, element_kind::f32);
    with.measure("add " + size + "4096, f32", limit::bytes, elements * 12,
                 [&](int) { with.run().add(with.on(), sum, delta); });
    const tensor_view activated = with.room({m, 14336});
    with.measure("silu_mul " + size + "14336", limit::bytes, static_cast<double>(m) * 14336 * 6, [&](int turn) {
      with.run().silu_mul(with.on(), with.noise(turn, {m, 28672}), activated);
    });
    const tensor_view joined = with.room({m, 6144});
    const tensor_view cos = with.room({m, 64}, element_kind::f32);
    const tensor_view sin = with.room({m, 64}, element_kind::f32);
    with.measure("rotate " + size + "32 x 128", limit::bytes, elements * 4 + static_cast<double>(m) * 512,
                 [&](int) { with.run().rotate(with.on(), joined.columns(0, 4096).split_last(32), cos, sin); });
  }
}

constexpr std::int64_t queries = 32, heads = 8, width = 128; // of attention: heads of queries, heads of keys, elements

/// New tokens of one prompt in a pool of all layers: attention alone, and with all that a layer does before it.
void prompt(card& with, std::int64_t tokens, std::int64_t context) {
  const std::int64_t blocks = (context + tokens) / block_tokens;
  constexpr std::int64_t run = 2 * block_tokens * width;
  std::vector<std::int32_t> order(static_cast<std::size_t>(blocks));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937{3});
  std::vector<std::int32_t> slots;
  for (std::int64_t at = context; at < context + tokens; ++at)
    slots.push_back(static_cast<std::int32_t>(order[static_cast<std::size_t>(at / block_tokens)] * block_tokens +
                                              at % block_tokens));
  const gpu::paged_tokens where{.slots = with.integers(slots, {tokens}),
                                .first = with.integers({0, static_cast<std::int32_t>(tokens)}, {2}),
                                .context = with.integers({static_cast<std::int32_t>(context)}, {1}),
                                .blocks = with.integers(order, {1, blocks})};
  const tensor_view memory = with.room({blocks, heads, pool_layers, run});
  with.run().copy(with.on(), with.noise(0, {blocks * heads, pool_layers * run}),
                  memory.reshape({blocks * heads, pool_layers * run}));
  const auto pool = [&](int turn) {
    return tensor_view{static_cast<std::byte*>(memory.data()) + turn % pool_layers * run * 2,
                       element_kind::bf16,
                       gpu::device_kind::cuda,
                       {blocks, heads, 2, block_tokens, width}}
        .with_stride(0, heads * pool_layers * run)
        .with_stride(1, pool_layers * run);
  };
  const tensor_view joined = with.room({tokens, (queries + 2 * heads) * width});
  with.run().copy(with.on(), with.noise(1, {tokens, joined.shape(1)}), joined);
  const tensor_view norm = with.room({width}, element_kind::f32);
  const tensor_view cos = with.room({tokens, width / 2}, element_kind::f32);
  const tensor_view sin = with.room({tokens, width / 2}, element_kind::f32);
  with.run().copy(with.on(), with.noise(2, {1, width}), norm.reshape({1, width}));
  for (const tensor_view& angles : {cos, sin})
    with.run().copy(with.on(), with.noise(3, {tokens, width / 2}), angles);
  const tensor_view out = with.room({tokens, queries, width});
  const auto seen = static_cast<double>(tokens) * (static_cast<double>(context) + static_cast<double>(tokens) / 2);
  const double work = seen * static_cast<double>(queries * width) * 4;
  const std::string size = number(tokens) + " new, context " + number(context);
  const tensor_view q = joined.columns(0, queries * width).split_last(queries);
  with.measure(
      "paged_attention of a prompt, " + size, limit::operations, work,
      [&](int turn) { with.run().paged_attention(with.on(), q, pool(turn), where, 0.088F, out); }, true);
  with.measure("attend_new of a prompt, " + size, limit::operations, work, [&](int turn) {
    with.run().attend_new(with.on(), {joined, norm, norm, 1e-6F, cos, sin}, pool(turn), where, 0.088F, out);
  });
}

/// One new token of each sequence.
void paged(card& with, std::int64_t sequences, std::int64_t context) {
  const std::int64_t keys = context + 1;
  const std::int64_t pages = (keys + block_tokens - 1) / block_tokens;
  const std::int64_t blocks = sequences * pages;
  std::vector<std::int32_t> order(static_cast<std::size_t>(blocks));
  for (std::size_t i = 0; i < order.size(); ++i)
    order[i] = static_cast<std::int32_t>(i);
  std::shuffle(order.begin(), order.end(), std::mt19937{3});
  std::vector<std::int32_t> first;
  for (std::int64_t i = 0; i <= sequences; ++i)
    first.push_back(static_cast<std::int32_t>(i));
  const std::vector<std::int32_t> contexts(static_cast<std::size_t>(sequences), static_cast<std::int32_t>(context));
  const gpu::paged_tokens where{.slots = {},
                                .first = with.integers(first, {sequences + 1}),
                                .context = with.integers(contexts, {sequences}),
                                .blocks = with.integers(order, {sequences, pages})};
  const tensor_view q = with.noise(0, {sequences, queries, width});
  const tensor_view out = with.room({sequences, queries, width});
  const double moved = static_cast<double>(sequences * keys * heads * width) * 4;
  with.measure("paged_attention " + number(sequences) + " x 1 new, context " + number(context), limit::bytes, moved,
               [&](int turn) {
                 with.run().paged_attention(with.on(), q, with.noise(turn, {blocks, heads, 2, block_tokens, width}),
                                            where, 0.088F, out);
               });
}

void attention(card& with) {
  for (const std::int64_t context : {1023, 8191})
    for (const std::int64_t sequences : {1, 8, 32})
      paged(with, sequences, context);
  prompt(with, 2048, 0);
  prompt(with, 2048, 6144);
  prompt(with, 8192, 0);
  for (const std::int64_t tokens : {1024, 4096}) {
    const tensor_view joined = with.noise(0, {tokens, 3 * 16 * 72});
    const tensor_view out = with.room({tokens, 16, 72});
    const auto part = [&](std::int64_t i) { return joined.columns(i * 16 * 72, 16 * 72).split_last(16); };
    with.measure("attention " + number(tokens) + " x 16 x 72, a tower's", limit::operations,
                 4.0 * static_cast<double>(tokens * tokens * 16 * 72),
                 [&](int) { with.run().attention(with.on(), part(0), part(1), part(2), 0.118F, out); });
  }
}

} // namespace

int main(int count, char** arguments) {
  card with{count > 1 ? arguments[1] : ""};
  with.ceilings();
  products(with);
  rows(with);
  attention(with);
  return 0;
}
