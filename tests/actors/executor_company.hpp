#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include "actors/serve/executor_actor.hpp"
#include "fabric/lanes/connect.hpp"
#include "protocols/serve/roles.hpp"
#include "tests/actors/counting_model.hpp"

/// A cell whose ranks are executors of this process, with real groups over shared-memory lanes.
namespace troupe::tests {

using namespace std::chrono_literals;

/// What one rank of a company is made of.
struct company_rank {
  gpu::step_runner::parts runs;
  std::optional<gpu::plan_channel> plans;
  base::progress_counter turn;
  protocols::duration nap = 50ms;
};

class executor_company {
public:
  using machine = protocols::step_machine;

  explicit executor_company(std::uint32_t tensor_parallel, std::uint32_t pipeline_parallel = 1,
                            protocols::duration deadline = 10s)
      : size(tensor_parallel * pipeline_parallel), ends(size), prefilled(size), moments(size) {
    cell.role = protocols::serve_role::decode;
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
      boards.push_back(std::make_unique<actors::admission_table>());
      models.push_back(std::make_shared<counting_model>(
          gpu::models::shard{tensor_parallel, cell.mesh_rank_of(place), pipeline_parallel, cell.stage_of(place)}));
      auto& part = parts.emplace_back();
      auto& runs = part.runs;
      runs.cell = cell;
      runs.place = place;
      if (size > 1) {
        part.plans.emplace(lanes[place]);
        runs.cell_group = group_on(lanes[place], deadline);
      }
      if (tensor_parallel > 1)
        runs.mesh = pipeline_parallel == 1 ? runs.cell_group : group_on(mesh_lanes[place], deadline);
      runs.facts.hidden = hidden;
      runs.facts.vocabulary = vocabulary;
      runs.facts.merge = 1;
      runs.text = models.back();
      runs.batch_max = 4;
      runs.step_deadline = deadline;
    }
  }
  ~executor_company() {
    finish();
    for (auto& each : executors) // also those that never ran
      caf::anon_send(each, actors::stop_atom::value);
    for (const auto& each : contexts)
      caf::anon_send_exit(*each->roles->find(cell.role), caf::exit_reason::user_shutdown);
    executors.clear();
    system.await_all_actors_done();
    contexts.clear();
  }

