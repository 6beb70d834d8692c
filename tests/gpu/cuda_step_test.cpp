#include <algorithm>
#include <numeric>

#include "gpu/models/rule_tables.hpp"
#include "gpu/not_finite.hpp"
#include "tests/gpu/cuda_twin.hpp"

// What a decode step is made of, on a GPU against the CPU's, on the same numbers.

using namespace troupe;
using namespace troupe::tests;
using gpu::element_kind;
using gpu::tensor_view;

namespace {

/// Rounded in between and again at the end.
constexpr double twice_rounded = 8e-3;

double tolerance_of(element_kind weight, const twin& out) {
  return weight == element_kind::bf16 ? twice_rounded : out.tolerance();
}

std::vector<std::int32_t> integers_of(const device_pair& on, const tensor_view& view) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(view.elements()));
  on.cuda->download(*on.on_cuda, view, std::as_writable_bytes(std::span{values}));
  if (auto done = on.on_cuda->synchronize(); !done)
    FAIL(protocols::to_string(done.error()));
  return values;
}
std::vector<std::int32_t> integers_of(const tensor_view& cpu) {
  return {cpu.i32(), cpu.i32() + cpu.elements()};
}
void check_integers(const device_pair& on, const twin& of) {
  CHECK(integers_of(on, of.cuda) == integers_of(of.cpu));
}

/// The tables of a running batch.
struct batch_twin {
  twin ids, context, capacity, shift, answered, temperature, top_p, seed, blocks;

  gpu::batch_rows on(tensor_view twin::*side) const {
    return {ids.*side,         context.*side, capacity.*side, shift.*side,  answered.*side,
            temperature.*side, top_p.*side,   seed.*side,     blocks.*side, {}};
  }
};

} // namespace

TEST_CASE("CUDA: products of few rows in one with what is before and behind them give the CPU's") {
  const device_pair on;
  if (!on)
    return;
  over_seeds([&](draws& from) {
    for (const auto& [n, k] : {std::pair<std::int64_t, std::int64_t>{8, 32},
                               {24, 64},
                               {20, 576},
                               {1064, 1024},
                               {300, 4096},
                               {72, 5120},
                               {16, 18944}})
      for (const std::int64_t m : {1, 2, 7, 8, 9, 16, 17, 40})
        for (const element_kind kind : kinds)
          for (const bool biased : {false, true}) {
            CAPTURE(n);
            CAPTURE(k);
            CAPTURE(m);
            CAPTURE(name(kind));
            CAPTURE(biased);
            const twin hidden{on, element_kind::f32, {m, k}, from.uniform(-1.0, 2.0)};
            const twin scale{on, element_kind::f32, {k}, from.uniform()};
            const twin x{on, kind, {m, k}, from.uniform()};
            const twin weight{on, kind, {2 * n, k}, from.uniform(-1.0, 1.0)};
            const twin bias{on, kind, {2 * n, 1}, from.uniform()};
            const twin wide_bias{on, element_kind::f32, {2 * n, 1}, from.uniform()};
            const twin out{on, kind, {m, 2 * n}, from.uniform()};
            const twin logits{on, element_kind::f32, {m, 2 * n}, from.uniform()};
            const twin activated{on, kind, {m, n}, from.uniform()};
            const twin sum{on, element_kind::f32, {m, 2 * n}, from.uniform(-50.0, 50.0)};
            const auto step = [&](const gpu::operations& run, gpu::stream& queue, tensor_view twin::*side) {
              const auto maybe = [&](const twin& of) { return biased ? of.*side : tensor_view{}; };
              const gpu::normed_rows normed{hidden.*side, scale.*side, 1e-6F};
              run.norm_matmul(queue, normed, weight.*side, maybe(bias), out.*side);
              run.norm_matmul(queue, normed, weight.*side, maybe(wide_bias), logits.*side);
              run.norm_matmul_silu(queue, normed, weight.*side, maybe(bias), activated.*side);
              run.matmul_add(queue, x.*side, weight.*side, maybe(wide_bias), sum.*side);
            };
            step(*on.cpu, *on.on_cpu, &twin::cpu);
            step(*on.cuda, *on.on_cuda, &twin::cuda);
            CHECK(out.error() < tolerance_of(kind, out));
            CHECK(logits.error() < tolerance_of(kind, logits));
            CHECK(activated.error() < 2 * tolerance_of(kind, activated));
            CHECK(sum.error() < 1e-5);
          }
  });
}

