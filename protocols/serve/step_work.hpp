#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "protocols/ids.hpp"
#include "protocols/serve/request_messages.hpp"

/// What passes between `step_machine` and whoever runs its steps: the work that a plan does not state, and the outcome.
namespace troupe::protocols {

/// One sequence in a decode step of a chain of stages (pipeline parallelism).
struct chain_row {
  std::uint32_t context = 0;           ///< tokens whose keys and values are in the blocks
  std::int32_t position = 0;           ///< of the newest token
  std::uint64_t answer_index = 0;      ///< of the token that the step chooses
  std::span<const block_index> blocks; ///< owned by the machine, as what follows
  const sampling_options* sampling = nullptr;
  std::span<const token_id> answer; ///< so far; of a sequence whose choices depend on what was there before
};

/// Valid until the next step begins. Kept by the machine, so that a decode step allocates nothing.
struct step_work {
  std::vector<std::uint32_t> leaves; ///< places of the running batch that become free
  std::vector<std::uint32_t> joins;  ///< places of the plan's joins, in order; each gets the lowest free place
  std::vector<chain_row> rows;       ///< in a chain of stages: one for each of the plan's ids
  bool steps = false;                ///< the batch is not empty, so its next step begins
  std::uint32_t collects = 0;        ///< how many steps of the running batch to collect after that

  void clear() noexcept {
    leaves.clear();
    joins.clear();
    rows.clear();
    steps = false;
    collects = 0;
  }
};

/// Kept by whoever runs steps, so that a decode step allocates nothing.
struct step_outcome {
  struct collected_token {
    std::uint32_t step = 0; ///< its index among the steps that were collected
    std::uint32_t place = 0;
    token_id id = 0;
    std::uint32_t first_logprob = 0; ///< in `logprobs`
    std::uint32_t logprobs = 0;
  };

  /// One for each room of the plan. At the start of the step: this rank's votes. At its end: the minimum of all ranks.
  std::vector<std::int32_t> votes;
  std::vector<token_id> chosen;        ///< leader: one after a prompt's last piece; one for each row of a chain
  std::vector<token_logprob> logprobs; ///< of the chosen in order, as many as each asks for; of the collected
  std::vector<collected_token> tokens; ///< in the order of the steps
  std::uint32_t collected = 0;         ///< how many steps were collected

  void clear() noexcept {
    votes.clear();
    chosen.clear();
    logprobs.clear();
    tokens.clear();
    collected = 0;
  }
};

} // namespace troupe::protocols
