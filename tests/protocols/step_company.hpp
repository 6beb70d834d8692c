#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "protocols/limits.hpp"
#include "protocols/serve/step_machine.hpp"

/// A cell of step machines without processes: the leader's and its followers', each with a runner that computes by a
/// rule in place of a model.
namespace troupe::tests {

inline constexpr protocols::token_id words = 64; ///< of the vocabulary

/// What a rank computes: the next token of a sequence follows from its newest and from how far it is, the first from
/// all tokens of the prompt in their order.
class ruled_runner {
public:
  using machine = protocols::step_machine;

  explicit ruled_runner(std::uint32_t rank, std::uint32_t batch_max) : rank_(rank), places_(batch_max) {}

  std::optional<protocols::token_id> breaks_at; ///< what follows this token is not finite
  std::uint32_t batch_most = 0;                 ///< sequences of a step
  /// In a chain of stages, the answers that choices depend on, as they were told last, by their first token.
  std::map<protocols::token_id, std::vector<protocols::token_id>> answers;

  static protocols::token_id next(protocols::token_id newest, std::uint32_t context) {
    return static_cast<protocols::token_id>((static_cast<std::uint32_t>(newest) * 7 + context * 11 + 3) % words);
  }
  static protocols::token_id first_of(std::uint64_t digest) { return static_cast<protocols::token_id>(digest % words); }
  static std::uint64_t read(std::uint64_t digest, protocols::token_id id) {
    return digest * 31 + static_cast<std::uint64_t>(id) + 1;
  }
  /// What this rank knows of a room.
  static protocols::admission known(protocols::room_id room, std::uint32_t rank) {
    return static_cast<protocols::admission>((room.value * 7 + rank * (room.value % 5 == 0 ? 1 : 0)) % 3);
  }

  void run(const protocols::mesh_plan& plan, const protocols::step_work& work, protocols::step_outcome& out) {
    out.clear();
    switch (plan.kind) {
    case protocols::plan_kind::vote:
      for (const auto room : plan.rooms)
        out.votes.push_back(static_cast<std::int32_t>(known(room, rank_)));
      break;
    case protocols::plan_kind::prefill:
      read_piece(plan.prefill, out);
      break;
    case protocols::plan_kind::decode:
      change(plan.decode, work);
      if (work.rows.empty())
        step(work, out);
      else
        step_chain(plan.decode, work, out);
      break;
    case protocols::plan_kind::warm:
    case protocols::plan_kind::encode:
    case protocols::plan_kind::stop:
      break;
    }
  }

  /// A step that nobody has collected reads and writes this sequence's blocks.
  bool uses(protocols::request_id request) const {
    return std::ranges::any_of(under_way_, [&](const auto& step) {
      return std::ranges::any_of(step, [&](const auto& each) { return each.request == request; });
    });
  }

private:
  struct going {
    protocols::request_id request;
    protocols::token_id newest = 0;
    std::uint32_t context = 0;
    std::size_t room = 0;   ///< tokens of its blocks
    std::uint32_t told = 0; ///< log-probabilities of each token
  };
  struct told_of { ///< by a step of the batch
    std::uint32_t place = 0;
    protocols::token_id id = 0;
    protocols::request_id request;
    std::uint32_t told = 0;
  };

  /// Log-probabilities by which a token is known again: its own, then those of the tokens after it.
  static void tell(protocols::token_id id, std::uint32_t count, protocols::step_outcome& out) {
    for (std::uint32_t i = 0; i < count; ++i)
      out.logprobs.push_back({id + static_cast<protocols::token_id>(i), -static_cast<float>(i)});
  }

  protocols::token_id follow(protocols::token_id newest, std::uint32_t context) const {
    return newest == breaks_at ? machine::not_finite : next(newest, context);
  }

  void read_piece(const protocols::prefill_step& piece, protocols::step_outcome& out) {
    auto& [tokens, digest] = prompts_[piece.request];
    REQUIRE(piece.begin == tokens);
    REQUIRE(piece.positions.size() == piece.ids.size());
    for (const auto id : piece.ids)
      digest = read(digest, id);
    tokens += static_cast<std::uint32_t>(piece.ids.size());
    if (piece.last) {
      out.chosen.push_back(piece.ids.back() == breaks_at ? machine::not_finite : first_of(digest));
      tell(out.chosen.back(), piece.sampling.rules.told(), out);
    }
  }