TEST_CASE("CUDA: products of several tiles a block give the CPU's, time after time") {
  const device_pair on;
  if (!on)
    return;
  draws from{3};
  constexpr std::int64_t n = 7000;
  constexpr std::int64_t k = 1056; // no whole number of pieces for each warp
  const twin weight{on, element_kind::bf16, {2 * n, k}, from.uniform(-1.0, 1.0)};
  for (const std::int64_t m : {1, 8, 16}) {
    CAPTURE(m);
    const twin hidden{on, element_kind::f32, {m, k}, from.uniform(-1.0, 2.0)};
    const twin scale{on, element_kind::f32, {k}, from.uniform()};
    const twin x{on, element_kind::bf16, {m, k}, from.uniform()};
    const twin out{on, element_kind::bf16, {m, 2 * n}, from.uniform()};
    const twin activated{on, element_kind::bf16, {m, n}, from.uniform()};
    const twin sum{on, element_kind::f32, {m, 2 * n}, from.uniform(-50.0, 50.0)};
    const auto step = [&](const gpu::operations& run, gpu::stream& queue, tensor_view twin::*side) {
      const gpu::normed_rows normed{hidden.*side, scale.*side, 1e-6F};
      run.norm_matmul(queue, normed, weight.*side, {}, out.*side);
      run.norm_matmul_silu(queue, normed, weight.*side, {}, activated.*side);
      run.matmul_add(queue, x.*side, weight.*side, {}, sum.*side);
    };
    for (int again = 0; again < 3; ++again) {
      step(*on.cuda, *on.on_cuda, &twin::cuda);
      step(*on.cpu, *on.on_cpu, &twin::cpu);
    }
    CHECK(out.error() < twice_rounded);
    CHECK(activated.error() < 2 * twice_rounded);
    CHECK(sum.error() < 1e-5);
  }
}

