#pragma once

#include <algorithm>
#include <bit>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include "actors/mesh_executor.hpp"
#include "fabric/connect.hpp"
#include "gpu/cpu/cpu_stream.hpp"

/// A cell whose ranks are threads of this process, with real groups over shared-memory lanes.
namespace troupe::tests {

using namespace std::chrono_literals;

inline constexpr std::uint32_t vocabulary = 64;
inline constexpr std::uint32_t hidden = 4;

/// A model that answers a token with the next one, and can only do so with every rank of its mesh and every stage: each
/// mesh rank brings its share of the logits, and the value of a token reaches the last stage through the hidden states.
class counting_model final : public gpu::models::text_model {
public:
  /// What stood in one sequence of a step.
  struct seen {
    std::uint32_t step = 0;
    std::size_t ids = 0;
    std::uint32_t context = 0;
    bool operator==(const seen&) const = default;
  };

  explicit counting_model(gpu::models::shard part) : part_(part) {}

  std::function<protocols::result<void>()> before_forward; ///< a fault that a test plants
  std::function<bool(protocols::token_id)> breaks_at;      ///< what follows this token has no finite logits
  std::vector<seen> log;
  gpu::models::capture_counts captures;                   ///< of its running batch
  std::shared_ptr<const gpu::stream_event> stands_behind; ///< its `ready`
  std::uint32_t finished = 0;

  protocols::result<void> finish() override {
    ++finished;
    return {};
  }
  std::shared_ptr<const gpu::stream_event> ready() const override { return stands_behind; }
  protocols::replica holds; ///< of every prompt
  protocols::result<void> gather_replicas(gpu::group& mesh, std::span<protocols::replica> all) override {
    const auto mine = std::bit_cast<std::array<float, sizeof holds / sizeof(float)>>(holds);
    std::vector<float> gathered(mine.size() * mesh.size());
    auto done = mesh.all_gather(mine, gathered);
    if (done && !all.empty())
      std::ranges::copy(std::as_bytes(std::span{gathered}), std::as_writable_bytes(all).begin());
    return done;
  }

  const gpu::models::kv_layout& kv() const noexcept override { return layout_; }
  std::uint32_t mesh_collectives(bool any_logits) const noexcept override {
    return part_.last_stage() && any_logits ? 2 : 1;
  }
  protocols::result<void> begin(std::span<const sequence> batch, gpu::models::stage_hops* hops, std::span<float> logits,
                                gpu::group* mesh) override {
    if (before_forward)
      if (auto planted = before_forward(); !planted)
        return planted;
    ++steps_;
    float rows = 1;
    if (mesh)
      if (auto done = mesh->all_reduce_sum({&rows, 1}); !done)
        return done;
    std::size_t tokens = 0;
    for (const auto& one : batch)
      tokens += one.ids.size();
    states_.assign(tokens * hidden, 0.0F);
    const gpu::tensor_view states{states_.data(),
                                  gpu::element_kind::f32,
                                  gpu::device_kind::cpu,
                                  {static_cast<std::int64_t>(tokens), std::int64_t{hidden}}};
    if (!part_.first_stage())
      if (auto came = hops->receive(stream_, states); !came)
        return came;
    // Where nobody reads them the sum over them is taken all the same.
    std::vector<float> unread;
    if (logits.empty() && part_.last_stage()) {
      unread.resize(static_cast<std::size_t>(std::ranges::count_if(batch, &sequence::wants_logits)) * vocabulary);
      logits = unread;
    }
    std::size_t token = 0;
    std::size_t wanted = 0;
    std::ranges::fill(logits, 0.0F);
    for (const auto& one : batch) {
      log.push_back({steps_, one.ids.size(), one.context});
      for (const auto& id : one.ids) {
        const float value = part_.first_stage() ? static_cast<float>(id) : states_[token * hidden];
        states_[token * hidden] = value;
        ++token;
        if (part_.last_stage() && one.wants_logits && &id == &one.ids.back())
          logits[wanted++ * vocabulary + static_cast<std::size_t>(value + 1) % vocabulary] =
              breaks_at && breaks_at(id) ? std::numeric_limits<float>::quiet_NaN() : 1.0F / rows;
      }
    }
    if (!part_.last_stage())
      if (auto gone = hops->send(stream_, states); !gone)
        return gone;
    return mesh && !logits.empty() ? mesh->all_reduce_sum(logits) : protocols::result<void>{};
  }

