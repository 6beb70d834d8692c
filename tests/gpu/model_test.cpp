#include "protocols/serve/prompt_positions.hpp"
#include "tests/gpu/golden_cases.hpp"
#include "tests/gpu/model_support.hpp"

using namespace troupe;
using namespace troupe::tests;
using protocols::token_id;

namespace {

constexpr double tolerance = 2e-4;

models::model_folder& reader() {
  static const auto folder = take(models::open_folder(reader_folder));
  return *folder;
}

/// Embedding rows of every case by a tower cut over `tensor_parallel` threads; all ranks must have the same.
std::vector<std::vector<float>> encode_all(std::uint32_t tensor_parallel) {
  const auto mesh = tensor_parallel > 1 ? make_mesh(tensor_parallel) : std::vector<std::unique_ptr<gpu::group>>(1);
  std::vector<std::vector<std::vector<float>>> rows(tensor_parallel);
  on_ranks(tensor_parallel, [&](std::uint32_t r) -> protocols::result<void> {
    auto tower = reader().load_vision({.tensor_parallel = tensor_parallel, .mesh_rank = r});
    if (!tower)
      return tl::unexpected(tower.error());
    for (const golden_case& each : golden_cases())
      rows[r].emplace_back(std::size_t{each.picture.tokens} * reader().facts().row_elements());
    protocols::result<void> done;
    for (std::size_t i = 0; done && i < golden_cases().size(); ++i) {
      const golden_case& each = golden_cases()[i];
      const models::vision_model::picture picture{each.page.rgb, each.page.height, each.page.width,
                                                  on_host(rows[r][i], reader().facts().row_elements())};
      if (mesh[r])
        mesh[r]->begin(protocols::call_id{1 + i}, "encode", (*tower)->collectives(picture, mesh[r].get()));
      done = (*tower)->encode(picture, mesh[r].get());
      if (done && mesh[r])
        done = mesh[r]->end();
    }
    return done;
  });
  for (std::uint32_t r = 1; r < tensor_parallel; ++r)
    CHECK(rows[r] == rows[0]);
  return rows[0];
}

struct prefilled {
  std::vector<float> logits;
  std::vector<protocols::block_index> blocks;
};

prefilled prefill(text_company& company, const golden_case& of, const std::vector<float>& rows,
                  std::uint32_t first_block) {
  prefilled out;
  const auto length = static_cast<std::uint32_t>(of.prompt.size() + of.answer.size());
  out.blocks = blocks_from(first_block, (length + 15) / 16);
  const models::text_model::rows_at picture{of.picture.first_token, of.picture.tokens,
                                            on_host(rows, company.facts().row_elements())};
  const models::text_model::sequence prompt{.ids = of.prompt,
                                            .positions = of.positions,
                                            .context = 0,
                                            .blocks = out.blocks,
                                            .pictures = std::span{&picture, 1},
                                            .wants_logits = true};
  out.logits = company.forward(std::span{&prompt, 1});
  return out;
}

/// Greedy answer, going on after a prefill whose keys and values are in the company's pools.
std::vector<token_id> decode(text_company& company, const golden_case& of, const prefilled& from) {
  std::vector<token_id> answer{models::choose(from.logits, {}, 0)};
  const auto& ends = company.facts().end_tokens;
  while (answer.size() < of.answer.size() && std::ranges::find(ends, answer.back()) == ends.end()) {
    const auto context = static_cast<std::uint32_t>(of.prompt.size() + answer.size() - 1);
    const auto at = plain_positions(static_cast<std::int32_t>(context) + of.delta, 1);
    const models::text_model::sequence next{.ids = std::span{&answer.back(), 1},
                                            .positions = at,
                                            .context = context,
                                            .blocks = from.blocks,
                                            .pictures = {},
                                            .wants_logits = true};
    answer.push_back(models::choose(company.forward(std::span{&next, 1}), {}, answer.size()));
  }
  return answer;
}

} // namespace

TEST_CASE("the vision tower gives the reference's embeddings and deepstack features, cut over 1, 2 and 4 ranks") {
  for (const std::uint32_t tensor_parallel : {1U, 2U, 4U}) {
    CAPTURE(tensor_parallel);
    const auto rows = encode_all(tensor_parallel);
    const std::size_t hidden = reader().facts().hidden;
    const std::size_t stride = reader().facts().row_elements();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const golden_case& expected = golden_cases()[i];
      CAPTURE(expected.name);
      CHECK(relative_error(columns(rows[i], stride, 0, hidden), expected.image) < tolerance);
      CHECK(relative_error(columns(rows[i], stride, hidden, hidden), expected.deepstack[0]) < tolerance);
      CHECK(relative_error(columns(rows[i], stride, 2 * hidden, hidden), expected.deepstack[1]) < tolerance);
    }
  }
}