TEST_CASE("CUDA: a layer's attention in one gives the CPU's for every context and group, and the same pool") {
  const device_pair on;
  if (!on)
    return;
  constexpr std::int32_t block_tokens = 16;
  const auto check = [&](draws& from, std::int64_t group, std::int64_t width, element_kind kind, std::int64_t kv_heads,
                         bool normed, const std::vector<std::int32_t>& contexts) {
    CAPTURE(group);
    CAPTURE(width);
    CAPTURE(name(kind));
    CAPTURE(normed);
    CAPTURE(contexts.size());
    const auto rows = static_cast<std::int64_t>(contexts.size());
    const auto longest = *std::ranges::max_element(contexts);
    const std::int32_t most = longest / block_tokens + 2;
    std::vector<std::int32_t> table(static_cast<std::size_t>(rows * most));
    std::iota(table.begin(), table.end(), 0);
    std::ranges::shuffle(table, from.from);
    std::vector<std::int32_t> slots;
    std::vector<std::int32_t> first(contexts.size() + 1);
    std::iota(first.begin(), first.end(), 0);
    for (std::size_t row = 0; row < contexts.size(); ++row) {
      const std::int32_t context = contexts[row];
      slots.push_back(
          context < 0 ? -1
                      : table[row * static_cast<std::size_t>(most) + static_cast<std::size_t>(context / block_tokens)] *
                                block_tokens +
                            context % block_tokens);
    }
    const std::int64_t queries = kv_heads * group;
    const twin pool{on, kind, {rows * most, kv_heads, 2, block_tokens, width}, from.uniform()};
    const twin joined{on, kind, {rows, (queries + 2 * kv_heads) * width}, from.uniform()};
    const twin query_norm{on, element_kind::f32, {width}, from.uniform(0.5, 1.5)};
    const twin key_norm{on, element_kind::f32, {width}, from.uniform(0.5, 1.5)};
    const twin cos{on, element_kind::f32, {rows, width / 2}, from.uniform(-1.0, 1.0)};
    const twin sin{on, element_kind::f32, {rows, width / 2}, from.uniform(-1.0, 1.0)};
    const twin out{on, kind, {rows, queries, width}, from.uniform()};
    const twin at_slots{on, element_kind::i32, {rows}, each_of(slots)};
    const twin starts{on, element_kind::i32, {rows + 1}, each_of(first)};
    const twin context{on, element_kind::i32, {rows}, each_of(contexts)};
    const twin blocks{on, element_kind::i32, {rows, most}, each_of(table)};
    const auto step = [&](const gpu::operations& run, gpu::stream& queue, tensor_view twin::*side) {
      const auto maybe = [&](const twin& of) { return normed ? of.*side : tensor_view{}; };
      run.attend_new(queue, {joined.*side, maybe(query_norm), maybe(key_norm), 1e-6F, cos.*side, sin.*side}, pool.*side,
                     {at_slots.*side, starts.*side, context.*side, blocks.*side}, 0.2F, out.*side);
    };
    for (int again = 0; again < 2; ++again) { // the second finds the counters as the first left them
      on.cuda->upload(*on.on_cuda, {static_cast<const std::byte*>(joined.cpu.data()), joined.cpu.bytes()}, joined.cuda);
      step(*on.cuda, *on.on_cuda, &twin::cuda);
    }
    step(*on.cpu, *on.on_cpu, &twin::cpu);
    CHECK(out.error() < (kind == element_kind::bf16 ? twice_rounded : out.tolerance()));
    CHECK(pool.error() < (kind == element_kind::bf16 ? 1e-3 : 1e-5));
  };
  over_seeds([&](draws& from) {
    for (const element_kind kind : kinds) {
      for (const std::int64_t width : {24, 32, 64, 80, 96, 128})
        for (const std::int64_t group : {1, 3, 4, 7, 8, 12})
          for (const std::size_t rows : {7U, 21U}) { // few enough for clusters, and more
            std::vector<std::int32_t> contexts{0, 14, -1, 15, 16, 40, 300};
            while (contexts.size() < rows)
              contexts.push_back(contexts[contexts.size() % 7] + 1);
            check(from, group, width, kind, 2, group % 2 == 1, contexts);
          }
      for (const std::int32_t context : {0, 1, 100, 1023, 8191})
        check(from, 4, 128, kind, 8, true, {context});
      check(from, 2, 64, kind, 2, true, std::vector<std::int32_t>(64, 77));
    }
  });
}

