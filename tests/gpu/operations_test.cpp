#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <numbers>
#include <random>
#include <span>
#include <vector>

#include <doctest/doctest.h>

#include "gpu/cpu/cpu_operations.hpp"
#include "gpu/cpu/kernels.hpp"
#include "gpu/cpu/threads.hpp"

// Every operation against the same thing written as a loop in double precision.

using namespace troupe;
using gpu::element_kind;
using gpu::tensor_view;

namespace {

/// Numbers of a seed, as a tensor and as what the oracle reads.
class numbers {
public:
  numbers(std::mt19937& from, std::initializer_list<std::int64_t> shape, float low = -2.0F, float high = 2.0F) {
    std::int64_t count = 1;
    for (const std::int64_t each : shape)
      count *= each;
    std::uniform_real_distribution<float> draw{low, high};
    for (std::int64_t i = 0; i < count; ++i)
      values_.push_back(draw(from));
    view = tensor_view{values_.data(), element_kind::f32, gpu::device_kind::cpu, shape};
  }
  numbers(const numbers&) = delete;
  numbers& operator=(const numbers&) = delete;
  double operator[](std::int64_t i) const { return values_[static_cast<std::size_t>(i)]; }

  tensor_view view;

private:
  std::vector<float> values_;
};

struct integers {
  explicit integers(std::vector<std::int32_t> from, std::initializer_list<std::int64_t> shape)
      : values(std::move(from)), view{values.data(), element_kind::i32, gpu::device_kind::cpu, shape} {}
  std::vector<std::int32_t> values;
  tensor_view view;
};

struct bench {
  std::shared_ptr<const gpu::operations> run = gpu::cpu::make_operations();
  std::unique_ptr<gpu::stream> on = run->make_stream();
};

void check_close(float actual, double expected) {
  if (std::abs(actual - expected) > 2e-5 * std::max(1.0, std::abs(expected)))
    CHECK(actual == doctest::Approx(expected));
}

/// Calls `body` with generators of several seeds; a failure names its seed.
void over_seeds(const std::function<void(std::mt19937&)>& body) {
  for (const unsigned seed : {1U, 2U, 3U}) {
    CAPTURE(seed);
    std::mt19937 from{seed};
    body(from);
  }
}

float at(const tensor_view& view, std::int64_t i, std::int64_t j) {
  return view.f32()[i * view.stride(0) + j];
}
float at(const tensor_view& view, std::int64_t i, std::int64_t j, std::int64_t k) {
  return view.f32()[i * view.stride(0) + j * view.stride(1) + k];
}

/// softmax(scale x q . k) . v for one query over the keys that `seen` allows.
std::vector<double> attend(std::span<const double> q, const std::vector<std::vector<double>>& k,
                           const std::vector<std::vector<double>>& v, double scale) {
  std::vector<double> scores;
  for (const auto& key : k) {
    double score = 0.0;
    for (std::size_t i = 0; i < q.size(); ++i)
      score += q[i] * key[i];
    scores.push_back(std::exp(score * scale));
  }
  double total = 0.0;
  for (const double each : scores)
    total += each;
  std::vector<double> out(q.size());
  for (std::size_t j = 0; j < k.size(); ++j)
    for (std::size_t i = 0; i < q.size(); ++i)
      out[i] += scores[j] / total * v[j][i];
  return out;
}

std::vector<double> row_of(const tensor_view& heads, std::int64_t token, std::int64_t head) {
  std::vector<double> row;
  for (std::int64_t i = 0; i < heads.shape(2); ++i)
    row.push_back(at(heads, token, head, i));
  return row;
}

} // namespace

