#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <caf/all.hpp>

#include "actors/serve/executor_actor.hpp"
#include "gpu/models/families/decode_batch.hpp"
#include "protocols/serve/roles.hpp"
#include "runtime/base/clock.hpp"
#include "tools/bench/must.hpp"
#include "tools/bench/random_model.hpp"

// What the runtime adds to a decode step, and how long the device has nothing to do between two: sequences that the
// real executor_actor decodes, as a decode rank runs it, against a bare loop that launches the same captured graph.
// Both begin at the same context and make as many steps. The device's idle time is what passes between the event behind
// one step and the event before the next; those events cost time themselves, so steps are timed in another run, without
// them.
//   executor_bench [8b|1b|4b] [batch context]

using namespace troupe;
using bench::must;
using namespace troupe::gpu::models;
using clock_type = std::chrono::steady_clock;

namespace {

constexpr std::uint32_t steps = 400;
constexpr std::uint32_t steps_skipped = 20; ///< at either end
constexpr std::uint32_t tokens_each = steps + 1;

/// Events before and behind each step, on the step's own stream.
class step_marks {
public:
  step_marks() : begins_(steps + 8), ends_(begins_.size()) {
    for (auto* const events : {&begins_, &ends_})
      for (cudaEvent_t& each : *events)
        cudaEventCreate(&each);
  }

  template <class Step>
  auto around(cudaStream_t on, const Step& step) {
    const bool room = count_ < begins_.size();
    if (room)
      cudaEventRecord(begins_[count_], on);
    auto outcome = step();
    if (room)
      cudaEventRecord(ends_[count_++], on);
    return outcome;
  }

  /// Of the time from the first of the middle steps to the last, the share that lies between two steps; in per cent.
  double idle() const {
    double between = 0.0;
    float whole = 0.0F;
    cudaEventElapsedTime(&whole, begins_[steps_skipped], ends_[steps - steps_skipped]);
    for (std::size_t i = steps_skipped; i < steps - steps_skipped; ++i) {
      float gap = 0.0F;
      cudaEventElapsedTime(&gap, ends_[i], begins_[i + 1]);
      between += static_cast<double>(gap);
    }
    return 100.0 * between / static_cast<double>(whole);
  }

private:
  std::vector<cudaEvent_t> begins_, ends_;
  std::size_t count_ = 0;
};

cudaStream_t handle_of(gpu::stream& on) {
  return static_cast<gpu::cuda::cuda_stream&>(on).handle();
}

/// A running batch whose steps have marks around them.
class marked_batch final : public running_batch {
public:
  marked_batch(std::unique_ptr<running_batch> with, step_marks* marks) : with_(std::move(with)), marks_(marks) {}

  decode_batch& inner() { return static_cast<decode_batch&>(*with_); }

  protocols::result<std::uint32_t> join(const joining& who) override { return with_->join(who); }
  protocols::result<void> leave(std::uint32_t place) override { return with_->leave(place); }
  std::uint32_t size() const noexcept override { return with_->size(); }
  std::uint32_t collectives() const noexcept override { return with_->collectives(); }
  protocols::result<void> step(gpu::group* mesh) override {
    if (marks_ == nullptr)
      return with_->step(mesh);
    return marks_->around(handle_of(inner().on()), [&] { return with_->step(mesh); });
  }
  protocols::result<std::span<const chosen>> collect(protocols::time_point deadline) override {
    return with_->collect(deadline);
  }

private:
  std::unique_ptr<running_batch> with_;
  step_marks* marks_;
};

/// The model as the executor is given it; its batch stays within reach.
class lent_model final : public text_model {
public:
  lent_model(text_model& with, step_marks* marks) : with_(with), marks_(marks) {}

  decode_batch& batch() { return batch_->inner(); }