TEST_CASE("CUDA: rows of a batch are placed and advanced as on the CPU, and told of in pinned memory") {
  const device_pair on;
  if (!on)
    return;
  over_seeds([&](draws& from) {
    // Given a row that goes, one that rests, one of nobody, and random ones
    constexpr std::int64_t rows = 19;
    constexpr std::int64_t most = 40;
    std::vector<std::int32_t> contexts{5, 32, -1};
    while (contexts.size() < rows)
      contexts.push_back(static_cast<std::int32_t>(from.below(600)()));
    std::vector<std::int32_t> capacities{48, 32, 16};
    while (capacities.size() < rows)
      capacities.push_back(640);
    const std::int32_t start = 3;
    const batch_twin table{
        {on, element_kind::i32, {rows}, from.below(1000)},      {on, element_kind::i32, {rows}, each_of(contexts)},
        {on, element_kind::i32, {rows}, each_of(capacities)},   {on, element_kind::i32, {rows}, from.below(50)},
        {on, element_kind::i32, {rows}, from.below(50)},        {on, element_kind::f32, {rows}, from.uniform()},
        {on, element_kind::f32, {rows}, from.uniform()},        {on, element_kind::i32, {2, rows}, from.below(50)},
        {on, element_kind::i32, {rows, most}, from.below(5000)}};
    const twin frequencies{on, element_kind::f32, {48}, from.uniform(0.0, 1.0)};
    const twin slots{on, element_kind::i32, {rows}, from.below(9)};
    const twin goes_to{on, element_kind::i32, {rows}, from.below(9)};
    const twin cos{on, element_kind::f32, {rows, 48}, from.uniform()};
    const twin sin{on, element_kind::f32, {rows, 48}, from.uniform()};
    const auto token_or_none = [any = from.below(1000)]() mutable { return any() - 2.0; }; // not_finite is -2
    const twin chosen{on, element_kind::i32, {rows}, token_or_none};
    const twin turn{on, element_kind::i32, {1}, [&] { return static_cast<double>(start); }};
    const twin told{on, element_kind::i32, {2, rows + 4}, from.below(1000)};
    auto pinned = on.cuda->allocate_shared(told.cuda.bytes());
    REQUIRE(pinned);
    const tensor_view in_host{(*pinned)->data(), element_kind::i32, gpu::device_kind::cuda, {2, rows + 4}};
    std::memcpy((*pinned)->data(), told.cpu.data(), told.cpu.bytes());

    const auto step = [&](const gpu::operations& run, gpu::stream& queue, tensor_view twin::*side,
                          const tensor_view& tell) {
      const gpu::batch_rows of = table.on(side);
      run.place_rows(queue, of, 16, frequencies.*side, {slots.*side, {}, goes_to.*side, of.blocks}, cos.*side,
                     sin.*side);
      run.advance_rows(queue, of, goes_to.*side, chosen.*side, turn.*side, tell.columns(0, rows));
    };
    step(*on.cpu, *on.on_cpu, &twin::cpu, told.cpu);
    step(*on.cuda, *on.on_cuda, &twin::cuda, in_host);

    for (const twin* each : {&slots, &goes_to, &table.ids, &table.context, &table.answered, &turn})
      check_integers(on, *each);
    CHECK(cos.error() < 1e-6);
    CHECK(sin.error() < 1e-6);
    CHECK(std::memcmp((*pinned)->data(), told.cpu.data(), told.cpu.bytes()) == 0);
    CHECK(goes_to.cpu.i32()[1] == -1);
    CHECK(told.cpu.i32()[told.cpu.stride(0) * (start % 2) + 2] == -1);
  });
}

TEST_CASE(
    "CUDA: K8: a choice is the CPU's, greedy and drawn, from every kind of row, and none where one is not finite") {
  const device_pair on;
  if (!on)
    return;
  over_seeds([&](draws& from) {
    for (const std::int64_t vocabulary : {1, 2, 31, 1000, 4097, 32000, 151936}) {
      // Given rows with sharp, flat, equal and rounded logits and with one that is not finite, each with its own
      // options
      constexpr std::int64_t rows = 24;
      std::int64_t at = 0;
      std::normal_distribution<float> normal;
      const auto logit = [&]() -> double {
        const std::int64_t row = at / vocabulary;
        const std::int64_t id = at++ % vocabulary;
        switch (row % 6) {
        case 0:
          return 2.0F * normal(from.from);
        case 1:
          return 8.0F * normal(from.from); // sharp
        case 2:
          return 1.5; // all equal
        case 3:
          return std::round(4.0F * normal(from.from)) / 2.0F; // many equals
        case 4: {
          constexpr std::array<double, 4> bad{NAN, INFINITY, -INFINITY, -NAN};
          return id == row * 7919 % vocabulary ? bad[static_cast<std::size_t>(row / 6)] : 3.0F * normal(from.from);
        }
        default:
          return 1e-3F * normal(from.from); // flat
        }
      };
      const twin logits{on, element_kind::f32, {rows, vocabulary}, logit};
      std::int64_t next = 0;
      const batch_twin table{
          {on, element_kind::i32, {rows}, from.below(1)},
          {on, element_kind::i32, {rows}, from.below(9)},
          {on, element_kind::i32, {rows}, from.below(9)},
          {on, element_kind::i32, {rows}, from.below(9)},
          {on, element_kind::i32, {rows}, from.below(100000)},
          {on, element_kind::f32, {rows}, [&] { return next++ < 6 ? 0.0 : from.uniform(0.2, 2.0)(); }},
          {on, element_kind::f32, {rows}, [&] { return next++ % 3 == 0 ? 1.0 : from.uniform(0.0, 1.1)(); }},
          {on, element_kind::i32, {2, rows}, from.below(std::int64_t{1} << 31)},
          {on, element_kind::i32, {rows, 1}, from.below(9)}};
      const twin chosen{on, element_kind::i32, {rows}, from.below(9)};
      on.cpu->sample(*on.on_cpu, logits.cpu, table.on(&twin::cpu), chosen.cpu);
      for (int again = 0; again < 2; ++again)
        on.cuda->sample(*on.on_cuda, logits.cuda, table.on(&twin::cuda), chosen.cuda);
      CAPTURE(vocabulary);
      check_integers(on, chosen);
      for (std::int64_t row = 0; row < rows; ++row)
        CHECK((chosen.cpu.i32()[row] == gpu::not_finite) == (row % 6 == 4));
    }
  });
}