TEST_CASE("matmul is x times weight transposed plus bias, for few and many rows and strided views") {
  bench b;
  over_seeds([&](std::mt19937& from) {
    for (const std::int64_t m : {1, 2, 3, 5, 8, 9, 33})
      for (const auto& [n, k] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {5, 7}, {48, 32}, {67, 100}})
        for (const bool biased : {false, true}) {
          CAPTURE(m);
          CAPTURE(n);
          CAPTURE(k);
          const numbers x{from, {m, k + 3}};
          const numbers weight{from, {n, k}};
          const numbers bias{from, {n, 1}};
          const numbers out{from, {m, n + 2}};
          const tensor_view to = out.view.columns(1, n);
          b.run->matmul(*b.on, x.view.columns(2, k), weight.view, biased ? bias.view : tensor_view{}, to);
          for (std::int64_t i = 0; i < m; ++i)
            for (std::int64_t j = 0; j < n; ++j) {
              double expected = biased ? bias[j] : 0.0;
              for (std::int64_t l = 0; l < k; ++l)
                expected += x[i * (k + 3) + 2 + l] * weight[j * k + l];
              check_close(at(to, i, j), expected);
            }
        }
  });
}

TEST_CASE("a product gives the same on one thread and on two") {
  bench b;
  std::mt19937 from{4};
  const numbers x{from, {200, 64}};
  const numbers weight{from, {96, 64}};
  const numbers one{from, {200, 96}};
  const numbers two{from, {200, 96}};
  b.run->matmul(*b.on, x.view, weight.view, {}, one.view);
  gpu::cpu::set_threads(2);
  b.run->matmul(*b.on, x.view, weight.view, {}, two.view);
  gpu::cpu::set_threads(1);
  for (std::int64_t i = 0; i < one.view.elements(); ++i)
    check_close(two.view.f32()[i], one[i]);
}

TEST_CASE("rms_norm and layer_norm normalise each row, of heads too, in place too") {
  bench b;
  over_seeds([&](std::mt19937& from) {
    for (const std::int64_t width : {1, 3, 16, 32, 100}) {
      CAPTURE(width);
      const numbers weight{from, {width}};
      const numbers bias{from, {width}};
      const numbers joined{from, {5, 2 * width + 4}};
      const tensor_view heads = joined.view.columns(3, 2 * width).split_last(2);
      const numbers rms{from, {5, 2, width}};
      b.run->rms_norm(*b.on, heads, weight.view, 1e-6F, rms.view);
      std::vector<double> centred;
      for (std::int64_t i = 0; i < 5; ++i)
        for (std::int64_t j = 0; j < 2; ++j) {
          double squares = 0.0;
          double mean = 0.0;
          for (std::int64_t l = 0; l < width; ++l) {
            squares += std::pow(at(heads, i, j, l), 2) / static_cast<double>(width);
            mean += at(heads, i, j, l) / static_cast<double>(width);
          }
          double variance = 0.0;
          for (std::int64_t l = 0; l < width; ++l)
            variance += std::pow(at(heads, i, j, l) - mean, 2) / static_cast<double>(width);
          for (std::int64_t l = 0; l < width; ++l) {
            check_close(at(rms.view, i, j, l), at(heads, i, j, l) / std::sqrt(squares + 1e-6) * weight[l]);
            centred.push_back((at(heads, i, j, l) - mean) / std::sqrt(variance + 1e-6) * weight[l] + bias[l]);
          }
        }
      b.run->layer_norm(*b.on, heads, weight.view, bias.view, 1e-6F, heads);
      std::size_t next = 0;
      for (std::int64_t i = 0; i < 5; ++i)
        for (std::int64_t j = 0; j < 2; ++j)
          for (std::int64_t l = 0; l < width; ++l)
            check_close(at(heads, i, j, l), centred[next++]);
    }
  });
}