  /// As a running batch gives places: the lowest that is free.
  void change(const protocols::decode_step& plan, const protocols::step_work& work) {
    if (!work.rows.empty())
      return;
    for (const auto place : work.leaves)
      places_.at(place).reset();
    REQUIRE(work.joins.size() == plan.joins.size());
    for (std::size_t i = 0; i < plan.joins.size(); ++i) {
      const auto free = std::ranges::find_if(places_, [](const auto& each) { return !each; });
      REQUIRE(free != places_.end());
      REQUIRE(free - places_.begin() == work.joins[i]);
      *free = going{.request = plan.joins[i].request,
                    .newest = plan.ids[plan.ids.size() - plan.joins.size() + i],
                    .context = plan.joins[i].context,
                    .room = plan.joins[i].blocks.size() * protocols::limits::kv_block_tokens,
                    .told = plan.joins[i].sampling.rules.told()};
    }
  }

  void step(const protocols::step_work& work, protocols::step_outcome& out) {
    if (work.steps) {
      auto& chosen = under_way_.emplace_back();
      for (std::uint32_t place = 0; place < places_.size(); ++place)
        if (auto& one = places_[place]) {
          const bool rests = one->context >= one->room;
          chosen.push_back(
              {place, rests ? machine::no_token : follow(one->newest, one->context), one->request, one->told});
          if (rests)
            continue;
          one->newest = std::max(chosen.back().id, 0);
          ++one->context;
        }
      batch_most = std::max(batch_most, static_cast<std::uint32_t>(chosen.size()));
      std::ranges::reverse(chosen); // in no particular order
    }
    for (; out.collected < work.collects; ++out.collected) {
      REQUIRE_FALSE(under_way_.empty());
      for (const auto& each : under_way_.front()) {
        out.tokens.push_back(
            {out.collected, each.place, each.id, static_cast<std::uint32_t>(out.logprobs.size()), each.told});
        tell(each.id, each.told, out);
      }
      under_way_.pop_front();
    }
  }

  void step_chain(const protocols::decode_step& plan, const protocols::step_work& work, protocols::step_outcome& out) {
    REQUIRE(work.rows.size() == plan.ids.size());
    for (std::size_t i = 0; i < plan.ids.size(); ++i) {
      out.chosen.push_back(follow(plan.ids[i], work.rows[i].context));
      tell(out.chosen.back(), work.rows[i].sampling->rules.told(), out);
      answers[work.rows[i].answer.empty() ? protocols::token_id{-1} : work.rows[i].answer.front()] = {
          work.rows[i].answer.begin(), work.rows[i].answer.end()};
    }
  }

  std::uint32_t rank_;
  std::vector<std::optional<going>> places_;
  std::deque<std::vector<told_of>> under_way_;
  std::map<protocols::request_id, std::pair<std::uint32_t, std::uint64_t>> prompts_; ///< tokens read, and their digest
};

struct company_shape {
  std::uint32_t ranks = 1;
  std::uint32_t stages = 1;
  std::uint32_t batch_max = 4;
  std::uint32_t steps_ahead = 0;
};

class step_company {
public:
  using machine = protocols::step_machine;

  explicit step_company(const company_shape& of) {
    cell.tensor_parallel = of.ranks / of.stages;
    cell.pipeline_parallel = of.stages;
    for (std::uint32_t place = 0; place < of.ranks; ++place)
      cell.ranks.emplace_back(10 + place);
    const machine::options bounds{.vocabulary = static_cast<std::uint32_t>(words),
                                  .merge = 1,
                                  .batch_max = of.batch_max,
                                  .steps_ahead = of.steps_ahead};
    for (std::uint32_t place = 0; place < of.ranks; ++place) {
      machines.emplace_back(cell, place, bounds);
      runners.emplace_back(place, of.batch_max);
    }
  }

  machine& leader() { return machines.front(); }

  /// Orders, each with what came of it at once.
  void vote(std::uint64_t request, std::vector<protocols::room_id> rooms) {
    take(leader().on_vote({protocols::request_id{request}, std::move(rooms)}));
  }
  void prefill(protocols::prefill_leader_machine::run_prefill what) { take(leader().on_prefill(std::move(what))); }
  void join(protocols::decode_leader_machine::join_batch what) { take(leader().on_join(std::move(what))); }
  void leave(std::uint64_t request) { take(leader().on_leave(protocols::request_id{request})); }

