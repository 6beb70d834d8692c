#include <algorithm>

#include "tests/gpu/cuda_twin.hpp"

// Every operation on a GPU against the CPU's, on the same numbers. What is compared is all of the memory that an output
// lies in, so that a write beside it is seen too.

using namespace troupe;
using namespace troupe::tests;
using gpu::element_kind;
using gpu::tensor_view;

TEST_CASE("CUDA: matmul gives the CPU's products of f32 and bf16 for odd sizes and strided views") {
  const device_pair on;
  if (!on)
    return;
  over_seeds([&](draws& from) {
    for (const auto& [n, k] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {5, 7}, {48, 32}, {67, 100}, {256, 512}})
      for (const std::int64_t m : {1, 2, 3, 8, 33, 130})
        for (const element_kind in : kinds)
          for (const element_kind to : kinds)
            for (const bool biased : {false, true}) {
              if (in == element_kind::f32 && to == element_kind::bf16)
                continue; // f32 is computed to stay f32
              CAPTURE(m);
              CAPTURE(n);
              CAPTURE(k);
              CAPTURE(name(in));
              CAPTURE(name(to));
              CAPTURE(biased);
              const twin x{on, in, {m, k + 8}, from.uniform()};
              const twin weight{on, in, {n, k}, from.uniform()};
              const twin bias{on, to, {n, 1}, from.uniform()};
              const twin out{on, to, {m, n + 3}, from.uniform()};
              on.cpu->matmul(*on.on_cpu, x.cpu.columns(8, k), weight.cpu, biased ? bias.cpu : tensor_view{},
                             out.cpu.columns(1, n));
              on.cuda->matmul(*on.on_cuda, x.cuda.columns(8, k), weight.cuda, biased ? bias.cuda : tensor_view{},
                              out.cuda.columns(1, n));
              CHECK(out.error() < out.tolerance());
            }
  });
}

TEST_CASE("CUDA: rms_norm and layer_norm give the CPU's rows of any width and of heads and in place") {
  const device_pair on;
  if (!on)
    return;
  over_seeds([&](draws& from) {
    for (const std::int64_t width : {1, 3, 32, 80, 128, 576, 1001, 4096})
      for (const element_kind in : kinds)
        for (const element_kind to : kinds) {
          CAPTURE(width);
          CAPTURE(name(in));
          CAPTURE(name(to));
          const twin weight{on, element_kind::f32, {width}, from.uniform()};
          const twin bias{on, element_kind::f32, {width}, from.uniform()};
          const twin joined{on, in, {9, 2 * width + 8}, from.uniform(-1.0, 3.0)};
          const auto heads = [&](const tensor_view& view) { return view.columns(8, 2 * width).split_last(2); };
          const twin rms{on, to, {9, 2, width}, from.uniform()};
          const twin centred{on, to, {9, 2, width}, from.uniform()};
          on.cpu->rms_norm(*on.on_cpu, heads(joined.cpu), weight.cpu, 1e-6F, rms.cpu);
          on.cuda->rms_norm(*on.on_cuda, heads(joined.cuda), weight.cuda, 1e-6F, rms.cuda);
          CHECK(rms.error() < rms.tolerance());
          on.cpu->layer_norm(*on.on_cpu, heads(joined.cpu), weight.cpu, bias.cpu, 1e-6F, centred.cpu);
          on.cuda->layer_norm(*on.on_cuda, heads(joined.cuda), weight.cuda, bias.cuda, 1e-6F, centred.cuda);
          CHECK(centred.error() < centred.tolerance());
          on.cpu->rms_norm(*on.on_cpu, heads(joined.cpu), weight.cpu, 1e-6F, heads(joined.cpu));
          on.cuda->rms_norm(*on.on_cuda, heads(joined.cuda), weight.cuda, 1e-6F, heads(joined.cuda));
          CHECK(joined.error() < joined.tolerance());
        }
  });
}