  std::function<void(protocols::token_id&)> change_choice; ///< a rank that decides differently, of its running batch
  protocols::result<std::unique_ptr<gpu::models::running_batch>> open_batch(const gpu::models::batch_options& how,
                                                                            gpu::group* mesh) override;

private:
  gpu::models::shard part_;
  gpu::cpu::cpu_stream stream_;
  std::vector<float> states_; ///< of a step's tokens
  gpu::models::kv_layout layout_;
  std::uint32_t steps_ = 0;
};

/// Steps of `counting_model`, which are over when they have begun.
class counting_batch final : public gpu::models::running_batch {
public:
  counting_batch(counting_model& with, std::uint32_t rows_max, bool on_mesh)
      : with_(with), rows_(rows_max), on_mesh_(on_mesh) {}

  protocols::result<std::uint32_t> join(const joining& who) override {
    const auto place = std::ranges::find_if(rows_, [](const auto& row) { return !row; }) - rows_.begin();
    rows_.at(static_cast<std::size_t>(place)) = going{.newest = who.newest, .context = who.context};
    ++size_;
    return static_cast<std::uint32_t>(place);
  }
  protocols::result<void> leave(std::uint32_t place) override {
    rows_.at(place).reset();
    --size_;
    return {};
  }
  std::uint32_t size() const noexcept override { return size_; }
  gpu::models::capture_counts captures() const noexcept override { return with_.captures; }
  std::uint32_t collectives() const noexcept override { return on_mesh_ ? with_.mesh_collectives(true) : 0; }

  protocols::result<void> step(gpu::group* mesh) override {
    std::vector<gpu::models::text_model::sequence> batch;
    std::vector<chosen> tokens;
    for (std::uint32_t place = 0; place < rows_.size(); ++place)
      if (rows_[place]) {
        batch.push_back({.ids = {&rows_[place]->newest, 1},
                         .positions = {},
                         .context = rows_[place]->context,
                         .blocks = {},
                         .pictures = {},
                         .wants_logits = true});
        tokens.push_back({place});
      }
    std::vector<float> logits(batch.size() * vocabulary);
    if (auto done = with_.forward(batch, nullptr, logits, mesh); !done)
      return done;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      auto& row = *rows_[tokens[i].place];
      tokens[i].id = gpu::models::choose(std::span{logits}.subspan(i * vocabulary, vocabulary), {}, 0);
      if (with_.change_choice)
        with_.change_choice(tokens[i].id);
      row.newest = std::max(tokens[i].id, 0);
      ++row.context;
    }
    REQUIRE(on_their_way_.size() < steps_ahead_max);
    on_their_way_.push_back(std::move(tokens));
    return {};
  }
  protocols::result<std::span<const chosen>> collect(protocols::time_point) override {
    REQUIRE_FALSE(on_their_way_.empty());
    collected_ = std::move(on_their_way_.front());
    on_their_way_.pop_front();
    return collected_;
  }

private:
  struct going {
    protocols::token_id newest = 0;
    std::uint32_t context = 0;
  };
  counting_model& with_;
  std::vector<std::optional<going>> rows_;
  bool on_mesh_;
  std::uint32_t size_ = 0;
  std::deque<std::vector<chosen>> on_their_way_;
  std::vector<chosen> collected_;
};

inline protocols::result<std::unique_ptr<gpu::models::running_batch>>
counting_model::open_batch(const gpu::models::batch_options& how, gpu::group* mesh) {
  return std::make_unique<counting_batch>(*this, how.rows_max, mesh != nullptr);
}