TEST_CASE("CUDA: G10: a choice by rules and what is told of it are the CPU's, and so are the marks after it") {
  const device_pair on;
  if (!on)
    return;
  over_seeds([&](draws& from) {
    for (const std::int64_t vocabulary : {200, 4097, 32000, 151936}) {
      CAPTURE(vocabulary);
      // Given rows of every rule and mix of them, each with its own marks; every seventh has none, one is not finite
      constexpr std::int64_t rows = 24;
      const auto any = [&](std::int64_t end) { return static_cast<std::int32_t>(from.below(end)()); };
      const auto maybe = [&](double least, double most, float none) {
        return any(2) == 0 ? none : static_cast<float>(from.uniform(least, most)());
      };
      std::vector<std::int32_t> records(static_cast<std::size_t>(rows * gpu::rule_words));
      std::vector<std::int32_t> marks(static_cast<std::size_t>(rows * vocabulary));
      std::vector<std::int32_t> places;
      for (std::int32_t row = 0; row < rows; ++row) {
        places.push_back(row % 7 == 6 ? -1 : static_cast<std::int32_t>(rows) - 1 - row);
        protocols::sampling_rules rules{.top_k = any(3) == 0 ? 0U : static_cast<std::uint32_t>(1 + any(vocabulary)),
                                        .min_p = maybe(0.0, 0.3, 0.0F),
                                        .presence_penalty = maybe(-2.0, 2.0, 0.0F),
                                        .frequency_penalty = maybe(-0.5, 0.5, 0.0F),
                                        .repetition_penalty = maybe(0.5, 2.0, 0.0F),
                                        .min_tokens = any(2) == 0 ? 0U : 60'000U,
                                        .stop_ids = {any(vocabulary), any(vocabulary)},
                                        .logprobs = row % 3 != 0,
                                        .top_logprobs = row % 3 == 0 ? 0U : static_cast<std::uint32_t>(any(21))};
        for (std::int32_t i = 0; i < any(301) && i * 7 + row < vocabulary; ++i)
          rules.bias.push_back({i * 7 + row, static_cast<float>(from.uniform(-3.0, 3.0)())});
        for (std::int32_t i = 0; i < 50; ++i)
          rules.prompt_ids.push_back(any(vocabulary));
        const auto place = static_cast<std::size_t>(rows - 1 - row);
        gpu::models::write_record(rules, std::span{records}.subspan(place * gpu::rule_words, gpu::rule_words));
        const auto own = std::span{marks}.subspan(place * static_cast<std::size_t>(vocabulary),
                                                  static_cast<std::size_t>(vocabulary));
        gpu::models::write_marks(rules, own);
        std::vector<protocols::token_id> answer(200);
        for (auto& each : answer)
          each = any(std::min<std::int64_t>(vocabulary, 100));
        gpu::models::mark_answer(answer, own);
      }
      std::int64_t at = 0;
      std::normal_distribution<float> normal;
      const auto logit = [&]() -> double {
        const std::int64_t row = at / vocabulary;
        const std::int64_t id = at++ % vocabulary;
        if (row == 5 && id == vocabulary / 2)
          return NAN;
        return row % 4 == 0 ? std::round(4.0F * normal(from.from)) / 2.0F : 3.0F * normal(from.from);
      };
      const twin logits{on, element_kind::f32, {rows, vocabulary}, logit};
      std::int64_t next = 0;
      const batch_twin table{
          {on, element_kind::i32, {rows}, from.below(1)},
          {on, element_kind::i32, {rows}, from.below(9)},
          {on, element_kind::i32, {rows}, from.below(9)},
          {on, element_kind::i32, {rows}, from.below(9)},
          {on, element_kind::i32, {rows}, from.below(100000)},
          {on, element_kind::f32, {rows}, [&] { return next++ % 4 == 3 ? 0.0 : from.uniform(0.2, 2.0)(); }},
          {on, element_kind::f32, {rows}, [&] { return next++ % 3 == 0 ? 1.0 : from.uniform(0.0, 1.1)(); }},
          {on, element_kind::i32, {2, rows}, from.below(std::int64_t{1} << 31)},
          {on, element_kind::i32, {rows, 1}, from.below(9)}};
      const twin place{on, element_kind::i32, {rows}, each_of(places)};
      const twin record{on, element_kind::i32, {rows, gpu::rule_words}, each_of(records)};
      const twin mark{on, element_kind::i32, {rows, vocabulary}, each_of(marks)};
      const twin turn{on, element_kind::i32, {1}, [] { return 3.0; }};
      const twin told{on, element_kind::i32, {2, rows, gpu::told_words}, from.below(1)};
      const twin chosen{on, element_kind::i32, {rows}, from.below(9)};
      const twin tokens_told{on, element_kind::i32, {2, rows}, from.below(9)};

      // When a step chooses and takes up what was chosen
      const auto step = [&](const gpu::operations& run, gpu::stream& queue, tensor_view twin::*side) {
        auto of = table.on(side);
        of.rules = {place.*side, record.*side, mark.*side, turn.*side, told.*side};
        run.sample(queue, logits.*side, of, chosen.*side);
        run.advance_rows(queue, of, table.context.*side, chosen.*side, turn.*side, tokens_told.*side);
      };
      step(*on.cpu, *on.on_cpu, &twin::cpu);
      step(*on.cuda, *on.on_cuda, &twin::cuda);

      // Then both have chosen and marked the same, and told the same
      check_integers(on, chosen);
      check_integers(on, mark);
      const auto told_there = integers_of(on, told.cuda);
      for (std::int64_t i = 0; i < told.cpu.elements(); ++i)
        if (i % 2 == 0)
          CHECK(told_there[static_cast<std::size_t>(i)] == told.cpu.i32()[i]);
        else
          CHECK(gpu::float_of(told_there[static_cast<std::size_t>(i)]) ==
                doctest::Approx(gpu::float_of(told.cpu.i32()[i])).epsilon(1e-5));
      CHECK(chosen.cpu.i32()[5] == gpu::not_finite);
    }
  });
}

