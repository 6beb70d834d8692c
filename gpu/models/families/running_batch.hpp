#pragma once

#include <cstdint>
#include <span>

#include "gpu/group.hpp"
#include "gpu/models/capture_counts.hpp"
#include "gpu/not_finite.hpp"
#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/serve/request_messages.hpp"
#include "protocols/time.hpp"

namespace troupe::gpu::models {

/// The sequences that a rank decodes together, one new token of each a step; all of it stays on the device between
/// steps. Sequences join and leave between steps; each has a place, a small number that is its name until it leaves.
///
/// What an executor does, on every rank of the mesh alike and in the same order:
///
///     open_batch                       once, when the rank warms up: runs and captures every size
///     join, join                       -> places
///     step                             step 1 is on its way
///     loop:
///       leave, join                    as the plan says
///       step                           step n + 1 is on its way; the host waited for nothing
///       collect                        the tokens of step n, which has ended or soon will; then they are handed on
///     collect                          of the last step, when there is nothing to step for
///
/// So what a token means for its sequence is known one step late: when step n's token ends the answer, step n + 1 is
/// under way with that sequence in it, and its token of that step is to be dropped. Nothing is lost by it: a sequence
/// that has filled its blocks rests, writes nowhere and gives `no_token`, so that its blocks need no room for the step
/// too many. What it is not to do is hand blocks to another sequence before the step that still uses them is collected.
/// An executor that would rather know at once calls step and collect by turns.
///
/// On a mesh each rank chooses for itself, from the same logits; that all chose the same is for the executor to
/// compare, which tells every rank what the first was told (G7).
///
/// Contract: B15 (a step allocates nothing), B20, G1, G4.
/// Threads: the executor's.
class running_batch {
public:
  virtual ~running_batch() = default;

  static constexpr std::uint32_t steps_ahead_max = 2; ///< on their way and not collected
  static constexpr protocols::token_id no_token = -1;
  static constexpr protocols::token_id not_finite = gpu::not_finite; ///< the sequence has logits from which none can be

  struct joining {
    protocols::token_id newest = 0; ///< chosen last; its keys and values are not in the blocks yet
    std::uint32_t context = 0;      ///< tokens that are
    std::int32_t position_delta = 0;
    std::span<const protocols::block_index> blocks; ///< the whole answer's
    protocols::sampling_options sampling; ///< its rules' ids are the vocabulary's, and as many as limits allow
    std::uint32_t answered = 1;           ///< index in the answer of the token that its first step chooses
    std::span<const protocols::token_id> before = {}; ///< of the answer, without `newest`: what penalties count
  };
  struct chosen {
    std::uint32_t place = 0;
    protocols::token_id id = no_token;
    std::span<const protocols::token_logprob> logprobs = {}; ///< where the sequence asks for them and has a token
  };

  /// Free places are given lowest first, so that every rank gives the same. Errors: queue_full (all rows_max places are
  /// taken); invalid_request (blocks that are not the pool's, too few for the context, a token beyond the vocabulary).
  virtual protocols::result<std::uint32_t> join(const joining& who) = 0;
  /// The steps on their way still give its tokens. Errors: invalid_request (nobody's place).
  virtual protocols::result<void> leave(std::uint32_t place) = 0;
  virtual std::uint32_t size() const noexcept = 0;

  /// Sizes of step that are launched as captured, and steps that were not. To be the same on every rank of a mesh (G1).
  virtual capture_counts captures() const noexcept { return {}; }

  /// Collectives that one step issues through `mesh`: none where it is captured, since then they are part of the graph.
  virtual std::uint32_t collectives() const noexcept = 0;
  /// Puts a step of all sequences on its way: one launch of what was captured for this size, or the operations one by
  /// one. Errors: invalid_request (nobody is in it); queue_full (steps_ahead_max are not collected); those of the
  /// collectives; executor_failed.
  virtual protocols::result<void> step(group* mesh) = 0;
  /// Waits for the oldest step that is not collected: its sequences in no particular order, valid until the next
  /// `collect`. On every rank of the mesh. Errors: invalid_request (there is none); timeout (the step is still on its
  /// way, and can be collected again); executor_failed.
  virtual protocols::result<std::span<const chosen>> collect(protocols::time_point deadline) = 0;
};

struct batch_options {
  std::uint32_t rows_max = 1;
  /// Whether steps are captured and launched as one, where the device can. To be the same on every rank of a mesh (G1),
  /// and not with collectives that the host carries out.
  bool capture = true;
};

} // namespace troupe::gpu::models
