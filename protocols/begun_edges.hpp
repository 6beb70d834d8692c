#pragma once

#include <map>
#include <tuple>

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/messages.hpp"

namespace troupe::protocols {

/// Of which generation each peer of a rank is, and which edges its peers have begun.
/// An edge is begun once in a generation. That counts from when its lane is there, and not from a good hello: a hello
/// may still fail for want of descriptors or memory, and would then shut out its sender's next try.
/// Contract: B9, D2, K5.
/// Threads: the owner's lock.
class begun_edges {
public:
  using name = std::tuple<rank_id, channel_kind, group_id>;

  /// Whether a peer of that generation may begin the edge; nothing changes.
  /// Errors: stale_generation (a later one is known), wrong_sequence (it has begun the edge before).
  result<void> judge(const name& which, generation born) const;
  void on_begun(const name& which, generation born);
  /// The peer is of that generation, or of a later one.
  void on_news(rank_id peer, generation born);

  generation born(rank_id peer) const;       ///< 0: nothing is known of it
  generation begun(const name& which) const; ///< 0: by nobody

private:
  std::map<rank_id, generation> born_;
  std::map<name, generation> begun_;
};

} // namespace troupe::protocols