  /// One plan, on every rank; nothing: there was none.
  std::optional<protocols::mesh_plan> step() {
    const auto* const next = leader().next(now);
    if (next == nullptr)
      return std::nullopt;
    const auto plan = *next;
    std::vector<protocols::step_outcome> outcomes(machines.size());
    for (std::size_t place = 0; place < machines.size(); ++place) {
      REQUIRE(machines[place].begin(plan));
      runners[place].run(plan, machines[place].work(), outcomes[place]);
    }
    agree(outcomes);
    now += std::chrono::milliseconds{1};
    for (std::size_t place = 0; place < machines.size(); ++place) {
      auto done = machines[place].on_done(plan, outcomes[place], now);
      if (place == 0) {
        for (const auto& each : done)
          check_rests(each);
        take(std::move(done));
      } else
        REQUIRE(done.empty());
    }
    plans.push_back(plan);
    return plan;
  }
  static constexpr int steps_max = 100'000; ///< of a test: above what any takes, so that machines without end fail it

  /// Until there is nothing to do.
  void drain() {
    for (int steps = 0; step(); ++steps)
      REQUIRE(steps < steps_max);
  }

  /// The answer of one request, by index.
  std::vector<protocols::token_id> answer_of(std::uint64_t request) const {
    std::vector<protocols::token_id> ids;
    for (const auto& each : tokens)
      if (each.request.value == request) {
        REQUIRE(each.index == ids.size());
        ids.push_back(each.id);
      }
    return ids;
  }
  template <class Effect>
  std::vector<Effect> all() const {
    std::vector<Effect> found;
    for (const auto& each : told)
      if (const auto* const one = std::get_if<Effect>(&each))
        found.push_back(*one);
    return found;
  }
  bool has_left(std::uint64_t request) const {
    const machine::effect wanted = machine::left_batch{protocols::request_id{request}};
    return std::ranges::find(told, wanted) != told.end();
  }

  protocols::cell_plan cell;
  std::deque<machine> machines;
  std::deque<ruled_runner> runners;
  protocols::time_point now{};
  machine::effects told; ///< by the leader
  std::vector<protocols::token_event> tokens;
  std::vector<protocols::event_logprobs> logprobs;
  std::vector<protocols::mesh_plan> plans;

private:
  void take(protocols::result<machine::effects> what) {
    REQUIRE(what);
    std::ranges::move(*what, std::back_inserter(told));
    std::ranges::copy(leader().emitted().events, std::back_inserter(tokens));
    std::ranges::copy(leader().emitted().logprobs, std::back_inserter(logprobs));
    leader().handed_on();
  }
  /// The blocks of a sequence that has left are free for others.
  void check_rests(const machine::effect& what) const {
    if (const auto* const left = std::get_if<machine::left_batch>(&what))
      for (const auto& each : runners)
        REQUIRE_FALSE(each.uses(left->request));
  }
  /// What collectives do: the least of all votes.
  static void agree(std::vector<protocols::step_outcome>& outcomes) {
    for (std::size_t i = 0; i < outcomes.front().votes.size(); ++i) {
      auto least = outcomes.front().votes[i];
      for (const auto& each : outcomes)
        least = std::min(least, each.votes[i]);
      for (auto& each : outcomes)
        each.votes[i] = least;
    }
  }
};

inline std::vector<protocols::block_index> blocks_for(std::size_t tokens) {
  std::vector<protocols::block_index> blocks;
  for (std::uint32_t i = 0; i * protocols::limits::kv_block_tokens < tokens; ++i)
    blocks.emplace_back(i);
  return blocks;
}

inline protocols::prefill_leader_machine::run_prefill prompt_of(std::uint64_t request,
                                                                std::vector<protocols::token_id> ids) {
  protocols::submit work;
  work.request = protocols::request_id{request};
  work.prompt = std::move(ids);
  auto blocks = blocks_for(work.prompt.size());
  return {.work = std::move(work), .blocks = std::move(blocks), .rows = {}};
}

/// A prompt that takes so many pieces.
inline protocols::prefill_leader_machine::run_prefill prompt_of_pieces(std::uint64_t request, std::uint32_t pieces) {
  const std::size_t tokens = std::size_t{pieces} * protocols::limits::prefill_chunk_tokens - 3;
  return prompt_of(request,
                   std::vector<protocols::token_id>(tokens, static_cast<protocols::token_id>(request % words)));
}

inline protocols::decode_leader_machine::join_batch joining(std::uint64_t request, protocols::token_id first,
                                                            std::uint32_t max_tokens) {
  return {.sequence = {.request = protocols::request_id{request},
                       .context = 5,
                       .position_delta = 0,
                       .blocks = blocks_for(std::size_t{5} + max_tokens),
                       .sampling = {}},
          .first_token = first,
          .max_tokens = max_tokens,
          .end_tokens = {}};
}

} // namespace troupe::tests