class executor_company {
public:
  explicit executor_company(std::uint32_t tensor_parallel, std::uint32_t pipeline_parallel = 1,
                            protocols::duration deadline = 10s)
      : size(tensor_parallel * pipeline_parallel), ends(size), prefilled(size), moments(size), finished_before(size) {
    cell.role = protocols::role_kind::decode;
    cell.tensor_parallel = tensor_parallel;
    cell.pipeline_parallel = pipeline_parallel;
    for (std::uint32_t place = 0; place < size; ++place)
      cell.ranks.emplace_back(10 + place);
    lanes = make_lanes("cell", cell.ranks);
    for (std::uint32_t stage = 0; stage < pipeline_parallel && pipeline_parallel > 1; ++stage) {
      const auto first = cell.ranks.begin() + stage * tensor_parallel;
      const auto mesh = make_lanes("stage", {first, first + tensor_parallel});
      mesh_lanes.insert(mesh_lanes.end(), mesh.begin(), mesh.end());
    }
    for (std::uint32_t place = 0; place < size; ++place) {
      boards.push_back(std::make_unique<actors::admission_board>());
      models.push_back(std::make_shared<counting_model>(
          gpu::models::shard{tensor_parallel, cell.mesh_rank_of(place), pipeline_parallel, cell.stage_of(place)}));
      auto& part = parts.emplace_back();
      part.cell = cell;
      part.place = place;
      if (size > 1) {
        part.plans.emplace(lanes[place]);
        part.cell_group = group_on(lanes[place], deadline);
      }
      if (tensor_parallel > 1)
        part.mesh = pipeline_parallel == 1 ? part.cell_group : group_on(mesh_lanes[place], deadline);
      part.facts.hidden = hidden;
      part.facts.vocabulary = vocabulary;
      part.facts.merge = 1;
      part.text = models.back();
      part.batch_max = 4;
      part.step_deadline = deadline;
    }
  }
  ~executor_company() { finish(); }

  /// After this nothing of `parts` is changed any more.
  void assemble() {
    for (std::uint32_t place = 0; place < size; ++place)
      executors.push_back(std::make_unique<actors::mesh_executor>(parts[place], events_of(place), *boards[place]));
  }
  /// Assembles; each rank on its thread; one that fails leaves, and its lanes with it, as a process would.
  void start(const std::vector<std::uint32_t>& absent = {}) {
    assemble();
    for (std::uint32_t place = 0; place < size; ++place)
      if (std::ranges::find(absent, place) == absent.end())
        threads.emplace_back([this, place] {
          auto end = executors[place]->warm();
          if (end)
            end = executors[place]->run();
          if (!end)
            leave(place);
          const std::lock_guard lock{mutex};
          ends[place] = end;
          changed.notify_all();
        });
  }
  void order(actors::mesh_executor::any_order what) { REQUIRE(executors[0]->order(std::move(what))); }
  /// Stops the leader and waits for everybody.
  void finish() {
    if (!executors.empty())
      executors[0]->stop();
    for (auto& each : threads)
      each.join();
    threads.clear();
  }
  /// Waits for what the leader's events bring; `wanted` is asked under `mutex`.
  bool until(const std::function<bool()>& wanted) {
    std::unique_lock lock{mutex};
    return changed.wait_for(lock, 20s, wanted);
  }
  void leave(std::uint32_t place) {
    for (auto* each : {&lanes, &mesh_lanes})
      if (place < each->size())
        for (auto& lane : (*each)[place]->to)
          if (lane)
            lane->close();
  }

  protocols::cell_plan cell;
  std::uint32_t size;
  std::vector<std::shared_ptr<gpu::group_lanes>> lanes;
  std::vector<std::shared_ptr<gpu::group_lanes>> mesh_lanes; ///< of a cell of several stages
  std::vector<std::unique_ptr<actors::admission_board>> boards;
  std::vector<std::shared_ptr<counting_model>> models;
  std::vector<actors::mesh_executor::parts> parts; ///< by place
  std::vector<std::unique_ptr<actors::mesh_executor>> executors;
  std::vector<std::thread> threads;