TEST_CASE("CUDA: gelu and silu_mul and add and copy give the CPU's elements of either kind") {
  const device_pair on;
  if (!on)
    return;
  over_seeds([&](draws& from) {
    for (const std::int64_t width : {1, 15, 16, 50, 1536})
      for (const std::int64_t rows : {1, 7, 300})
        for (const element_kind kind : kinds) {
          CAPTURE(width);
          CAPTURE(rows);
          CAPTURE(name(kind));
          const twin by_tanh{on, kind, {rows, width}, from.uniform(-30.0, 30.0)};
          const twin by_erf{on, kind, {rows, width}, from.uniform(-30.0, 30.0)};
          const twin gate_up{on, kind, {rows, 2 * width}, from.uniform(-100.0, 100.0)};
          const twin product{on, kind, {rows, width}, from.uniform()};
          on.cpu->gelu(*on.on_cpu, by_tanh.cpu, gpu::gelu_kind::tanh);
          on.cuda->gelu(*on.on_cuda, by_tanh.cuda, gpu::gelu_kind::tanh);
          on.cpu->gelu(*on.on_cpu, by_erf.cpu, gpu::gelu_kind::erf);
          on.cuda->gelu(*on.on_cuda, by_erf.cuda, gpu::gelu_kind::erf);
          on.cpu->silu_mul(*on.on_cpu, gate_up.cpu, product.cpu);
          on.cuda->silu_mul(*on.on_cuda, gate_up.cuda, product.cuda);
          CHECK(by_tanh.error() < by_tanh.tolerance());
          CHECK(by_erf.error() < by_erf.tolerance());
          CHECK(product.error() < product.tolerance());
          for (const element_kind other : kinds) {
            CAPTURE(name(other));
            const twin wide{on, other, {rows, width + 8}, from.uniform()};
            on.cpu->copy(*on.on_cpu, product.cpu, wide.cpu.columns(8, width));
            on.cuda->copy(*on.on_cuda, product.cuda, wide.cuda.columns(8, width));
            on.cpu->add(*on.on_cpu, wide.cpu.columns(0, width), by_erf.cpu);
            on.cuda->add(*on.on_cuda, wide.cuda.columns(0, width), by_erf.cuda);
            CHECK(wide.error() < std::max(wide.tolerance(), product.tolerance()));
          }
        }
  });
}

TEST_CASE("CUDA: gather and add_weighted take the CPU's rows of tables of either kind") {
  const device_pair on;
  if (!on)
    return;
  over_seeds([&](draws& from) {
    for (const std::int64_t width : {1, 16, 37, 2048})
      for (const element_kind table_kind : kinds)
        for (const element_kind to_kind : kinds) {
          CAPTURE(width);
          CAPTURE(name(table_kind));
          CAPTURE(name(to_kind));
          const twin table{on, table_kind, {50, width}, from.uniform()};
          const twin index{on, element_kind::i32, {40}, from.below(50)};
          const twin corners{on, element_kind::i32, {40, 4}, from.below(50)};
          const twin weights{on, element_kind::f32, {40, 4}, from.uniform()};
          const twin wide{on, to_kind, {40, width + 8}, from.uniform()};
          on.cpu->gather(*on.on_cpu, table.cpu, index.cpu, wide.cpu.columns(8, width));
          on.cuda->gather(*on.on_cuda, table.cuda, index.cuda, wide.cuda.columns(8, width));
          CHECK(wide.error() < wide.tolerance());
          on.cpu->add_weighted(*on.on_cpu, table.cpu, corners.cpu, weights.cpu, wide.cpu.columns(8, width));
          on.cuda->add_weighted(*on.on_cuda, table.cuda, corners.cuda, weights.cuda, wide.cuda.columns(8, width));
          CHECK(wide.error() < wide.tolerance());
        }
  });
}

