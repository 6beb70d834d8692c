#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "protocols/ids.hpp"
#include "protocols/messages.hpp"

/// What `step_machine` has a rank do of a step beyond its plan, and what the step tells it.
namespace troupe::protocols {

/// A sequence in a step of a chain of stages.
struct chain_row {
  std::uint32_t context = 0;           ///< tokens whose keys and values are there
  std::int32_t position = 0;           ///< of the newest token
  std::uint64_t answer_index = 0;      ///< of the token that the step chooses
  std::span<const block_index> blocks; ///< the machine's
  sampling_options sampling;
};

/// Valid until the next step begins. Kept by the machine, so that a decode step allocates nothing.
struct step_work {
  std::vector<std::uint32_t> leaves; ///< places of the running batch that come free
  std::vector<std::uint32_t> joins;  ///< places that those of the plan get: the lowest that are free, one by one
  std::vector<chain_row> rows;       ///< of a chain of stages, one for each of the plan's ids
  bool steps = false;                ///< somebody is in the batch, so a step of it begins
  std::uint32_t collects = 0;        ///< steps of the running batch that are to be collected afterwards

  void clear() noexcept {
    leaves.clear();
    joins.clear();
    rows.clear();
    steps = false;
    collects = 0;
  }
};

/// Kept by whoever runs steps, for the same reason.
struct step_outcome {
  struct collected_token {
    std::uint32_t step = 0; ///< which of those that were collected
    std::uint32_t place = 0;
    token_id id = 0;
  };

  /// Of the plan's rooms: what this rank knows when the step begins, the minimum over all ranks when it has ended.
  std::vector<std::int32_t> votes;
  std::vector<token_id> chosen;        ///< leader: after a prompt's last piece, and of each row of a chain
  std::vector<collected_token> tokens; ///< in the order of the steps
  std::uint32_t collected = 0;         ///< steps

  void clear() noexcept {
    votes.clear();
    chosen.clear();
    tokens.clear();
    collected = 0;
  }
};

} // namespace troupe::protocols
