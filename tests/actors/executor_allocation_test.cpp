#include "tests/actors/executor_company.hpp"
#include "tests/fabric/heap_watch.hpp"

using namespace troupe;
using namespace troupe::protocols;
using tests::executor_company;

namespace {

constexpr std::uint32_t tokens_each = 300;

/// A batch whose steps cost nothing; at each it notes what its thread has taken from the heap so far.
class still_batch final : public gpu::models::running_batch {
public:
  still_batch(std::uint32_t rows_max, std::vector<std::size_t>& taken) : here_(rows_max), taken_(taken) {
    chosen_.reserve(rows_max);
  }

  result<std::uint32_t> join(const joining&) override {
    const auto free = std::ranges::find(here_, false);
    *free = true;
    return static_cast<std::uint32_t>(free - here_.begin());
  }
  result<void> leave(std::uint32_t place) override {
    here_[place] = false;
    return {};
  }
  std::uint32_t size() const noexcept override { return static_cast<std::uint32_t>(std::ranges::count(here_, true)); }
  std::uint32_t collectives() const noexcept override { return 0; }
  result<void> step(gpu::group*) override {
    taken_.push_back(heap.allocations);
    return {};
  }
  result<std::span<const chosen>> collect(time_point) override {
    chosen_.clear();
    for (std::uint32_t place = 0; place < here_.size(); ++place)
      if (here_[place])
        chosen_.push_back({place, 1});
    return chosen_;
  }

private:
  std::vector<bool> here_;
  std::vector<chosen> chosen_;
  std::vector<std::size_t>& taken_;
};

class still_model final : public gpu::models::text_model {
public:
  still_model() { taken.reserve(std::size_t{4} * tokens_each); }
  const gpu::models::kv_layout& kv() const noexcept override { return layout_; }
  std::uint32_t mesh_collectives(bool) const noexcept override { return 0; }
  result<void> begin(std::span<const sequence>, gpu::models::stage_hops*, std::span<float> logits,
                     gpu::group*) override {
    std::ranges::fill(logits, 0.0F);
    return {};
  }
  result<void> gather_replicas(gpu::group&, std::span<replica>) override { return {}; }
  result<std::unique_ptr<gpu::models::running_batch>> open_batch(const gpu::models::batch_options& how,
                                                                 gpu::group*) override {
    return std::make_unique<still_batch>(how.rows_max, taken);
  }

  std::vector<std::size_t> taken; ///< allocations of the thread that steps, at each step

private:
  gpu::models::kv_layout layout_;
};

} // namespace

TEST_CASE("B15: a decode step allocates nothing, on the leader and on a follower, with a look into the mailbox") {
  for (const std::uint32_t ranks : {1, 2})
    for (const std::uint32_t ahead : {0, 1}) {
      CAPTURE(ranks);
      CAPTURE(ahead);
      executor_company all{ranks};
      std::vector<std::shared_ptr<still_model>> models;
      for (auto& part : all.parts) {
        part.runs.text = models.emplace_back(std::make_shared<still_model>());
        part.runs.steps_ahead = ahead;
      }
      all.tokens.reserve(std::size_t{8} * tokens_each);
      all.start();
      for (std::uint64_t request = 1; request <= 3; ++request)
        all.order(decode_leader_machine::join_batch{.sequence = {.request = request_id{request},
                                                                 .context = 5,
                                                                 .position_delta = 0,
                                                                 .blocks = {block_index{0}},
                                                                 .sampling = {}},
                                                    .first_token = 2,
                                                    .max_tokens = tokens_each,
                                                    .end_tokens = {7, 9}});
      REQUIRE(all.until([&] { return all.left.size() == 3; }));
      all.finish();
      for (const auto& model : models) {
        REQUIRE(model->taken.size() > tokens_each - 20);
        CHECK(model->taken[20] == model->taken[tokens_each - 20]);
      }
    }
}