  const kv_layout& kv() const noexcept override { return with_.kv(); }
  std::uint32_t mesh_collectives(bool any_logits) const noexcept override { return with_.mesh_collectives(any_logits); }
  protocols::result<void> begin(std::span<const sequence> batch, stage_hops* hops, std::span<float> logits,
                                gpu::group* mesh) override {
    return with_.begin(batch, hops, logits, mesh);
  }
  protocols::result<void> finish() override { return with_.finish(); }
  protocols::result<void> gather_replicas(gpu::group& mesh, std::span<protocols::replica> all) override {
    return with_.gather_replicas(mesh, all);
  }
  protocols::result<std::unique_ptr<running_batch>> open_batch(const batch_options& how, gpu::group* mesh) override {
    return with_.open_batch(how, mesh).map([&](std::unique_ptr<running_batch> opened) {
      auto made = std::make_unique<marked_batch>(std::move(opened), marks_);
      batch_ = made.get();
      return std::unique_ptr<running_batch>{std::move(made)};
    });
  }

private:
  text_model& with_;
  step_marks* marks_;
  marked_batch* batch_ = nullptr;
};

std::vector<protocols::block_index> blocks_of(std::uint32_t row, std::uint32_t rows, std::uint32_t all) {
  std::vector<protocols::block_index> blocks;
  for (std::uint32_t i = 0; i < all / rows; ++i)
    blocks.emplace_back(i * rows + row); // no two neighbours
  return blocks;
}

double median_of(const std::vector<clock_type::time_point>& ends) {
  std::vector<double> taken;
  for (std::size_t i = steps_skipped + 1; i + steps_skipped < ends.size(); ++i)
    taken.push_back(std::chrono::duration<double>(ends[i] - ends[i - 1]).count());
  return bench::median(std::move(taken));
}

struct outcome {
  double mean = 0.0, median = 0.0; ///< seconds a step
};

protocols::decode_leader_machine::join_batch sequence_of(std::uint32_t row, std::uint32_t rows, std::uint32_t context,
                                                         std::uint32_t blocks) {
  return {.sequence = {.request = protocols::request_id{row + 1},
                       .context = context,
                       .position_delta = 0,
                       .blocks = blocks_of(row, rows, blocks),
                       .sampling = {}},
          .first_token = static_cast<protocols::token_id>(row + 1),
          .max_tokens = tokens_each,
          .end_tokens = {}};
}

/// In place of a decode rank's role: stops the executor when all sequences have left.
caf::behavior listen(caf::event_based_actor* self, std::uint32_t rows, const caf::actor* executor) {
  using machine = protocols::step_machine;
  return {
      [self, rows, executor, left = 0u](const machine::left_batch&) mutable {
        if (++left < rows)
          return;
        caf::anon_send(*executor, actors::stop_atom::value);
        self->quit();
      },
      [](const machine::given_up& news) {
        must(protocols::result<void>{tl::unexpected<protocols::failure>{news.cause}});
      },
  };
}

/// `rows` sequences through an executor, from `context` on; then `after` with its batch, which is empty again.
template <class After>
outcome decode(bench::random_model& with, std::uint32_t rows, std::uint32_t context, step_marks* marks,
               const After& after) {
  const auto model = std::make_shared<lent_model>(with.model(), marks);
  const actors::admission_table board;
  std::vector<clock_type::time_point> ends;
  ends.reserve(steps + 8);
  actors::rank_context rank;
  rank.fail_rank = [](const protocols::failure& cause, const std::string&) {
    must(protocols::result<void>{tl::unexpected<protocols::failure>{cause}});
  };
  actors::cell_steps::parts parts;
  auto& runs = parts.runs;
  runs.cell.role = protocols::serve_role::decode;
  runs.cell.tensor_parallel = 1;
  runs.cell.pipeline_parallel = 1;
  runs.cell.ranks = {protocols::rank_id{0}};
  runs.facts = with.config().facts;
  runs.text = model;
  runs.batch_max = rows;
  runs.steps_ahead = 1;
  runs.step_deadline = std::chrono::seconds{10};
  const auto cell = std::make_shared<actors::cell_steps>(rank, std::move(parts), board);
  must(cell->warm());
  const auto note = [&](const protocols::tokens& step) -> protocols::result<void> {
    if (step.events.size() == rows)
      ends.push_back(clock_type::now());
    return {};
  };
  {
    caf::actor_system_config config;
    caf::actor_system system{config}; // whose end waits for the actors'
    const auto executor = system.spawn<actors::executor_actor, caf::detached>(
        rank, cell, actors::executor_actor::options{.tokens = note, .turn = {}});
    rank.roles->publish(protocols::serve_role::decode, system.spawn(listen, rows, &executor));
    for (std::uint32_t row = 0; row < rows; ++row)
      caf::anon_send(executor, sequence_of(row, rows, context, with.blocks()));
    caf::anon_send(executor, actors::run_atom::value);
    system.await_all_actors_done();
    rank.roles.reset();
  }
  if (ends.size() < steps) {
    std::fprintf(stderr, "%zu whole steps of %u\n", ends.size(), steps);
    std::exit(1);
  }
  const std::chrono::duration<double> middle = ends[steps - steps_skipped] - ends[steps_skipped];
  after(model->batch());
  return {.mean = middle.count() / (steps - 2 * steps_skipped), .median = median_of(ends)};
}

/// The same graph and nothing else, from the same context on.
outcome launch_bare(decode_batch& batch, std::uint32_t rows, std::uint32_t context, std::uint32_t blocks,
                    step_marks* marks) {
  const auto soon = [] { return base::now() + std::chrono::seconds{10}; };
  for (std::uint32_t row = 0; row < rows; ++row) {
    const auto own = blocks_of(row, rows, blocks);
    must(batch.join(
        {.newest = static_cast<protocols::token_id>(row + 1), .context = context, .blocks = own, .sampling = {}}));
  }
  must(batch.step(nullptr)); // writes the tables
  must(batch.collect(soon()));
  const auto work = must(batch.on().capture([&] { return batch.run(rows, nullptr); }));
  std::vector<cudaEvent_t> passed(steps);
  for (auto& each : passed)
    cudaEventCreateWithFlags(&each, cudaEventDisableTiming);
  const auto launch = [&] { return batch.on().launch(*work); };
  std::vector<clock_type::time_point> ends;
  for (std::uint32_t i = 0; i < steps; ++i) {
    must(marks != nullptr ? marks->around(handle_of(batch.on()), launch) : launch());
    cudaEventRecord(passed[i], handle_of(batch.on()));
    if (i == 0)
      continue;
    while (cudaEventQuery(passed[i - 1]) == cudaErrorNotReady) {
    }
    ends.push_back(clock_type::now());
  }
  must(batch.on().synchronize());
  for (std::uint32_t place = 0; place < rows; ++place)
    must(batch.leave(place));
  const std::chrono::duration<double> middle = ends[steps - 2 - steps_skipped] - ends[steps_skipped];
  return {.mean = middle.count() / (steps - 2 - 2 * steps_skipped), .median = median_of(ends)};
}

} // namespace