TEST_CASE("CUDA: a checksum is the CPU's to the bit, whatever its length (G9)") {
  const device_pair on;
  if (!on)
    return;
  over_seeds([&](draws& from) {
    for (const std::int64_t count : {1, 31, 1000, 300'001}) {
      CAPTURE(count);
      const twin words{on, element_kind::f32, {count, 3}, from.uniform()};
      const twin sum{on, element_kind::i32, {1}, from.below(1000)};
      on.cpu->checksum(*on.on_cpu, words.cpu, sum.cpu);
      on.cuda->checksum(*on.on_cuda, words.cuda, sum.cuda);
      std::int32_t found = 0;
      on.cuda->download(*on.on_cuda, sum.cuda, std::as_writable_bytes(std::span{&found, 1}));
      REQUIRE(on.on_cuda->synchronize());
      CHECK(found == *sum.cpu.i32());
    }
  });
}

TEST_CASE("CUDA: upload_published gives the CPU's numbers at any alignment and out of the middle of rows") {
  const device_pair on;
  if (!on)
    return;
  over_seeds([&](draws& from) {
    const auto draw = from.below(256);
    std::vector<std::byte> file(300 * 130 * 4 + 8);
    for (std::byte& each : file) // exponents are kept small: what is no number would differ from itself
      each = static_cast<std::byte>(static_cast<int>(draw()) & 0x3f);
    for (const std::size_t offset : {0U, 1U, 4U})
      for (const auto published : {gpu::published_kind::f32, gpu::published_kind::bf16})
        for (const element_kind kind : kinds) {
          CAPTURE(offset);
          CAPTURE(name(kind));
          const std::int64_t bytes = published == gpu::published_kind::f32 ? 4 : 2;
          const twin to{on, kind, {300, 101}, from.uniform()};
          const gpu::published_slice slice{file.data() + offset, published, 290, 101, 130 * bytes};
          on.cpu->upload_published(*on.on_cpu, slice, to.cpu.rows(4, 290));
          on.cuda->upload_published(*on.on_cuda, slice, to.cuda.rows(4, 290));
          CHECK(to.error() == 0.0);
        }
  });
}

TEST_CASE("CUDA: rotate turns the CPU's pairs for head sizes 32 to 128 and odd ones") {
  const device_pair on;
  if (!on)
    return;
  over_seeds([&](draws& from) {
    for (const std::int64_t width : {2, 32, 40, 64, 80, 96, 128})
      for (const element_kind kind : kinds) {
        CAPTURE(width);
        CAPTURE(name(kind));
        const twin joined{on, kind, {33, 5 * width}, from.uniform()};
        const twin cos{on, element_kind::f32, {33, width / 2}, from.uniform(-1.0, 1.0)};
        const twin sin{on, element_kind::f32, {33, width / 2}, from.uniform(-1.0, 1.0)};
        const auto heads = [&](const tensor_view& view) { return view.columns(width, 3 * width).split_last(3); };
        on.cpu->rotate(*on.on_cpu, heads(joined.cpu), cos.cpu, sin.cpu);
        on.cuda->rotate(*on.on_cuda, heads(joined.cuda), cos.cuda, sin.cuda);
        CHECK(joined.error() < joined.tolerance());
      }
  });
}

TEST_CASE("CUDA: attention over all tokens gives the CPU's for head sizes 4 to 128") {
  const device_pair on;
  if (!on)
    return;
  over_seeds([&](draws& from) {
    for (const std::int64_t tokens : {1, 7, 64, 65, 130, 513})
      for (const std::int64_t width : {4, 24, 32, 64, 72, 80, 96, 128})
        for (const element_kind kind : kinds) {
          CAPTURE(tokens);
          CAPTURE(width);
          CAPTURE(name(kind));
          const twin joined{on, kind, {tokens, 6 * width}, from.uniform()};
          const twin out{on, kind, {tokens, 2, width}, from.uniform()};
          const auto part = [&](const tensor_view& view, std::int64_t i) {
            return view.columns(i * 2 * width, 2 * width).split_last(2);
          };
          on.cpu->attention(*on.on_cpu, part(joined.cpu, 0), part(joined.cpu, 1), part(joined.cpu, 2), 0.2F, out.cpu);
          on.cuda->attention(*on.on_cuda, part(joined.cuda, 0), part(joined.cuda, 1), part(joined.cuda, 2), 0.2F,
                             out.cuda);
          CHECK(out.error() < out.tolerance());
        }
  });
}

namespace {

/// A step over sequences with a history: what they stored before is random.
struct paged_case {
  std::int64_t group = 1;
  std::int64_t width = 32;
  element_kind kind = element_kind::f32;
  std::vector<std::int32_t> context; ///< of each sequence
  std::vector<std::int32_t> fresh;   ///< new tokens of each
  bool nothing_before = false;       ///< no context, and no numbers in the pool where nothing was stored
  bool in_one = false;               ///< heads are normed and turned too, by the operation that does all of it
};

/// Error of the answers and of the pool.
void check_paged(const device_pair& on, draws& from, const paged_case& what) {
  constexpr std::int32_t block_tokens = 16;
  constexpr std::int64_t kv_heads = 2;
  const auto pages = [&](std::size_t s) { return (what.context[s] + what.fresh[s] + block_tokens - 1) / block_tokens; };
  const auto sequences = static_cast<std::int64_t>(what.context.size());
  std::int32_t blocks = 3;
  std::int32_t most = 2;
  for (std::size_t s = 0; s < what.context.size(); ++s) {
    blocks += pages(s);
    most = std::max(most, pages(s) + 1);
  }
  std::vector<std::int32_t> order(static_cast<std::size_t>(blocks));
  for (std::int32_t i = 0; i < blocks; ++i)
    order[static_cast<std::size_t>(i)] = i;
  std::shuffle(order.begin(), order.end(), from.from);

  std::vector<std::int32_t> table(static_cast<std::size_t>(sequences * most), 0), slots, first{0};
  for (std::size_t s = 0, next = 0; s < what.context.size(); ++s) {
    std::int32_t* const row = table.data() + s * static_cast<std::size_t>(most);
    for (std::int32_t page = 0; page < pages(s); ++page)
      row[page] = order[next++];
    for (std::int32_t t = what.context[s]; t < what.context[s] + what.fresh[s]; ++t)
      slots.push_back(row[t / block_tokens] * block_tokens + t % block_tokens);
    first.push_back(static_cast<std::int32_t>(slots.size()));
  }

  // Given two layers in the pool, of which the second is used.
  const std::int64_t run = 2 * block_tokens * what.width;
  const auto tokens = static_cast<std::int64_t>(slots.size());
  const std::function<double()> before =
      what.nothing_before ? [] { return std::numeric_limits<double>::quiet_NaN(); } : from.uniform();
  const twin memory{on, what.kind, {blocks, kv_heads, 2, run}, before};
  const auto pool = [&](const tensor_view& whole) {
    return tensor_view{static_cast<std::byte*>(whole.data()) +
                           run * static_cast<std::int64_t>(gpu::bytes_of(what.kind)),
                       what.kind,
                       whole.device(),
                       {blocks, kv_heads, 2, block_tokens, what.width}}
        .with_stride(0, kv_heads * 2 * run)
        .with_stride(1, 2 * run);
  };
  const twin joined{on, what.kind, {tokens, kv_heads * (what.group + 2) * what.width}, from.uniform()};
  const twin out{on, what.kind, {tokens, kv_heads * what.group, what.width}, from.uniform()};
  const twin at_slots{on, element_kind::i32, {tokens}, each_of(slots)};
  const twin starts{on, element_kind::i32, {sequences + 1}, each_of(first)};
  const twin contexts{on, element_kind::i32, {sequences}, each_of(what.context)};
  const twin where{on, element_kind::i32, {sequences, most}, each_of(table)};

  const twin query_norm{on, element_kind::f32, {what.width}, from.uniform(0.5, 1.5)};
  const twin key_norm{on, element_kind::f32, {what.width}, from.uniform(0.5, 1.5)};
  const twin cos{on, element_kind::f32, {tokens, what.width / 2}, from.uniform(-1.0, 1.0)};
  const twin sin{on, element_kind::f32, {tokens, what.width / 2}, from.uniform(-1.0, 1.0)};

  // When both devices store the new tokens and let them attend.
  const auto step = [&](const gpu::operations& run_on, gpu::stream& queue, tensor_view twin::*side) {
    const gpu::paged_tokens at{at_slots.*side, starts.*side, contexts.*side, where.*side};
    if (what.in_one)
      return run_on.attend_new(queue, {joined.*side, query_norm.*side, key_norm.*side, 1e-6F, cos.*side, sin.*side},
                               pool(memory.*side), at, 0.2F, out.*side);
    const auto heads = [&](std::int64_t first_head, std::int64_t count) {
      return (joined.*side).columns(first_head * what.width, count * what.width).split_last(count);
    };
    const std::int64_t queries = kv_heads * what.group;
    run_on.store_kv(queue, heads(queries, kv_heads), heads(queries + kv_heads, kv_heads), at_slots.*side,
                    pool(memory.*side));
    run_on.paged_attention(queue, heads(0, queries), pool(memory.*side), at, 0.2F, out.*side);
  };
  step(*on.cpu, *on.on_cpu, &twin::cpu);
  step(*on.cuda, *on.on_cuda, &twin::cuda);

  // Then they have the same answers and the same pool.
  CAPTURE(what.group);
  CAPTURE(what.width);
  CAPTURE(name(what.kind));
  const bool twice_rounded = what.in_one && what.kind == element_kind::bf16;
  CHECK(out.error() < (twice_rounded ? 3 : 1) * out.tolerance());
  if (what.in_one)
    CHECK(memory.error() < (twice_rounded ? 1e-3 : 1e-5));
  else if (!what.nothing_before)
    CHECK(memory.error() == 0.0);
}

} // namespace

TEST_CASE("CUDA: decode attention gives the CPU's for context 1 to 8k and every group") {
  const device_pair on;
  if (!on)
    return;
  over_seeds([&](draws& from) {
    for (const element_kind kind : kinds) {
      for (const std::int64_t width : {4, 24, 32, 64, 80, 96, 128})
        for (const std::int64_t group : {1, 3, 4, 5, 8, 12})
          check_paged(on, from, {group, width, kind, {0, 14, 15, 16, 40, 300}, {1, 1, 1, 1, 1, 1}});
      for (const std::int32_t context : {1, 100, 1023, 8191})
        check_paged(on, from, {4, 128, kind, {context}, {1}});
      check_paged(on, from, {2, 64, kind, std::vector<std::int32_t>(64, 77), std::vector<std::int32_t>(64, 1)});
    }
  });
}

TEST_CASE("CUDA: chunks of prompts and decode steps in one batch give the CPU's answers") {
  const device_pair on;
  if (!on)
    return;
  over_seeds([&](draws& from) {
    for (const element_kind kind : kinds)
      for (const std::int64_t width : {6, 32, 64, 80, 96, 128})
        for (const std::int64_t group : {1, 3, 4}) {
          check_paged(on, from, {group, width, kind, {0, 5, 16, 40, 700}, {20, 1, 3, 70, 1}});
          check_paged(on, from, {group, width, kind, {0}, {130}});
          check_paged(on, from, {group, width, kind, {1000}, {64}});
        }
  });
}

TEST_CASE("CUDA: prompts around the sizes of tiles give the CPU's answers, whatever lies beyond their keys") {
  const device_pair on;
  if (!on)
    return;
  over_seeds([&](draws& from) {
    for (const element_kind kind : kinds)
      for (const std::int64_t width : {32, 64, 72, 80, 128}) {
        for (const std::int64_t group : {1, 4}) {
          check_paged(on, from, {group, width, kind, {0, 1, 127, 128}, {127, 128, 129, 257}});
          check_paged(on, from, {group, width, kind, {0, 0, 0}, {2, 131, 64}, true});
        }
        check_paged(on, from, {8, width, kind, {333}, {300}});
      }
  });
}

TEST_CASE("CUDA: a layer's attention of many new tokens in one gives the CPU's, and the same pool") {
  const device_pair on;
  if (!on)
    return;
  over_seeds([&](draws& from) {
    for (const element_kind kind : kinds)
      for (const std::int64_t width : {6, 32, 64, 80, 128})
        for (const std::int64_t group : {1, 3, 4})
          check_paged(on, from, {group, width, kind, {0, 5, 130}, {20, 1, 70}, false, true});
  });
}

TEST_CASE("CUDA: what cannot be had is refused with what is there") {
  const device_pair on;
  if (!on)
    return;
  const auto memory = on.cuda->allocate(std::size_t{1} << 46);
  REQUIRE_FALSE(memory);
  CHECK(memory.error().code == protocols::fault::no_memory);
  CHECK(memory.error().what.find("free of") != std::string::npos);
  REQUIRE(on.on_cuda->synchronize());

  const auto unknown = gpu::open_operations("cuda:99", 1);
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code == protocols::fault::config_invalid);
  CHECK(unknown.error().what.find("device cuda:99 is not there; valid here: cuda:0") != std::string::npos);
}

TEST_CASE("CUDA: an error of the device comes out of synchronize with the call and stays") {
  // Its context ends with it: nothing else may run in this process.
  const device_pair on;
  if (!on)
    return;
  draws from{1};
  const twin table{on, element_kind::f32, {4, 8}, from.uniform()};
  const twin out{on, element_kind::f32, {1, 8}, from.uniform()};
  const std::vector<std::int32_t> beyond{4};
  const twin index{on, element_kind::i32, {1}, each_of(beyond)};
  on.on_cuda->mark("gather", 1);
  REQUIRE(on.on_cuda->synchronize());
  on.cuda->gather(*on.on_cuda, table.cuda, index.cuda, out.cuda);
  const auto first = on.on_cuda->synchronize();
  REQUIRE_FALSE(first);
  CHECK(first.error().code == protocols::fault::executor_failed);
  CHECK(first.error().what.find("cuda:0 cudaEventQuery: cudaError") == 0);
  CHECK(first.error().what.ends_with(", past gather 1"));
  CHECK(on.on_cuda->synchronize().error() == first.error());
}
