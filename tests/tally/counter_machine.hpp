#pragma once

#include <cstdint>
#include <map>
#include <variant>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "tests/tally/tally_messages.hpp"

namespace troupe::tally {

/// Decides when a rank of a cell has all of its numbers, and on the leader when every rank has.
/// The bytes come by a write and the order `add` by a message, in any order. A newer order ends all older rounds: the
/// teller waits for them no more.
class counter_machine {
public:
  /// To the executor of the leader: all ranks have their numbers.
  struct add_up {
    add_plan plan;
    bool operator==(const add_up&) const = default;
  };
  using effects = std::vector<std::variant<send_tally, add_up>>;

  struct options {
    protocols::rank_id front;
    protocols::generation born;
    std::uint32_t numbers_max = 0;
  };
  counter_machine(const protocols::cell_plan& cell, std::uint32_t place, options how);

  effects start() const;
  /// Errors: out_of_bounds (more numbers than there is room for).
  protocols::result<effects> on_add(const add& order);
  /// A write of the round has arrived.
  effects on_piece(protocols::room_id round);
  /// Leader only.
  effects on_landed(std::uint32_t place, const landed& word);
  effects on_sum(protocols::room_id round, float value) const;

private:
  static constexpr std::size_t rounds_ahead_max = 16; ///< whose pieces are counted before their order has come
  effects check();

  const protocols::cell_plan& cell_;
  std::uint32_t place_;
  options how_;
  add order_;                                          ///< the newest
  std::map<protocols::room_id, std::uint32_t> pieces_; ///< of the newest round and later ones
  protocols::room_id landing_{};                       ///< leader: the newest round of which a rank has said `landed`
  std::map<std::uint32_t, std::uint32_t> landed_;      ///< of it: numbers by place
};

} // namespace troupe::tally
