#pragma once

#include "tests/sim/steps.hpp"

namespace troupe::sim {

/// The simulated model over the memory of a cell's ranks: reads what is really there, writes keys, values and rows.
/// Ranks of a cell hold the same thing in different shares; where their shares differ the result is of no question.
class forward {
public:
  forward(cell_company& company, cell_call& call) : company_(company), call_(call), leader_(*company.members.front()) {}

  /// A hash of everything that the call reads.
  std::uint64_t look();
  /// Computes; every rank gets its outcome.
  void run();

private:
  struct context {
    std::uint64_t before = 0;
    std::uint64_t block = 0;
  };

  std::uint64_t read_block(protocols::block_index which) const;
  void write_block(protocols::block_index which, std::uint64_t value) const;
  /// Of the first `length` tokens.
  context read_context(std::span<const protocols::block_index> blocks, std::uint32_t length) const;
  std::uint64_t read_pixels(const protocols::tower_item& item) const;
  std::uint64_t read_row(const protocols::prefill_picture& picture, std::uint32_t row) const;
  /// Appends a token to the context; returns the token that follows it.
  protocols::token_id append(std::span<const protocols::block_index> blocks, std::uint32_t length,
                             protocols::token_id id, std::uint64_t sampling) const;

  void encode();
  void prefill();
  void vote();
  void decode();
  void change_batch(executor& of) const;
  void step_batch();
  void collect(executor& of) const;
  void step_chain();

  cell_company& company_;
  cell_call& call_;
  executor& leader_;
  std::uint64_t spoiled_ = 0; ///< not 0: what is read has changed while it was read
};

} // namespace troupe::sim
