#include "gpu/cpu/cpu_operations.hpp"
#include "gpu/models/config.hpp"
#include "gpu/models/families/decode_batch.hpp"
#include "gpu/models/families/vision_tower.hpp"
#include "gpu/models/pictures/picture.hpp"
#include "tests/gpu/cuda_support.hpp"
#include "tests/gpu/golden_cases.hpp"

// What is captured, how much of it, and that it gives the same bits. On a CPU streams claim to gain by capture here,
// and keep the work as a device does.

using namespace troupe;
using namespace troupe::tests;
using gpu::element_kind;

namespace {

struct reader_files {
  models::model_config config = take(models::read_config(reader_folder));
  models::normalisation pixels = take(models::read_normalisation(reader_folder));
  std::unique_ptr<const models::tensor_files> weights = take(models::tensor_files::open_folder(reader_folder));
};
const reader_files& reader() {
  static const reader_files files;
  return files;
}

class tower {
public:
  tower(std::shared_ptr<const gpu::operations> run, element_kind element,
        const std::atomic<bool>* captures = &gpu::models::always_captured)
      : model_(take(models::vision_tower::load(reader().config, reader().pixels, *reader().weights, std::move(run), {},
                                               {.element = element, .captures = captures}))) {}

  /// A gray page of a size, its shade by `number`.
  std::vector<float> encode(std::uint32_t height, std::uint32_t width, int number) {
    const std::uint32_t side = reader().config.facts.patch_pixels * reader().config.facts.merge;
    std::vector<std::byte> rgb(std::size_t{height} * width * 3);
    for (std::size_t i = 0; i < rgb.size(); ++i)
      rgb[i] = static_cast<std::byte>((i * 7 + static_cast<std::size_t>(number) * 31) % 251);
    std::vector<float> rows(std::size_t{height / side} * (width / side) * reader().config.facts.row_elements());
    take(model_->encode({rgb, height, width, on_host(rows, reader().config.facts.row_elements())}, nullptr));
    return rows;
  }
  models::capture_counts captures() const { return model_->captures(); }

private:
  std::unique_ptr<models::vision_model> model_;
};

void check_tower(const std::shared_ptr<const gpu::operations>& run, element_kind element) {
  const std::atomic<bool> nothing = false;
  tower captured{run, element};
  tower eager{run, element, &nothing};
  const std::uint32_t side = reader().config.facts.patch_pixels * reader().config.facts.merge;
  const auto same = [&](std::uint32_t rows, std::uint32_t columns, int number) {
    CAPTURE(rows);
    CAPTURE(number);
    CHECK(captured.encode(rows * side, columns * side, number) == eager.encode(rows * side, columns * side, number));
  };
  using counts = models::capture_counts;
  same(4, 6, 1);
  CHECK(captured.captures() == counts{.graphs = 0, .eager = 1}); // the first of a size
  same(4, 6, 2);
  CHECK(captured.captures() == counts{.graphs = 1, .eager = 1});
  same(4, 6, 3);
  same(2, 3, 4);
  same(2, 3, 5);
  CHECK(captured.captures() == counts{.graphs = 2, .eager = 2});

  same(6, 8, 6); // larger than all before: the memory that was captured is left for another
  CHECK(captured.captures() == counts{.graphs = 0, .eager = 3});
  same(4, 6, 7);
  same(2, 3, 8);
  CHECK(captured.captures() == counts{.graphs = 2, .eager = 3});

  const auto most = static_cast<std::uint32_t>(protocols::limits::tower_sizes_max);
  for (std::uint32_t i = 0; i < most - 1; ++i) // sizes that come once, as many as drive the two oldest out
    same(1, 1 + i, 9);
  CHECK(captured.captures() == counts{.graphs = 1, .eager = 3 + most - 1});
  same(4, 6, 10); // comes anew
  CHECK(captured.captures().eager == 3 + most);
  CHECK(eager.captures() == counts{.graphs = 0, .eager = 8 + most});
}

void check_batch(const std::shared_ptr<const gpu::operations>& run) {
  const auto layout = models::layout_of(reader().config.facts, {}, 1024);
  const auto pool = take(run->allocate(layout.bytes()));
  const auto model =
      take(models::text_decoder::load(reader().config, *reader().weights, run, {}, layout,
                                      {pool->data(), pool->bytes()}, element_kind::f32, std::chrono::seconds{10}));
  using counts = models::capture_counts;
  for (const bool capture : {true, false}) {
    CAPTURE(capture);
    const auto batch = take(model->open_batch({.rows_max = 6, .capture = capture}, nullptr));
    CHECK(batch->captures() == (capture ? counts{.graphs = 4, .eager = 0} : counts{})); // 1, 2, 4 and 6 rows
    const std::vector<protocols::block_index> blocks{protocols::block_index{1}, protocols::block_index{2}};
    take(batch->join({.newest = 5, .context = 3, .blocks = blocks, .sampling = {}}));
    for (int i = 0; i < 3; ++i) {
      take(batch->step(nullptr));
      take(batch->collect(base::now() + std::chrono::seconds{10}));
    }
    CHECK(batch->captures() == (capture ? counts{.graphs = 4, .eager = 0} : counts{.graphs = 0, .eager = 3}));
  }
}

} // namespace

TEST_CASE("G5, G11: a tower captures a size when it comes again, keeps the last ones, and gives the same bits") {
  check_tower(gpu::cpu::make_operations(true), element_kind::f32);
}

TEST_CASE("G5: on a CPU nothing is captured and nothing counts as a run without") {
  tower plain{gpu::cpu::make_operations(), element_kind::f32};
  for (int i = 0; i < 3; ++i)
    plain.encode(64, 64, i);
  CHECK(plain.captures() == models::capture_counts{});
}

TEST_CASE("CUDA: a tower captures a size when it comes again and gives the same bits (G5, G11)") {
  const auto run = cuda_or_skip();
  if (!run)
    return;
  check_tower(run, element_kind::f32);
  check_tower(run, element_kind::bf16);
}

TEST_CASE("G4, G5: a running batch captures each size of step once and runs none without, unless told") {
  check_batch(gpu::cpu::make_operations(true));
}

TEST_CASE("CUDA: a running batch captures each size of step once and runs none without, unless told (G4, G5)") {
  if (const auto run = cuda_or_skip())
    check_batch(run);
}
