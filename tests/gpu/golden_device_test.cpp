#include "tests/gpu/cuda_support.hpp"
#include "tests/gpu/golden_cases.hpp"

// The golden pages of `reader` with other numbers and on another device than the reference's.

using namespace troupe;
using namespace troupe::tests;
using gpu::element_kind;
using protocols::token_id;

namespace {

/// The whole model on one device, with its pool.
struct reader_on {
  std::string device;
  element_kind element;
  std::shared_ptr<const gpu::operations> run = take(gpu::open_operations(device, 1));
  std::unique_ptr<models::model_folder> folder =
      take(models::open_folder(reader_folder, {.device = device, .threads = 1, .element = element}));
  std::unique_ptr<models::vision_model> tower = take(folder->load_vision({}));
  models::kv_layout layout = models::layout_of(folder->facts(), {}, 512, element);
  std::unique_ptr<gpu::buffer> pool = take(run->allocate(layout.bytes()));
  std::unique_ptr<models::text_model> text = take(folder->load_text({}, layout, {pool->data(), pool->bytes()}));

  std::vector<float> encode(const golden_case& each) {
    std::vector<float> rows(std::size_t{each.picture.tokens} * folder->facts().row_elements());
    const models::vision_model::picture picture{each.page.rgb, each.page.height, each.page.width,
                                                on_host(rows, folder->facts().row_elements())};
    take(tower->encode(picture, nullptr));
    return rows;
  }
  std::vector<float> forward(const models::text_model::sequence& part) {
    std::vector<float> logits(folder->facts().vocabulary);
    take(text->forward(std::span{&part, 1}, nullptr, logits, nullptr));
    return logits;
  }
};

struct answer {
  std::vector<float> rows, logits;
  std::vector<token_id> ids; ///< greedy
};

answer answer_to(reader_on& reader, const golden_case& of) {
  answer out;
  out.rows = reader.encode(of);
  const auto blocks = blocks_from(1, static_cast<std::uint32_t>(of.prompt.size() + of.answer.size() + 15) / 16);
  const models::text_model::rows_at picture{of.picture.first_token, of.picture.tokens,
                                            on_host(out.rows, reader.folder->facts().row_elements())};
  out.logits = reader.forward({of.prompt, of.positions, 0, blocks, std::span{&picture, 1}, true});
  out.ids.push_back(models::choose(out.logits, {}, 0));
  const auto& ends = reader.folder->facts().end_tokens;
  while (out.ids.size() < of.answer.size() && std::ranges::find(ends, out.ids.back()) == ends.end()) {
    const auto context = static_cast<std::uint32_t>(of.prompt.size() + out.ids.size() - 1);
    const auto at = plain_positions(static_cast<std::int32_t>(context) + of.delta, 1);
    const token_id last = out.ids.back();
    const auto logits = reader.forward({std::span{&last, 1}, at, context, blocks, {}, true});
    out.ids.push_back(models::choose(logits, {}, out.ids.size()));
  }
  return out;
}

void check_golden(const std::string& device, element_kind element, double tolerance, bool same_ids) {
  reader_on reader{device, element};
  const std::size_t hidden = reader.folder->facts().hidden;
  const std::size_t stride = reader.folder->facts().row_elements();
  for (const golden_case& expected : golden_cases()) {
    CAPTURE(expected.name);
    const answer got = answer_to(reader, expected);
    CHECK(relative_error(columns(got.rows, stride, 0, hidden), expected.image) < tolerance);
    CHECK(relative_error(columns(got.rows, stride, hidden, hidden), expected.deepstack[0]) < tolerance);
    CHECK(relative_error(columns(got.rows, stride, 2 * hidden, hidden), expected.deepstack[1]) < tolerance);
    CHECK(relative_error(got.logits, expected.logits) < tolerance);
    CHECK(got.ids.front() == expected.answer.front());
    if (same_ids)
      CHECK(got.ids == expected.answer);
  }
}

constexpr double f32_tolerance = 2e-4;
constexpr double bf16_tolerance = 3e-2; // 8 bits of mantissa through all layers

} // namespace

TEST_CASE("the reader in bf16 gives the reference's embeddings and logits within its rounding") {
  check_golden("cpu", element_kind::bf16, bf16_tolerance, false);
}

TEST_CASE("CUDA: the reader gives the reference's embeddings and logits and answers in f32") {
  if (cuda_or_skip())
    check_golden("cuda", element_kind::f32, f32_tolerance, true);
}

TEST_CASE("CUDA: the reader gives the reference's embeddings and logits within bf16's rounding") {
  if (cuda_or_skip())
    check_golden("cuda", element_kind::bf16, bf16_tolerance, false);
}