  std::mutex mutex;
  std::condition_variable changed;
  // Guarded by `mutex`.
  std::vector<std::optional<protocols::result<void>>> ends; ///< by place, once its thread has ended
  std::vector<std::uint32_t> prefilled;                     ///< by place: prompts that have run whole
  std::vector<actors::mesh_executor::moment> moments;       ///< by place: of the newest of them
  std::vector<std::uint32_t> finished_before;               ///< by place: passes that the host had waited for by then
  std::vector<std::vector<protocols::admission>> votes;
  std::vector<protocols::token_id> first_tokens;
  std::vector<protocols::request_id> left;
  struct given_up {
    protocols::request_id request;
    protocols::failure cause;
    bool ran_whole = false;
    bool operator==(const given_up&) const = default;
  };
  std::vector<given_up> given_up_ones;
  protocols::result<void> sink_says; ///< to every token
  std::vector<protocols::token_event> tokens;

private:
  static std::vector<std::shared_ptr<gpu::group_lanes>> make_lanes(const std::string& name,
                                                                   std::vector<protocols::rank_id> members) {
    const auto count = static_cast<std::uint32_t>(members.size());
    const protocols::group_plan plan{.id = protocols::group_id{1}, .name = name, .members = std::move(members)};
    std::vector<std::shared_ptr<gpu::group_lanes>> all;
    for (std::uint32_t i = 0; i < count; ++i) {
      all.push_back(std::make_shared<gpu::group_lanes>(gpu::group_lanes{.plan = plan, .self = i, .to = {}}));
      all.back()->to.resize(count);
    }
    for (std::uint32_t i = 0; i < count; ++i)
      for (std::uint32_t j = i + 1; j < count; ++j)
        std::tie(all[i]->to[j], all[j]->to[i]) = fabric::make_shared_memory_pair({});
    return all;
  }
  static std::shared_ptr<gpu::group> group_on(const std::shared_ptr<gpu::group_lanes>& on,
                                              protocols::duration deadline) {
    return std::make_shared<gpu::group>(on->plan, on->self, gpu::make_host_backend(on), deadline);
  }

  actors::mesh_executor::events events_of(std::uint32_t place) {
    const auto note = [this](auto change) {
      const std::lock_guard lock{mutex};
      change();
      changed.notify_all();
    };
    return {.on_voted =
                [=, this](protocols::request_id, std::vector<protocols::admission> minimum) {
                  note([&] { votes.push_back(std::move(minimum)); });
                },
            .on_encoded = [](protocols::room_id, actors::mesh_executor::moment) {},
            .on_tower_ended = [](protocols::room_id, protocols::time_point) {},
            .on_prefilled =
                [=, this](const protocols::prefill_step&, actors::mesh_executor::moment ready) {
                  note([&] {
                    ++prefilled[place];
                    moments[place] = std::move(ready);
                    finished_before[place] = models[place]->finished;
                  });
                },
            .on_first_token = [=, this](protocols::request_id, protocols::token_id first, std::int32_t, std::uint64_t,
                                        protocols::time_point) { note([&] { first_tokens.push_back(first); }); },
            .on_left = [=, this](protocols::request_id request) { note([&] { left.push_back(request); }); },
            .on_given_up =
                [=, this](protocols::request_id request, const protocols::failure& cause, bool ran_whole) {
                  note([&] { given_up_ones.push_back({request, cause, ran_whole}); });
                },
            .on_tokens = [=, this](std::span<const protocols::token_event> step) -> protocols::result<void> {
              note([&] { tokens.insert(tokens.end(), step.begin(), step.end()); });
              return sink_says;
            }};
  }
};

} // namespace troupe::tests