TEST_CASE("the text model gives the reference's logits and greedy answers in every layout") {
  struct layout {
    std::uint32_t tensor_parallel, pipeline_parallel;
  };
  const auto rows = encode_all(1);
  for (const layout cut : {layout{1, 1}, layout{2, 1}, layout{4, 1}, layout{2, 2}, layout{1, 3}}) {
    CAPTURE(cut.tensor_parallel);
    CAPTURE(cut.pipeline_parallel);
    text_company company{reader(), cut.tensor_parallel, cut.pipeline_parallel};
    for (std::size_t i = 0; i < golden_cases().size(); ++i) {
      const golden_case& expected = golden_cases()[i];
      CAPTURE(expected.name);
      const prefilled prompt = prefill(company, expected, rows[i], static_cast<std::uint32_t>(i));
      CHECK(relative_error(prompt.logits, expected.logits) < tolerance);
      CHECK(decode(company, expected, prompt) == expected.answer);
    }
  }
}

TEST_CASE("keys and values laid out for one tensor-parallel degree go on as another's") {
  struct change {
    std::uint32_t prefill_mesh, prefill_stages, decode_mesh, decode_stages;
  };
  const auto rows = encode_all(1);
  for (const change cut : {change{4, 1, 2, 1}, change{2, 1, 4, 1}, change{2, 2, 1, 1}, change{1, 1, 2, 2}}) {
    CAPTURE(cut.prefill_mesh);
    CAPTURE(cut.decode_mesh);
    text_company first{reader(), cut.prefill_mesh, cut.prefill_stages};
    text_company second{reader(), cut.decode_mesh, cut.decode_stages};
    for (const std::size_t i : {0U, 3U, 7U}) {
      const golden_case& expected = golden_cases()[i];
      CAPTURE(expected.name);
      const prefilled prompt = prefill(first, expected, rows[i], static_cast<std::uint32_t>(2 * i));
      first.hand_over(second, prompt.blocks);
      CHECK(decode(second, expected, prompt) == expected.answer);
    }
  }
}

TEST_CASE("F16: M-RoPE positions and the delta of decode are the reference's") {
  for (const golden_case& each : golden_cases()) {
    CAPTURE(each.name);
    const auto positions = protocols::positions_of(each.prompt, std::span{&each.picture, 1}, 2);
    CHECK(positions.positions == each.positions);
    CHECK(positions.delta == each.delta);
  }
}

TEST_CASE("a batch of prompts, chunks and decode steps gives each what it gets alone") {
  const auto rows = encode_all(1);
  text_company company{reader(), 1, 1};
  const golden_case& whole = golden_cases()[1];
  const golden_case& parted = golden_cases()[5];
  const golden_case& going = golden_cases()[2];

  // Given one sequence in decode and one whose first chunk ends inside its picture.
  const prefilled started = prefill(company, going, rows[2], 20);
  const std::uint32_t cut = parted.picture.first_token + 10;
  const auto parted_blocks = blocks_from(8, 7);
  const models::text_model::rows_at before{
      parted.picture.first_token, 10,
      on_host(std::span{rows[5]}.first(10 * company.facts().row_elements()), company.facts().row_elements())};
  const models::text_model::sequence head{.ids = std::span{parted.prompt}.first(cut),
                                          .positions = std::span{parted.positions}.first(cut),
                                          .context = 0,
                                          .blocks = parted_blocks,
                                          .pictures = std::span{&before, 1},
                                          .wants_logits = false};
  CHECK(company.forward(std::span{&head, 1}).empty());

  // When all three go through one step.
  const auto whole_blocks = blocks_from(0, 5);
  const models::text_model::rows_at all{whole.picture.first_token, whole.picture.tokens,
                                        on_host(rows[1], company.facts().row_elements())};
  const models::text_model::rows_at rest{
      0, parted.picture.tokens - 10,
      on_host(std::span{rows[5]}.subspan(10 * company.facts().row_elements()), company.facts().row_elements())};
  const token_id first = models::choose(started.logits, {}, 0);
  const auto length = static_cast<std::int32_t>(going.prompt.size());
  const auto next = plain_positions(length + going.delta, 1);
  const std::array<models::text_model::sequence, 3> batch{{
      {.ids = whole.prompt,
       .positions = whole.positions,
       .context = 0,
       .blocks = whole_blocks,
       .pictures = std::span{&all, 1},
       .wants_logits = true},
      {.ids = std::span{&first, 1},
       .positions = next,
       .context = static_cast<std::uint32_t>(length),
       .blocks = started.blocks,
       .pictures = {},
       .wants_logits = true},
      {.ids = std::span{parted.prompt}.subspan(cut),
       .positions = std::span{parted.positions}.subspan(cut),
       .context = cut,
       .blocks = parted_blocks,
       .pictures = std::span{&rest, 1},
       .wants_logits = true},
  }};
  const std::vector<float> logits = company.forward(batch);

  // Then each row is the one of its sequence.
  const std::span<const float> all_rows{logits};
  CHECK(relative_error(all_rows.first(320), whole.logits) < tolerance);
  CHECK(models::choose(all_rows.subspan(320, 320), {}, 1) == going.answer[1]);
  CHECK(relative_error(all_rows.last(320), parted.logits) < tolerance);
}