  /// After this nothing of `parts` is changed any more.
  void assemble() {
    for (std::uint32_t place = 0; place < size; ++place) {
      auto& rank = *contexts.emplace_back(std::make_unique<actors::rank_context>());
      rank.fail_rank = [this, place](const protocols::failure& cause, const std::string&) {
        leave(place);
        end(place, tl::unexpected<protocols::failure>{cause});
      };
      rank.roles->publish(cell.role, system.spawn([this, place] { return listen(place); }));
      steps.push_back(std::make_shared<actors::cell_steps>(
          rank, actors::cell_steps::parts{.runs = parts[place].runs, .plans = parts[place].plans}, *boards[place]));
      executors.push_back(system.spawn<actors::executor_actor, caf::detached>(
          rank, steps.back(),
          actors::executor_actor::options{.tokens = [this](const auto& step) { return take(step); },
                                          .turn = parts[place].turn,
                                          .nap = parts[place].nap}));
      executors.back()->attach_functor([this, place] { end(place, {}); });
    }
  }
  /// Assembles; each rank warms up and runs; one that fails leaves, and its lanes with it, as a process would.
  void start(const std::vector<std::uint32_t>& absent = {}) {
    assemble();
    for (std::uint32_t place = 0; place < size; ++place)
      if (std::ranges::find(absent, place) == absent.end()) {
        started.push_back(place);
        threads.emplace_back([this, place] {
          if (const auto warm = steps[place]->warm(); !warm)
            contexts[place]->fail_rank(warm.error(), "warm");
          else
            caf::anon_send(executors[place], actors::run_atom::value);
        });
      }
  }
  template <class Order>
  void order(Order what) {
    caf::anon_send(executors[0], std::move(what));
  }
  /// Stops the leader, and waits for everybody and for what they have told.
  void finish() {
    if (executors.empty())
      return;
    for (auto& each : threads)
      each.join();
    threads.clear();
    caf::anon_send(executors[0], actors::stop_atom::value);
    CHECK(until([&] { return std::ranges::all_of(started, [&](auto place) { return ends[place].has_value(); }); }));
    for (const auto& each : contexts)
      caf::anon_send(*each->roles->find(cell.role), actors::tick_atom::value);
    const auto all = (ticks += size);
    CHECK(until([&] { return ticked == all; }));
  }
  /// Waits for what the leader's events bring; `wanted` is asked under `mutex`.
  bool until(const std::function<bool()>& wanted) {
    std::unique_lock lock{mutex};
    return changed.wait_for(lock, 20s, wanted);
  }
  /// Waits until the sequence has left the batch.
  bool until_left(std::uint64_t request) {
    return until([&] { return std::ranges::find(left, protocols::request_id{request}) != left.end(); });
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
  std::vector<std::unique_ptr<actors::admission_table>> boards;
  std::vector<std::shared_ptr<counting_model>> models;
  std::vector<company_rank> parts; ///< by place, as what follows
  std::vector<std::unique_ptr<actors::rank_context>> contexts;
  std::vector<std::shared_ptr<actors::cell_steps>> steps;
  std::vector<caf::actor> executors;

  std::mutex mutex;
  std::condition_variable changed;
  // Guarded by `mutex`.
  std::vector<std::optional<protocols::result<void>>> ends;         ///< by place, once it has ended
  std::vector<std::uint32_t> prefilled;                             ///< by place: prompts that have run whole
  std::vector<std::shared_ptr<const fabric::device_event>> moments; ///< by place: of the newest of them
  std::vector<std::vector<protocols::admission>> votes;
  std::vector<protocols::token_id> first_tokens;
  std::vector<protocols::token_logprob> first_logprobs; ///< of the newest of them
  std::vector<protocols::request_id> left;
  std::vector<machine::given_up> given_up_ones;
  protocols::result<void> sink_says; ///< to every token
  std::vector<protocols::token_event> tokens;
  std::vector<protocols::event_logprobs> logprobs;

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

  template <class Change>
  void note(Change change) {
    const std::lock_guard lock{mutex};
    change();
    changed.notify_all();
  }
  /// Its first cause stays.
  void end(std::uint32_t place, protocols::result<void> how) {
    note([&] {
      if (!ends[place])
        ends[place] = std::move(how);
    });
  }
  protocols::result<void> take(const protocols::tokens& step) {
    note([&] {
      tokens.insert(tokens.end(), step.events.begin(), step.events.end());
      logprobs.insert(logprobs.end(), step.logprobs.begin(), step.logprobs.end());
    });
    return sink_says;
  }
  /// In place of a role's actor.
  caf::behavior listen(std::uint32_t place) {
    return {
        [this](machine::voted& news) { note([&] { votes.push_back(std::move(news.minimum)); }); },
        [](const actors::encoded&) {},
        [](const machine::tower_ended&) {},
        [this, place](actors::prefilled& news) {
          note([&] {
            ++prefilled[place];
            moments[place] = std::move(news.ready);
          });
        },
        [this](const machine::first_token& news) {
          note([&] {
            first_tokens.push_back(news.id);
            first_logprobs = news.logprobs;
          });
        },
        [this](const machine::left_batch& news) { note([&] { left.push_back(news.request); }); },
        [this](const machine::given_up& news) { note([&] { given_up_ones.push_back(news); }); },
        [this](actors::tick_atom) { note([&] { ++ticked; }); },
    };
  }

  std::vector<std::uint32_t> started;
  std::vector<std::thread> threads; ///< in which they warm up
  std::uint32_t ticks = 0;
  std::uint32_t ticked = 0;
  caf::actor_system_config config;
  caf::actor_system system{config}; ///< the first to end: it waits for all actors
};

} // namespace troupe::tests
