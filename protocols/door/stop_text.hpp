#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "protocols/invariant.hpp"

namespace troupe::protocols {

/// Cuts an answer's text before the first stop text in it. A suffix that may begin a stop text is held back until more
/// text has come, so no part of a stop text is ever sent. Contract: K8. Threads: its owner's.
class stop_text {
public:
  /// Empty stop texts are ignored.
  explicit stop_text(std::vector<std::string> stops);

  /// Adds a piece of the answer. Returns the text that may be sent now; after `has_stopped` nothing.
  std::string push(std::string_view piece);
  /// At the end of the answer: the text that was held back.
  std::string finish();
  bool has_stopped() const noexcept { return stopped_; }

private:
  friend class keeps_invariants<stop_text>;
  void check_invariants() const;
  void show_states(state_view& view) const;

  std::vector<std::string> stops_;
  std::size_t longest_ = 0;
  std::string held_; ///< the suffix that may begin a stop text
  bool stopped_ = false;
};

} // namespace troupe::protocols
