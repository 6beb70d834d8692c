#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "protocols/invariant.hpp"

namespace troupe::protocols {

/// Ends an answer's text where the first of some stop texts begins in it. What may be the beginning of one is held back
/// until more has come, so no part of a stop text is ever given out. Contract: K8. Threads: its owner's.
class stop_text {
public:
  /// Empty ones count for nothing.
  explicit stop_text(std::vector<std::string> stops);

  /// What of the text so far may be given out now. Nothing after `has_stopped`.
  std::string push(std::string_view piece);
  /// The rest, at the end of the answer.
  std::string finish();
  bool has_stopped() const noexcept { return stopped_; }

private:
  friend class keeps_invariants<stop_text>;
  void check_invariants() const;
  void show_states(state_view& view) const;

  std::vector<std::string> stops_;
  std::size_t longest_ = 0;
  std::string held_; ///< may be the beginning of a stop text
  bool stopped_ = false;
};

} // namespace troupe::protocols