int main(int count, char** arguments) {
  const std::string name = count > 1 ? arguments[1] : "8b";
  const auto number = [&](int place, std::uint32_t otherwise) {
    return count > place ? static_cast<std::uint32_t>(std::strtoul(arguments[place], nullptr, 10)) : otherwise;
  };
  const auto rows = number(2, 8);
  const auto context = number(3, 1024);
  bench::random_model model{must(gpu::cuda::make_operations(0)), name, rows * (context + 2 * tokens_each)};

  outcome bare;
  const auto executor = decode(model, rows, context, nullptr, [&](decode_batch& batch) {
    bare = launch_bare(batch, rows, context, model.blocks(), nullptr);
  });
  step_marks of_executor;
  step_marks of_bare;
  decode(model, rows, context, &of_executor,
         [&](decode_batch& batch) { launch_bare(batch, rows, context, model.blocks(), &of_bare); });
  std::printf("| model | batch | context | executor, ms a step | bare loop, ms | ratio of means | of medians | idle, "
              "executor | idle, bare loop |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
  std::printf("| %s | %u | %u | %.4f | %.4f | %.4f | %.4f | %.3f %% | %.3f %% |\n", name.c_str(), rows, context,
              executor.mean * 1e3, bare.mean * 1e3, executor.mean / bare.mean, executor.median / bare.median,
              of_executor.idle(), of_bare.idle());
  return 0;
}
