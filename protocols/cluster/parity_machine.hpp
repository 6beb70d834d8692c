#pragma once

#include <optional>
#include <string>
#include <vector>

#include "protocols/cluster/life_messages.hpp"
#include "protocols/fault.hpp"
#include "protocols/invariant.hpp"

namespace troupe::protocols {

/// Compares what the ranks state about what they run, once all of them have stated it.
/// A flag that is torn between two ranks would otherwise show as a hang in a collective, minutes later, without a name.
/// A key binds the ranks that state it: prefill and decode must agree on the text model, the front says nothing of it.
/// The verdict depends on the statements alone, not on the order in which they came.
/// Contract: A18, B13, B14, B31, G13.
class parity_machine {
public:
  /// `labels` by rank: how the difference calls them.
  explicit parity_machine(std::vector<std::string> labels);

  /// The verdict comes with the last rank's statement.
  /// Errors: bad_value for a rank that is not there or a key that it states twice; illegal_transition when `from` has
  /// stated its facts before. Nothing changes then.
  result<std::optional<verdict>> on_agree(rank_id from, const agree& statement);

  /// A new generation of `rank` will state its facts anew, and is held against what the others have stated.
  void forget(rank_id rank);

  bool has_stated(rank_id rank) const { return statements_.at(rank.value).has_value(); }

private:
  friend class keeps_invariants<parity_machine>;
  void check_invariants() const;
  void show_states(state_view& view) const;
  verdict judge() const;

  std::vector<std::string> labels_;
  std::vector<std::optional<std::vector<parity_fact>>> statements_; ///< by rank
  std::size_t missing_;
};

} // namespace troupe::protocols
