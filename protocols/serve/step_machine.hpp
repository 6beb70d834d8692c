#pragma once

#include <deque>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/serve/decode_machine.hpp"
#include "protocols/serve/mesh_plan.hpp"
#include "protocols/serve/prefill_machine.hpp"
#include "protocols/serve/prompt_positions.hpp"
#include "protocols/serve/serve_message.hpp"
#include "protocols/serve/step_work.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// Decides what a cell computes next, and to which request each result belongs.
///
/// Every rank of the cell has one. The leader's machine takes orders and gives the next plan, which is announced. Then
/// the machine of every rank, the leader included, does the same: `begin` the plan, run the step, `on_done`. A
/// follower's only input is the plan, so it cannot decide anything that its leader did not decide.
///
/// The order of steps:
/// - One vote covers all requests that wait, up to `limits::vote_rooms_max` rooms. While there is something to compute,
///   two votes never follow each other, so votes do not hold up decode steps or pieces of prompts.
/// - A prompt runs in pieces of `limits::prefill_chunk_tokens`; votes and cancels come between any two pieces. The
///   prompt with the fewest pieces left is next; among equals, the one that came first. So a short prompt does not wait
///   for a long one. A prompt that has let `limits::prompt_passes_max` pieces of later prompts go first is next,
///   whatever its length, so no prompt starves. Rejected: whole prompts in order of arrival; one client's long prompt
///   held up everybody.
/// - Pictures run in order of arrival.
/// - A sequence's first token is emitted when the sequence is handed over. The sequence enters the batch with the next
///   decode step that has room. A sequence that has ended, or is told to leave, leaves with the next decode step; after
///   that step nobody uses its blocks (`left_batch`).
/// - Pictures, prompts and decode steps are work of different cells. A cell that had several kinds would run them in
///   this order.
///
/// A running batch on a device is collected `steps_ahead` steps late. By then another sequence may have the place of
/// the one that a token was chosen for; such a token is dropped.
///
/// Where penalties count the tokens of prompt and answer, the rank that chooses keeps the counts. It is told all that
/// they begin with when a sequence joins: the ids of the prompt stand in the plan, the answer begins with the first
/// token. A running batch counts what it chooses; for a chain of stages the machine of every rank keeps the answer.
///
/// Contract: A7, A9, B11, B15, B18, F17, G7, K7, K8.
/// Ownership: its buffers are kept, so that a decode step allocates nothing once the batch has been as large.
/// Threads: one at a time. Errors of orders: queue_full.
class step_machine {
public:
  static constexpr token_id no_token = -1;   ///< none was chosen: the sequence has filled its blocks
  static constexpr token_id not_finite = -2; ///< none can be chosen: the sequence's logits are not finite

  struct options {
    std::uint32_t vocabulary = 0;
    std::uint32_t merge = 1; ///< patches that make one picture token, along one side
    std::uint32_t batch_max = 1;
    std::uint32_t steps_ahead = 0; ///< steps that may be uncollected when a step ends
  };

  struct voted {
    request_id request;
    std::vector<admission> minimum; ///< of the ranks' votes, one for each of its rooms
    bool operator==(const voted&) const = default;
  };
  struct tower_ended {
    room_id room;
    time_point began;
    time_point ended;
    bool operator==(const tower_ended&) const = default;
  };
  struct first_token {
    request_id request;
    token_id id = 0;
    std::int32_t position_delta = 0;
    std::uint64_t digest = 0; ///< of the prompt
    time_point began;
    time_point ended;
    std::vector<token_logprob> logprobs = {}; ///< as `event_logprobs::values`
    bool operator==(const first_token&) const = default;
  };
  struct left_batch {
    request_id request;
    bool operator==(const left_batch&) const = default;
  };
  /// The request has a fault of its own (K8), or its prompt was told to leave. For a prompt no `first_token` follows.
  /// For a sequence no further token is emitted, and `left_batch` follows.
  struct given_up {
    request_id request;
    failure cause;
    bool ran_whole = false; ///< the prompt ran to its end, so its keys and values are on their way
    bool operator==(const given_up&) const = default;
  };
  using effect = std::variant<voted, tower_ended, first_token, left_batch, given_up>;
  using effects = std::vector<effect>;

  step_machine(const cell_plan& cell, std::uint32_t place, const options& bounds);

  // The leader's orders, between two steps.
  result<effects> on_vote(room_vote order);
  result<effects> on_encode(const tower_item& order);
  result<effects> on_prefill(prefill_leader_machine::run_prefill order);
  result<effects> on_join(decode_leader_machine::join_batch order);
  /// Takes a sequence out of the batch; stops a prompt before its next piece. No effect on a request that has neither.
  effects on_leave(request_id request);
  /// The next plan is the last; what waits is dropped.
  void on_stop() noexcept { stopping_ = true; }

