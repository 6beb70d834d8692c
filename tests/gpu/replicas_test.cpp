#include "protocols/mesh/replicas.hpp"

#include <random>

#include "tests/gpu/golden_cases.hpp"
#include "tests/gpu/model_support.hpp"

using namespace troupe;
using namespace troupe::tests;

namespace {

constexpr std::uint32_t members = 2;

/// What two ranks of a mesh hold of a page's prompt, run in two pieces with another prompt's piece between them, after
/// `change` has had its way with the rows that each was given.
std::vector<protocols::replica> replicas_of(const std::function<void(std::uint32_t, std::vector<float>&)>& change) {
  const auto folder = take(models::open_folder(reader_folder));
  const auto& facts = folder->facts();
  const golden_case& page = golden_cases()[0];
  const auto length = static_cast<std::uint32_t>(page.prompt.size());
  const auto first = page.picture.first_token + page.picture.tokens;
  const auto blocks = blocks_from(0, (length + 15) / 16);
  const auto others = blocks_from((length + 15) / 16, 1);
  const auto mesh = make_mesh(members);
  std::vector<protocols::replica> all(members);

  on_ranks(members, [&](std::uint32_t r) -> protocols::result<void> {
    const models::shard part{.tensor_parallel = members, .mesh_rank = r};
    const auto layout = models::layout_of(facts, part, 512);
    std::vector<std::byte> pool(layout.bytes());
    auto model = take(folder->load_text(part, layout, pool));
    std::vector<float> rows(std::size_t{page.picture.tokens} * facts.row_elements());
    std::mt19937 from{17};
    for (float& each : rows)
      each = std::uniform_real_distribution<float>{-1.0F, 1.0F}(from);
    change(r, rows);

    const models::text_model::rows_at picture{page.picture.first_token, page.picture.tokens,
                                              on_host(rows, facts.row_elements())};
    std::vector<float> logits(facts.vocabulary);
    const auto ids = std::span{page.prompt};
    const auto positions = std::span{page.positions};
    using sequence = models::text_model::sequence;
    const std::array<sequence, 3> pieces{
        sequence{.ids = ids.first(first),
                 .positions = positions.first(first),
                 .context = 0,
                 .blocks = blocks,
                 .pictures = {&picture, 1},
                 .wants_logits = false},
        sequence{.ids = ids.first(2), .positions = positions.first(2), .context = 0, .blocks = others, .pictures = {}},
        sequence{.ids = ids.subspan(first),
                 .positions = positions.subspan(first),
                 .context = first,
                 .blocks = blocks,
                 .pictures = {},
                 .wants_logits = true}};
    for (std::uint32_t i = 0; i < pieces.size(); ++i) {
      const bool last = i + 1 == pieces.size();
      auto done = mesh[r]->begin(protocols::call_id{i + 1}, "prefill", model->mesh_collectives(last) + (last ? 1 : 0));
      if (done)
        done = model->begin(std::span{pieces}.subspan(i, 1), nullptr, std::span{logits}.first(last ? logits.size() : 0),
                            mesh[r].get());
      if (done && last)
        done = model->gather_replicas(*mesh[r], r == 0 ? std::span{all} : std::span<protocols::replica>{});
      done = done.and_then([&] { return model->finish(); }).and_then([&] { return mesh[r]->end(); });
      if (!done)
        return done;
    }
    return {};
  });
  return all;
}

const std::vector<protocols::rank_id> ranks{protocols::rank_id{0}, protocols::rank_id{1}};

} // namespace

TEST_CASE("G9: the ranks of a mesh hold the same of a prompt in pieces, and it is something") {
  const auto all = replicas_of([](std::uint32_t, std::vector<float>&) {});
  CHECK_FALSE(protocols::compare_replicas(all, ranks));
  CHECK(all[0].rows != 0);
  CHECK(all[0].rows == all[1].rows);
  CHECK(all[0].hidden[0] != 0.0F);
  CHECK(all[0].hidden == all[1].hidden); // sums are taken in member order
}

TEST_CASE("G9: one bit of one row that came otherwise to one rank is found at the end of the prompt") {
  const auto all = replicas_of([](std::uint32_t r, std::vector<float>& rows) {
    if (r == 1)
      rows[rows.size() / 2] = std::nextafter(rows[rows.size() / 2], 2.0F);
  });
  const auto found = protocols::compare_replicas(all, ranks);
  REQUIRE(found);
  CHECK(found->starts_with("embedding rows: rank 1 holds others than rank 0 "));
}
