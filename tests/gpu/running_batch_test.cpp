#include <map>
#include <optional>
#include <random>

#include <doctest/doctest.h>

#include "gpu/models/families/running_batch.hpp"
#include "runtime/base/clock.hpp"
#include "tests/gpu/cuda_support.hpp"
#include "tests/gpu/golden_cases.hpp"

// A running batch against the reference's answers, and against steps of `forward` with choices on the host. Sequences
// join and leave while others go on, and every step is begun before the one before it is collected.

using namespace troupe;
using namespace troupe::tests;
using gpu::element_kind;
using models::running_batch;
using protocols::token_id;

namespace {

constexpr std::uint32_t rows_max = 5; // no power of two: the largest size is its own
constexpr std::uint32_t pool_tokens = 8192;

/// A whole text model with its pool; blocks are handed out one after another.
struct decoder_on {
  std::shared_ptr<const gpu::operations> run;
  std::unique_ptr<models::model_folder> folder;
  models::kv_layout layout = models::layout_of(folder->facts(), {}, pool_tokens, element);
  std::unique_ptr<gpu::buffer> pool = take(run->allocate(layout.bytes()));
  std::unique_ptr<models::text_model> text = take(folder->load_text({}, layout, {pool->data(), pool->bytes()}));
  std::uint32_t next_block = 1;

  static inline element_kind element = element_kind::f32;

  explicit decoder_on(const std::string& device)
      : run(take(gpu::open_operations(device, 1))),
        folder(take(models::open_folder(reader_folder, {.device = device, .threads = 1}))) {}

  std::vector<protocols::block_index> blocks_for(std::size_t tokens) {
    const auto count = static_cast<std::uint32_t>((tokens + 15) / 16);
    const auto blocks = blocks_from(next_block, count);
    next_block += count;
    return blocks;
  }
  std::vector<float> logits_of(const models::text_model::sequence& part) {
    std::vector<float> logits(folder->facts().vocabulary);
    take(text->forward(std::span{&part, 1}, nullptr, logits, nullptr));
    return logits;
  }
};

/// One sequence as an executor knows it.
struct answering {
  std::vector<token_id> ids; ///< so far
  std::size_t wanted = 0;
  bool done() const { return ids.size() >= wanted; }
};

/// A text prompt of random words, prefilled; `newest` is chosen by `how`.
struct prompted {
  std::vector<token_id> prompt;
  std::vector<protocols::block_index> blocks;
  protocols::sampling_options how;
  token_id newest = 0;
  std::vector<protocols::token_logprob> told; ///< by the host, of all tokens