  /// Leader: the first plan. Its step runs every collective and the smallest shapes once (B20).
  const mesh_plan& warm();
  /// Leader: the next plan, or null when there is nothing to do. Valid until the step is done.
  const mesh_plan* next(time_point now);

  /// Every rank: changes the batch as the plan says. Errors: plan_mismatch when this rank's batch differs from the
  /// leader's.
  result<void> begin(const mesh_plan& plan);
  /// What this rank has to do for the plan that has begun, beyond what the plan states.
  const step_work& work() const noexcept { return work_; }
  /// Every rank: the step has ended.
  effects on_done(const mesh_plan& plan, const step_outcome& outcome, time_point now);

  /// Leader: tokens to be sent to the front, in order. Call `handed_on` once they are.
  const tokens& emitted() const noexcept { return emitted_; }
  void handed_on() noexcept {
    emitted_.events.clear();
    emitted_.logprobs.clear();
  }

private:
  friend class keeps_invariants<step_machine>;
  enum class stage {
    between, ///< no plan is given, no step is under way
    planned, ///< leader: a plan was given and has not begun
    begun,   ///< a step is under way
  };
  struct prompt {
    prefill_leader_machine::run_prefill what;
    prompt_positions where; ///< from its first piece on
    std::uint32_t done = 0; ///< tokens
    std::uint32_t passes = 0;
    time_point began;

    std::uint32_t pieces_left() const noexcept;
  };
  struct row { ///< a sequence of the batch; a follower knows only `what.sequence`
    decode_leader_machine::join_batch what;
    std::uint32_t context = 0;
    token_id newest = 0;        ///< token collected; in a chain of stages only the leader has it
    std::uint32_t place = 0;    ///< in the running batch
    std::uint64_t entered = 0;  ///< steps of the running batch that had begun before it joined
    std::uint32_t answered = 1; ///< tokens of its answer; the first came with the hand-over
    bool ended = false;         ///< its last token has been emitted
    bool leaving = false;
    std::vector<token_id> answer; ///< in a chain of stages, where its choices depend on it
  };
  struct asked { ///< one request's part of a vote
    request_id request;
    std::size_t rooms = 0;
  };
  void check_invariants() const noexcept;
  void show_states(state_view& view) const;
  bool places_differ() const noexcept;
  std::size_t waiting() const noexcept;
  bool knows(request_id request) const noexcept;
  result<void> admit(request_id request) const;
  result<void> has_room() const;

  std::optional<plan_kind> choose() const noexcept;
  const mesh_plan& planned(plan_kind kind);
  void plan_vote();
  void plan_piece(time_point now);
  prompt& pick_prompt();
  void plan_decode();

  result<void> change_batch(const decode_step& step);
  void let_leave(request_id request);
  void let_join(const sequence_join& who, token_id newest);
  std::uint32_t take_place();
  void measure_work();

  void on_voted(const step_outcome& outcome, effects& out);
  void on_piece(const prefill_step& piece, const step_outcome& outcome, time_point now, effects& out);
  void on_stepped(const decode_step& step, const step_outcome& outcome, effects& out);
  void take_token(std::uint32_t place, token_id id, std::span<const token_logprob> logprobs, effects& out);
  void answer(row& one, std::span<const token_logprob> logprobs, effects& out);
  /// Emits a token of an answer. True: it is the last.
  bool emit(const decode_leader_machine::join_batch& of, std::uint32_t index, token_id id,
            std::span<const token_logprob> logprobs);

  /// A failure that names the first token outside the model's vocabulary; nothing when there is none.
  std::optional<failure> find_foreign(std::span<const token_id> tokens) const;
  /// The same of what a request says of sampling.
  std::optional<failure> find_foreign(const sampling_options& sampling) const;
  failure not_finite_at(std::uint32_t answer_index) const;

  bool leads_;
  bool chain_; ///< a pipeline of stages, which has no running batch
  rank_id chooser_;
  options bounds_;
  stage at_ = stage::between;
  bool stopping_ = false;
  bool stopped_ = false;

  // Leader.
  std::deque<room_vote> votes_;
  std::vector<asked> asked_; ///< in the vote under way
  bool voted_last_ = false;
  std::deque<tower_item> towers_;
  time_point tower_began_;
  std::deque<prompt> prompts_;                            ///< in order of arrival
  std::deque<decode_leader_machine::join_batch> joining_; ///< handed over, not in a plan yet
  tokens emitted_;
  mesh_plan plan_;
  call_id next_call_{1};

  // Every rank.
  std::vector<row> rows_;          ///< the batch, in order of joining
  std::vector<bool> places_;       ///< true: taken
  mutable std::vector<bool> seen_; ///< scratch of `places_differ`
  std::uint64_t begun_ = 0;        ///< steps of the running batch
  std::uint64_t collected_ = 0;    ///< of these, the steps that have been collected
  step_work work_;
};

} // namespace troupe::protocols