TEST_CASE("gelu and silu are the published functions, far from zero too") {
  bench b;
  over_seeds([&](std::mt19937& from) {
    for (const std::int64_t width : {1, 15, 16, 50}) {
      CAPTURE(width);
      const numbers x{from, {4, width}, -30.0F, 30.0F};
      const numbers with_tanh{from, {4, width}};
      const numbers with_erf{from, {4, width}};
      b.run->copy(*b.on, x.view, with_tanh.view);
      b.run->copy(*b.on, x.view, with_erf.view);
      b.run->gelu(*b.on, with_tanh.view, gpu::gelu_kind::tanh);
      b.run->gelu(*b.on, with_erf.view, gpu::gelu_kind::erf);
      const numbers gate_up{from, {4, 2 * width}, -100.0F, 100.0F};
      const numbers product{from, {4, width}};
      b.run->silu_mul(*b.on, gate_up.view, product.view);
      for (std::int64_t i = 0; i < 4; ++i)
        for (std::int64_t j = 0; j < width; ++j) {
          const double v = x[i * width + j];
          check_close(at(with_tanh.view, i, j),
                      v / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (v + 0.044715 * v * v * v))));
          check_close(at(with_erf.view, i, j), v / 2 * (1 + std::erf(v / std::sqrt(2.0))));
          const double gate = gate_up[i * 2 * width + j];
          check_close(at(product.view, i, j), gate / (1 + std::exp(-gate)) * gate_up[i * 2 * width + width + j]);
        }
    }
  });
}

TEST_CASE(
    "G9: a checksum goes on from what was there, and changes with any bit and with any two words that trade places") {
  bench b;
  over_seeds([&](std::mt19937& from) {
    const numbers words{from, {7, 13}};
    const auto sum = [&](std::int32_t start) {
      const integers into{{start}, {1}};
      b.run->checksum(*b.on, words.view, into.view);
      return into.values[0];
    };
    const auto before = sum(0);
    CHECK(sum(5) == before + 5);
    float& one = words.view.f32()[20];
    const float was = one;
    one = std::nextafter(one, 1000.0F);
    CHECK(sum(0) != before);
    one = was;
    std::swap(one, words.view.f32()[60]);
    CHECK(sum(0) != before);
  });
}

TEST_CASE("copy, add, gather and add_weighted move rows between strided views") {
  bench b;
  over_seeds([&](std::mt19937& from) {
    for (const std::int64_t width : {1, 16, 37}) {
      CAPTURE(width);
      const numbers table{from, {6, width}};
      const numbers wide{from, {4, width + 5}};
      const tensor_view to = wide.view.columns(5, width);
      const integers index{{5, 0, 3, 3}, {4}};
      b.run->gather(*b.on, table.view, index.view, to);
      b.run->add(*b.on, to, table.view.rows(1, 4));
      const integers corners{{0, 1, 2, 3, 4, 5, 0, 0}, {4, 2}};
      const numbers weights{from, {4, 2}};
      b.run->add_weighted(*b.on, table.view, corners.view, weights.view, to);
      for (std::int64_t i = 0; i < 4; ++i)
        for (std::int64_t j = 0; j < width; ++j) {
          double expected = table[index.values[static_cast<std::size_t>(i)] * width + j] + table[(i + 1) * width + j];
          for (std::int64_t c = 0; c < 2; ++c)
            expected += weights[2 * i + c] * table[corners.values[static_cast<std::size_t>(2 * i + c)] * width + j];
          check_close(at(to, i, j), expected);
        }
    }
  });
}

TEST_CASE("upload_published widens bf16 exactly, at any alignment and out of the middle of rows") {
  bench b;
  const std::vector<float> values{1.0F, -2.5F, 0.0F, 3.140625F, -0x1p100F, 65280.0F};
  for (const std::size_t offset : {0U, 1U, 3U}) {
    CAPTURE(offset);
    std::vector<std::byte> file(offset + values.size() * 2);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto high = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(values[i]) >> 16);
      std::memcpy(file.data() + offset + 2 * i, &high, 2);
    }
    std::mt19937 unused{0};
    const numbers to{unused, {2, 2}};
    b.run->upload_published(*b.on, {file.data() + offset + 2, gpu::published_kind::bf16, 2, 2, 6}, to.view);
    CHECK(at(to.view, 0, 0) == values[1]);
    CHECK(at(to.view, 0, 1) == values[2]);
    CHECK(at(to.view, 1, 0) == values[4]);
    CHECK(at(to.view, 1, 1) == values[5]);
  }
}