  prompted(decoder_on& with, unsigned seed, std::size_t tokens, std::size_t answer, protocols::sampling_options options)
      : blocks(with.blocks_for(tokens + answer)), how(options) {
    std::mt19937 from{seed};
    for (std::size_t i = 0; i < tokens; ++i)
      prompt.push_back(static_cast<token_id>(from() % 250));
    if (how.rules.repeats_cost())
      how.rules.prompt_ids = protocols::distinct(prompt);
    const auto positions = plain_positions(0, tokens);
    newest = models::choose(with.logits_of({prompt, positions, 0, blocks, {}, true}), how, {}, told);
  }
  running_batch::joining joining() const {
    return {.newest = newest, .context = static_cast<std::uint32_t>(prompt.size()), .blocks = blocks, .sampling = how};
  }
  /// By `forward` and choices on the host, in blocks of their own.
  std::vector<token_id> answer(decoder_on& with, std::size_t wanted) {
    told.clear();
    const auto own = with.blocks_for(prompt.size() + wanted);
    const auto positions = plain_positions(0, prompt.size());
    std::vector<token_id> ids{models::choose(with.logits_of({prompt, positions, 0, own, {}, true}), how, {}, told)};
    while (ids.size() < wanted) {
      const auto context = static_cast<std::uint32_t>(prompt.size() + ids.size() - 1);
      const auto at = plain_positions(static_cast<std::int32_t>(context), 1);
      const token_id last = ids.back();
      ids.push_back(models::choose(with.logits_of({std::span{&last, 1}, at, context, own, {}, true}), how,
                                   {.position = ids.size(), .tokens = ids}, told));
    }
    return ids;
  }
};

protocols::time_point soon() {
  return base::now() + std::chrono::seconds{20};
}

/// Hands the tokens of the oldest step to whom they are for; those of a sequence that is done are dropped.
void collect_into(running_batch& batch, std::map<std::uint32_t, answering*>& at_place) {
  for (const auto& each : take(batch.collect(soon()))) {
    const auto found = at_place.find(each.place);
    if (found != at_place.end() && !found->second->done())
      found->second->ids.push_back(each.id);
  }
}

void check_company(const std::string& device) {
  // Given sequences of different lengths, greedy and sampled, more of them than the batch has rows
  decoder_on with{device};
  const auto batch = take(with.text->open_batch({.rows_max = rows_max}, nullptr));
  std::vector<prompted> asked;
  std::vector<answering> answers;
  for (unsigned i = 0; i < 9; ++i) {
    const std::size_t wanted = 6 + 5 * (i % 4);
    const protocols::sampling_options how =
        i % 3 == 0 ? protocols::sampling_options{}
                   : protocols::sampling_options{.temperature = 0.5F + 0.3F * static_cast<float>(i % 3),
                                                 .top_p = i % 3 == 1 ? 1.0F : 0.8F,
                                                 .seed = 0x1234'5678'9abc'0000U + i};
    asked.emplace_back(with, i, 3 + 7 * i, wanted, how);
    answers.push_back({{asked.back().newest}, wanted});
  }

  // When they join as there is room, a few steps apart, and leave when the token that ends them is known
  std::map<std::uint32_t, answering*> at_place;
  std::optional<std::map<std::uint32_t, answering*>> on_its_way; // who was where in the step that is not collected
  std::size_t next = 0;
  while (next < asked.size() || !at_place.empty()) {
    for (auto at = at_place.begin(); at != at_place.end();)
      if (at->second->done()) {
        take(batch->leave(at->first));
        at = at_place.erase(at);
      } else {
        ++at;
      }
    for (int entering = 0; entering < 2 && next < asked.size() && batch->size() < rows_max; ++entering, ++next)
      at_place.emplace(take(batch->join(asked[next].joining())), &answers[next]);
    if (batch->size() > 0)
      take(batch->step(nullptr));
    if (on_its_way)
      collect_into(*batch, *on_its_way);
    on_its_way.reset();
    if (batch->size() > 0)
      on_its_way = at_place;
  }
  CHECK(batch->collect(soon()).error().code == protocols::fault::invalid_request);

  // Then each has the answer that it has alone.
  for (std::size_t i = 0; i < asked.size(); ++i) {
    CAPTURE(i);
    CHECK(answers[i].ids == asked[i].answer(with, answers[i].wanted));
  }
}

void check_golden(const std::string& device) {
  decoder_on with{device};
  const auto tower = take(with.folder->load_vision({}));
  const auto batch = take(with.text->open_batch({.rows_max = 8}, nullptr));
  std::map<std::uint32_t, answering> at_place;
  for (const golden_case& each : golden_cases()) {
    const auto width = with.folder->facts().row_elements();
    std::vector<float> rows(std::size_t{each.picture.tokens} * width);
    const models::vision_model::picture picture{each.page.rgb, each.page.height, each.page.width, on_host(rows, width)};
    take(tower->encode(picture, nullptr));
    const auto blocks = with.blocks_for(each.prompt.size() + each.answer.size());
    const models::text_model::rows_at at{each.picture.first_token, each.picture.tokens, on_host(rows, width)};
    const auto logits = with.logits_of({each.prompt, each.positions, 0, blocks, std::span{&at, 1}, true});
    const token_id newest = models::choose(logits, {}, 0);
    const auto place = take(batch->join({.newest = newest,
                                         .context = static_cast<std::uint32_t>(each.prompt.size()),
                                         .position_delta = each.delta,
                                         .blocks = blocks,
                                         .sampling = {}}));
    at_place[place] = {{newest}, each.answer.size()};
  }
  std::size_t most = 0;
  for (const golden_case& each : golden_cases())
    most = std::max(most, each.answer.size());
  for (std::size_t step = 1; step < most; ++step) {
    take(batch->step(nullptr));
    for (const auto& each : take(batch->collect(soon())))
      if (!at_place[each.place].done())
        at_place[each.place].ids.push_back(each.id);
  }
  for (std::uint32_t i = 0; i < 8; ++i) {
    CAPTURE(golden_cases()[i].name);
    CHECK(at_place[i].ids == golden_cases()[i].answer);
  }
}

/// Sequences of every rule beside each other and beside one that has none. They leave and join in between, so rows move
/// and places get new tenants.
void check_rules(const std::string& device) {
  decoder_on with{device};
  const auto batch = take(with.text->open_batch({.rows_max = 4}, nullptr));
  using protocols::sampling_options;
  const std::vector<sampling_options> ways{
      {.rules = {.frequency_penalty = 1.0F, .repetition_penalty = 1.3F}},
      {},
      {.temperature = 1.0F, .seed = 5, .rules = {.top_k = 5, .logprobs = true, .top_logprobs = 3}},
      {.rules = {.presence_penalty = 2.0F, .bias = {{3, 4.0F}, {40, 100.0F}}, .logprobs = true}},
      {.temperature = 0.9F,
       .top_p = 0.9F,
       .seed = 6,
       .rules = {.min_p = 0.05F, .min_tokens = 6, .stop_ids = {1, 2, 9}}},
      {.temperature = 0.7F, .seed = 7},
      {.temperature = 1.5F,
       .top_p = 0.8F,
       .seed = 8,
       .rules = {.top_k = 40, .min_p = 0.01F, .frequency_penalty = 0.5F}},
      {.rules = {.logprobs = true, .top_logprobs = 20}}};
  struct going {
    std::vector<token_id> ids;
    std::vector<protocols::token_logprob> told;
    std::size_t wanted = 0;
  };
  std::vector<prompted> asked;
  std::vector<going> got(ways.size());
  for (unsigned i = 0; i < ways.size(); ++i) {
    got[i].wanted = 4 + 3 * (i % 3);
    asked.emplace_back(with, i, 5 + 6 * i, got[i].wanted, ways[i]);
    got[i].ids = {asked[i].newest};
    got[i].told = asked[i].told;
  }
  std::map<std::uint32_t, going*> at_place;
  for (std::size_t next = 0; next < asked.size() || !at_place.empty();) {
    for (auto at = at_place.begin(); at != at_place.end();)
      if (at->second->ids.size() >= at->second->wanted) {
        take(batch->leave(at->first));
        at = at_place.erase(at);
      } else {
        ++at;
      }
    for (; next < asked.size() && batch->size() < 4; ++next)
      at_place.emplace(take(batch->join(asked[next].joining())), &got[next]);
    if (at_place.empty())
      break;
    take(batch->step(nullptr));
    for (const auto& each : take(batch->collect(soon()))) {
      auto& one = *at_place.at(each.place);
      one.ids.push_back(each.id);
      one.told.insert(one.told.end(), each.logprobs.begin(), each.logprobs.end());
    }
  }
  for (std::size_t i = 0; i < asked.size(); ++i) {
    CAPTURE(i);
    CHECK(got[i].ids == asked[i].answer(with, got[i].wanted));
    REQUIRE(got[i].told.size() == asked[i].told.size());
    CHECK(got[i].told.size() == got[i].wanted * ways[i].rules.told());
    for (std::size_t k = 0; k < got[i].told.size(); ++k) {
      CHECK(got[i].told[k].id == asked[i].told[k].id);
      CHECK(got[i].told[k].value == doctest::Approx(asked[i].told[k].value).epsilon(1e-3));
    }
  }
  CHECK(got[3].ids == std::vector<token_id>(got[3].wanted, 40)); // a bias of 100 leaves no other
}

/// What a sequence that has filled its blocks does, on rows whose neighbour goes on.
void check_rest(const std::string& device) {
  decoder_on with{device};
  const auto batch = take(with.text->open_batch({.rows_max = 2}, nullptr));
  prompted full{with, 1, 14, 2, {}};
  prompted other{with, 2, 9, 20, {}};
  const auto full_place = take(batch->join(full.joining()));
  const auto other_place = take(batch->join(other.joining()));
  std::map<std::uint32_t, std::vector<token_id>> got;
  for (int step = 0; step < 5; ++step) {
    take(batch->step(nullptr));
    for (const auto& each : take(batch->collect(soon())))
      got[each.place].push_back(each.id);
  }
  const auto expected = full.answer(with, 3);
  CHECK(got[full_place] == std::vector<token_id>{expected[1], expected[2], -1, -1, -1});
  auto others = other.answer(with, 6);
  others.erase(others.begin());
  CHECK(got[other_place] == others);
}

/// Blocks whose last tenant was not finite are lent to others, and one that is not finite runs beside them.
void check_poison(const std::string& device) {
  decoder_on with{device};
  const auto queue = with.run->make_stream();
  const auto kind = device == "cpu" ? gpu::device_kind::cpu : gpu::device_kind::cuda;
  const auto spoil = [&](std::size_t first, std::size_t bytes) {
    const std::vector<std::byte> nothing(bytes, std::byte{0xff}); // NaN in every kind of float
    with.run->upload(*queue, nothing,
                     {static_cast<std::byte*>(with.pool->data()) + first,
                      element_kind::i32,
                      kind,
                      {static_cast<std::int64_t>(bytes / sizeof(std::int32_t))}});
    take(queue->synchronize());
  };
  spoil(0, with.pool->bytes());
  const auto batch = take(with.text->open_batch({.rows_max = 3}, nullptr));
  prompted one{with, 1, 21, 12, {}};
  prompted bad{with, 3, 30, 12, {}};
  prompted other{with, 2, 9, 12, {.temperature = 0.8F, .seed = 3}};
  const auto block = with.pool->bytes() / with.layout.blocks;
  spoil(block * bad.blocks.front().value, block);

  std::map<std::uint32_t, std::vector<token_id>> got;
  const auto first = take(batch->join(one.joining()));
  const auto spoilt = take(batch->join(bad.joining()));
  const auto last = take(batch->join(other.joining()));
  for (int step = 0; step < 8; ++step) {
    take(batch->step(nullptr));
    for (const auto& each : take(batch->collect(soon())))
      got[each.place].push_back(each.id);
  }
  const auto without_first = [](std::vector<token_id> ids) {
    ids.erase(ids.begin());
    return ids;
  };
  CHECK(got[first] == without_first(one.answer(with, 9)));
  CHECK(got[spoilt] == std::vector<token_id>(8, running_batch::not_finite));
  CHECK(got[last] == without_first(other.answer(with, 9)));
}

} // namespace

TEST_CASE(
    "K8: a sequence that is not finite is told so, and spoils neither its neighbours nor who has its blocks next") {
  check_poison("cpu");
}
TEST_CASE("CUDA: K8: a sequence that is not finite is told so, and spoils nobody else") {
  if (cuda_or_skip())
    check_poison("cuda");
}
TEST_CASE("B15, G10: a running batch chooses for every sequence by its own rules, as the host does") {
  check_rules("cpu");
}
TEST_CASE("CUDA: B15, G10: a running batch chooses for every sequence by its own rules, as the host does") {
  if (cuda_or_skip())
    check_rules("cuda");
}
TEST_CASE("B15: a running batch gives every sequence the answer that it has alone") {
  check_company("cpu");
}
TEST_CASE("a running batch gives the reference's answers about eight pages at once") {
  check_golden("cpu");
}
TEST_CASE("a sequence that has filled its blocks rests and gives no token") {
  check_rest("cpu");
}
TEST_CASE("CUDA: a running batch gives every sequence the answer that it has alone") {
  if (cuda_or_skip())
    check_company("cuda");
}
TEST_CASE("CUDA: a running batch gives the reference's answers about eight pages at once") {
  if (cuda_or_skip())
    check_golden("cuda");
}
TEST_CASE("CUDA: a sequence that has filled its blocks rests and gives no token") {
  if (cuda_or_skip())
    check_rest("cuda");
}

TEST_CASE("a running batch refuses what it cannot do, by name") {
  decoder_on with{"cpu"};
  const auto batch = take(with.text->open_batch({.rows_max = 1}, nullptr));
  const prompted one{with, 3, 5, 30, {}};
  CHECK(batch->collect(soon()).error().code == protocols::fault::invalid_request);
  CHECK(batch->step(nullptr).error().code == protocols::fault::invalid_request);
  CHECK(batch->leave(0).error().code == protocols::fault::invalid_request);

  auto stranger = one.joining();
  stranger.newest = static_cast<token_id>(with.folder->facts().vocabulary);
  CHECK(batch->join(stranger).error().code == protocols::fault::invalid_request);
  auto homeless = one.joining();
  homeless.blocks = {};
  CHECK(batch->join(homeless).error().code == protocols::fault::invalid_request);
  const auto outside = blocks_from(with.layout.blocks, 1);
  auto lost = one.joining();
  lost.blocks = outside;
  CHECK(batch->join(lost).error().code == protocols::fault::invalid_request);

  CHECK(take(batch->join(one.joining())) == 0);
  CHECK(batch->join(one.joining()).error().code == protocols::fault::queue_full);
  take(batch->step(nullptr));
  take(batch->step(nullptr));
  CHECK(batch->step(nullptr).error().code == protocols::fault::queue_full);
  CHECK_FALSE(with.text->open_batch({.rows_max = 0}, nullptr));
}

TEST_CASE("A25: the ranks of a mesh step a batch alike, with as many collectives as they announce") {
  // Given two ranks that share the heads, and a sequence on both
  constexpr std::uint32_t size = 2;
  decoder_on alone{"cpu"};
  prompted one{alone, 5, 21, 12, {.temperature = 0.8F, .seed = 3}};
  const auto folder = take(models::open_folder(reader_folder));
  const auto mesh = make_mesh(size);
  std::array<std::vector<token_id>, size> ids;
  std::array<std::vector<std::byte>, size> pools;
  std::array<std::unique_ptr<models::text_model>, size> ranks;
  for (std::uint32_t r = 0; r < size; ++r) {
    const models::shard part{.tensor_parallel = size, .mesh_rank = r};
    const auto layout = models::layout_of(folder->facts(), part, pool_tokens);
    pools[r].resize(layout.bytes());
    ranks[r] = take(folder->load_text(part, layout, pools[r]));
  }

  // When each opens its batch, prefills and steps, counting its collectives
  on_ranks(size, [&](std::uint32_t r) -> protocols::result<void> {
    std::uint64_t call = 0;
    const auto counted = [&](std::uint32_t expected, auto body) -> protocols::result<void> {
      if (auto begun = mesh[r]->begin(protocols::call_id{++call}, "decode", expected); !begun)
        return begun;
      if (auto done = body(); !done)
        return done;
      return mesh[r]->end();
    };
    const models::batch_options how{.rows_max = 4};
    std::unique_ptr<running_batch> batch;
    if (auto opened = counted(ranks[r]->opening_collectives(how),
                              [&]() -> protocols::result<void> {
                                auto made = ranks[r]->open_batch(how, mesh[r].get());
                                if (!made)
                                  return tl::unexpected(made.error());
                                batch = *std::move(made);
                                return {};
                              });
        !opened)
      return opened;
    const auto positions = plain_positions(0, one.prompt.size());
    const models::text_model::sequence prompt{one.prompt, positions, 0, one.blocks, {}, true};
    std::vector<float> logits(folder->facts().vocabulary);
    if (auto done = counted(ranks[r]->mesh_collectives(true),
                            [&] {
                              return ranks[r]->forward(std::span{&prompt, 1}, nullptr, logits, mesh[r].get());
                            });
        !done)
      return done;
    if (auto joined = batch->join(one.joining()); !joined)
      return tl::unexpected(joined.error());
    for (int step = 0; step < 11; ++step) {
      if (auto done = counted(batch->collectives(), [&] { return batch->step(mesh[r].get()); }); !done)
        return done;
      auto got = batch->collect(soon());
      if (!got)
        return tl::unexpected(got.error());
      ids[r].push_back(got->front().id);
    }
    return {};
  });

  // Then both have the answer of one rank alone.
  auto expected = one.answer(alone, 12);
  expected.erase(expected.begin());
  CHECK(ids[0] == expected);
  CHECK(ids[1] == expected);
}
