#pragma once

#include <map>
#include <tuple>

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/wire/edge_messages.hpp"

namespace troupe::protocols {

/// Knows the generation of each peer of a rank, and which edges its peers have begun.
/// A peer begins an edge once in a generation. An edge counts as begun when its lane is there, not when a good hello
/// has come: after the hello the lane may still fail for lack of descriptors or memory, and the peer must be able to
/// try again.
/// Contract: B9, D2, K5.
/// Threads: the owner's lock.
class begun_edges {
public:
  /// One lane of the edge to a peer: peer, channel, group.
  using name = std::tuple<rank_id, channel_kind, group_id>;

  /// Whether a peer of that generation may begin the edge; nothing changes.
  /// Errors: stale_generation (a later one is known), wrong_sequence (it has begun the edge before).
  result<void> judge(const name& which, generation born) const;
  void on_begun(const name& which, generation born);
  /// The peer has at least this generation.
  void on_news(rank_id peer, generation born);

  generation born(rank_id peer) const;       ///< of the peer; 0: nothing is known of it
  generation begun(const name& which) const; ///< the generation that has begun it; 0: none

private:
  std::map<rank_id, generation> born_;
  std::map<name, generation> begun_;
};

} // namespace troupe::protocols