TEST_CASE("rotate turns pairs half a head apart by each token's angles") {
  bench b;
  over_seeds([&](std::mt19937& from) {
    for (const std::int64_t half : {1, 8, 16, 20}) {
      CAPTURE(half);
      const numbers heads{from, {3, 2, 2 * half}};
      const std::vector<float> kept(heads.view.f32(), heads.view.f32() + heads.view.elements());
      const numbers cos{from, {3, half}};
      const numbers sin{from, {3, half}};
      b.run->rotate(*b.on, heads.view, cos.view, sin.view);
      for (std::int64_t t = 0; t < 3; ++t)
        for (std::int64_t h = 0; h < 2; ++h)
          for (std::int64_t i = 0; i < half; ++i) {
            const double low = kept[static_cast<std::size_t>((t * 2 + h) * 2 * half + i)];
            const double high = kept[static_cast<std::size_t>((t * 2 + h) * 2 * half + half + i)];
            check_close(at(heads.view, t, h, i), low * cos[t * half + i] - high * sin[t * half + i]);
            check_close(at(heads.view, t, h, half + i), high * cos[t * half + i] + low * sin[t * half + i]);
          }
    }
  });
}

TEST_CASE("attention lets every token see every token") {
  bench b;
  over_seeds([&](std::mt19937& from) {
    for (const std::int64_t tokens : {1, 7, 65, 130})
      for (const std::int64_t width : {4, 32, 24}) {
        CAPTURE(tokens);
        CAPTURE(width);
        const numbers joined{from, {tokens, 3 * 2 * width}};
        const auto part = [&](std::int64_t i) { return joined.view.columns(i * 2 * width, 2 * width).split_last(2); };
        const numbers out{from, {tokens, 2, width}};
        b.run->attention(*b.on, part(0), part(1), part(2), 0.3F, out.view);
        for (std::int64_t head = 0; head < 2; ++head) {
          std::vector<std::vector<double>> k, v;
          for (std::int64_t t = 0; t < tokens; ++t) {
            k.push_back(row_of(part(1), t, head));
            v.push_back(row_of(part(2), t, head));
          }
          for (std::int64_t t = 0; t < tokens; t += 3) {
            const auto expected = attend(row_of(part(0), t, head), k, v, 0.3F);
            for (std::int64_t i = 0; i < width; ++i)
              check_close(at(out.view, t, head, i), expected[static_cast<std::size_t>(i)]);
          }
        }
      }
  });
}

