#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// A failure that ends this rank.
struct rank_trouble {
  failure cause;
  std::string where; ///< what the rank was doing, in words
  time_point since;
  bool operator==(const rank_trouble&) const = default;
};

/// The failure that a rank reports when it leaves: the first one. Exception: if the first is `peer_gone`, the next
/// failure of another kind replaces it, and nothing replaces that one. The loss of a peer is often a consequence of
/// that later failure, which says more.
class first_trouble {
public:
  void note(rank_trouble trouble) {
    if (first_ && (first_->cause.code != fault::peer_gone || trouble.cause.code == fault::peer_gone))
      return;
    first_ = std::move(trouble);
  }
  const std::optional<rank_trouble>& get() const noexcept { return first_; }

private:
  std::optional<rank_trouble> first_;
};

/// What the other threads of a rank have posted for its main thread since that last took it.
/// Failures are not queued: one is kept. A peer's end is posted at most once for each edge and each transfer connection
/// of a generation, which bounds the list.
/// Threads: the owner's lock.
struct rank_inbox {
  first_trouble trouble;
  std::vector<std::pair<rank_id, failure>> gone; ///< peers, in the order in which their ends were seen
  bool drained = false;                          ///< the front has ended every request
};

} // namespace troupe::protocols