TEST_CASE("CUDA: captured work runs when it is launched, as often as it is") {
  const device_pair on;
  if (!on)
    return;
  const twin sum{on, element_kind::f32, {1, 64}, [] { return 0.0; }};
  const twin one{on, element_kind::f32, {1, 64}, [] { return 1.0; }};
  for (const bool device : {false, true}) {
    CAPTURE(device);
    gpu::stream& queue = device ? *on.on_cuda : *on.on_cpu;
    const gpu::operations& run = device ? *on.cuda : *on.cpu;
    const auto side = device ? &twin::cuda : &twin::cpu;
    auto work = queue.capture([&]() -> protocols::result<void> {
      run.add(queue, sum.*side, one.*side);
      run.add(queue, sum.*side, one.*side);
      return {};
    });
    REQUIRE(work);
    for (int i = 0; i < 5; ++i)
      REQUIRE(queue.launch(**work));
    const auto event = queue.make_event();
    queue.record(*event);
    CHECK(queue.await(*event, protocols::time_point::max()));
  }
  CHECK(sum.cpu.f32()[63] == 10.0F);
  CHECK(sum.error() == 0.0);

  // What fails while it is captured leaves the stream as it was.
  const auto failed =
      on.on_cuda->capture([]() -> protocols::result<void> { return protocols::fail(protocols::fault::peer_gone); });
  REQUIRE_FALSE(failed);
  CHECK(failed.error().code == protocols::fault::peer_gone);
  CHECK(on.on_cuda->synchronize());
}