TEST_CASE("paged attention sees what store_kv wrote, each token up to itself, whatever the blocks' order") {
  bench b;
  over_seeds([&](std::mt19937& from) {
    constexpr std::int64_t block_tokens = 16;
    constexpr std::int64_t blocks = 24;
    for (const std::int64_t group : {1, 2, 3, 4})
      for (const std::int64_t width : {6, 32}) {
        CAPTURE(group);
        CAPTURE(width);
        const std::int64_t kv_heads = 2;
        // Given a pool of two layers, of which the second is used, and sequences with a history of 0, 5, 16 and 40.
        const numbers memory{from, {blocks * kv_heads * 2 * 2, block_tokens * width}};
        const std::int64_t run = 2 * block_tokens * width;
        const tensor_view pool = tensor_view{memory.view.f32() + run,
                                             element_kind::f32,
                                             gpu::device_kind::cpu,
                                             {blocks, kv_heads, 2, block_tokens, width}}
                                     .with_stride(0, kv_heads * 2 * run)
                                     .with_stride(1, 2 * run);
        const std::vector<std::int32_t> histories{0, 5, 16, 40};
        const std::vector<std::int32_t> fresh{20, 1, 3, 70};
        std::vector<std::int32_t> order;
        for (std::int32_t i = 0; i < blocks; ++i)
          order.push_back(i);
        std::shuffle(order.begin(), order.end(), from);

        // When the history is stored and then the new tokens attend.
        std::vector<std::int32_t> old_slots, slots, first{0}, table(4 * 7, 0);
        for (std::size_t s = 0, next = 0; s < 4; ++s) {
          for (std::int32_t j = 0; j * block_tokens < histories[s] + fresh[s]; ++j)
            table[s * 7 + static_cast<std::size_t>(j)] = order[next++];
          for (std::int32_t t = 0; t < histories[s] + fresh[s]; ++t)
            (t < histories[s] ? old_slots : slots)
                .push_back(static_cast<std::int32_t>(
                    table[s * 7 + static_cast<std::size_t>(t / block_tokens)] * block_tokens + t % block_tokens));
          first.push_back(static_cast<std::int32_t>(slots.size()));
        }
        const auto tokens = static_cast<std::int64_t>(slots.size());
        const auto old_tokens = static_cast<std::int64_t>(old_slots.size());
        const numbers q{from, {tokens, kv_heads * group, width}};
        const numbers k{from, {tokens, kv_heads, width}};
        const numbers v{from, {tokens, kv_heads, width}};
        const numbers old_k{from, {old_tokens, kv_heads, width}};
        const numbers old_v{from, {old_tokens, kv_heads, width}};
        const numbers out{from, {tokens, kv_heads * group, width}};
        const integers old_at{old_slots, {old_tokens}};
        const integers at_slots{slots, {tokens}};
        const integers starts{first, {5}};
        const integers contexts{histories, {4}};
        const integers where{table, {4, 7}};
        b.run->store_kv(*b.on, old_k.view, old_v.view, old_at.view, pool);
        b.run->store_kv(*b.on, k.view, v.view, at_slots.view, pool);
        b.run->paged_attention(*b.on, q.view, pool, {at_slots.view, starts.view, contexts.view, where.view}, 0.25F,
                               out.view);

        // Then each has seen its history and the new tokens up to itself.
        std::int64_t old_first = 0;
        for (std::size_t s = 0; s < 4; ++s) {
          for (std::int64_t head = 0; head < kv_heads * group; ++head) {
            std::vector<std::vector<double>> keys, values;
            for (std::int64_t t = 0; t < histories[s]; ++t) {
              keys.push_back(row_of(old_k.view, old_first + t, head / group));
              values.push_back(row_of(old_v.view, old_first + t, head / group));
            }
            for (std::int64_t t = first[s]; t < first[s + 1]; ++t) {
              keys.push_back(row_of(k.view, t, head / group));
              values.push_back(row_of(v.view, t, head / group));
              const auto expected = attend(row_of(q.view, t, head), keys, values, 0.25);
              for (std::int64_t i = 0; i < width; ++i)
                check_close(at(out.view, t, head, i), expected[static_cast<std::size_t>(i)]);
            }
          }
          old_first += histories[s];
        }
      }
  });
}

TEST_CASE("the kernels of every instruction set that this machine has agree with the baseline's") {
  namespace cpu = gpu::cpu;
  std::vector<const cpu::kernels*> sets;
#if defined(__x86_64__) && !defined(__clang__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    sets.push_back(&cpu::detail::avx2);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
    sets.push_back(&cpu::detail::avx512);
#endif
  over_seeds([&](std::mt19937& from) {
    for (const cpu::kernels* set : sets)
      for (const std::int64_t n : {1, 15, 16, 17, 64, 83}) {
        CAPTURE(set->name);
        CAPTURE(n);
        const numbers x{from, {4, n}};
        const numbers w{from, {7, n}};
        const numbers one{from, {4, 7}};
        const numbers two{from, {4, 7}};
        cpu::detail::baseline.dot_rows(x.view.f32(), n, 4, w.view.f32(), n, 7, n, one.view.f32(), 7);
        set->dot_rows(x.view.f32(), n, 4, w.view.f32(), n, 7, n, two.view.f32(), 7);
        for (std::int64_t i = 0; i < 28; ++i)
          check_close(two.view.f32()[i], one[i]);

        std::vector<float> base(x.view.f32(), x.view.f32() + n);
        std::vector<float> other = base;
        cpu::detail::baseline.softmax(base.data(), n, 0.5F);
        set->softmax(other.data(), n, 0.5F);
        for (std::size_t i = 0; i < base.size(); ++i)
          check_close(other[i], base[i]);
      }
  });
}
