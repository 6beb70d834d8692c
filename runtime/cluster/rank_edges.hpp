#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "actors/rank_context.hpp"
#include "fabric/lanes/connect.hpp"
#include "fabric/lanes/wire.hpp"
#include "protocols/cluster/edge_machine.hpp"
#include "protocols/cluster/life_messages.hpp"
#include "protocols/wire/edge_messages.hpp"

namespace troupe::cluster {

/// The edges of one rank: makes their lanes, hands each to what drives it, and keeps what peers announce of their
/// regions. Which lanes there are, and whose hello is welcome, is `edge_machine`'s.
/// Announcements are kept here and not beside the regions: to check that their sender still counts and to store them is
/// one step under one lock. Otherwise what a process announced could outlive its loss.
/// Contract: B9, D2, K1, K5, K14.
/// Threads: the rank's main thread, but where it says otherwise; the wire's thread hands lanes and news in.
class rank_edges {
public:
  struct events {
    /// A control frame that is not the rank's own. The wire's thread. An error ends the edge.
    std::function<protocols::result<void>(const protocols::frame_view& frame)> on_frame;
    /// Whether this rank writes that region of the owner. The wire's thread.
    std::function<bool(protocols::rank_id owner, const std::string& purpose)> writes;
    /// The wire's thread; of the peer's present generation only.
    std::function<void(protocols::rank_id peer, const protocols::failure& cause)> on_peer_gone;
  };
  using urgency = std::function<bool()>; ///< the supervisor has something newer: a wait ends. It may obey an order

  /// `rank` outlives it; its plan and spec are there.
  rank_edges(actors::rank_context& rank, const protocols::launch& start, events calls);

  /// Accepts lanes from here on. Returns where. Errors: config_invalid.
  protocols::result<protocols::endpoint> listen(const std::string& run_directory);
  /// The wire's thread runs from here on and beats to every peer.
  void start();
  /// Makes every lane of the plan. Errors: timeout, peer_gone, those of a refused hello.
  protocols::result<void> make(const protocols::roster& everybody, protocols::time_point deadline);
  /// A lane that nothing drives yet, once it is there. Errors: timeout, cancelled (`urgent`).
  protocols::result<std::unique_ptr<fabric::lane>>
  take_lane(const protocols::lane_name& which, protocols::time_point deadline, const urgency& urgent = {});
  /// Drops every lane to these ranks, and what they have announced. Errors: bad_value.
  protocols::result<void> lose(const protocols::lost& news);
  /// Takes the lanes that a new generation connects. Errors: bad_value, timeout, cancelled (`urgent`).
  protocols::result<protocols::edge_machine::admission> rejoin(const protocols::rejoin& order, const urgency& urgent);
  void stop() noexcept { wire_.stop(); }

  /// Tells `writer` of a region that it writes. Errors: those of `wire::post`.
  protocols::result<void> announce(protocols::rank_id writer, const protocols::region& what);
  /// What the owner has announced, once it has. Errors: timeout, cancelled (`urgent`).
  protocols::result<protocols::region_card> await_region(protocols::rank_id owner, const std::string& purpose,
                                                         protocols::time_point deadline, const urgency& urgent);

  /// Notes that an edge to the peer was not made, or its memory not attached. Returns `cause`.
  protocols::failure unmade(protocols::rank_id peer, protocols::failure cause);
  /// Whose end of an edge was at fault last, since the start or the latest rejoin.
  std::optional<protocols::rank_id> unreached() const;
  /// As `edge_machine::deadline_with`.
  protocols::time_point deadline_with(protocols::rank_id peer, protocols::time_point deadline) const;

  const std::set<protocols::lane_name>& planned() const noexcept { return machine_.planned(); }
  const fabric::identity& self() const noexcept { return self_; }
  /// As roster and rejoins listed it.
  const protocols::endpoint& peer(protocols::rank_id rank) const { return everybody_.at(rank.value); }
  const std::vector<fabric::wire::peer_signs>& signs() const noexcept {
    return signs_;
  } ///< by rank; read by any thread
  fabric::wire& wire() noexcept { return wire_; }
  /// From the executor of a leader that streams to the front. Once made; its thread's.
  fabric::lane& token_lane() noexcept { return *token_lane_; }

private:
  fabric::lane_options lane_bounds() const;
  bool begins(const protocols::lane_name& which) const;
  protocols::result<void> connect(const protocols::lane_name& which, protocols::time_point deadline);
  protocols::result<void> validate_hello(const fabric::edge& between, const protocols::hello& said) const;
  void note_begun(const fabric::edge& between, const protocols::hello& said);
  void on_incoming(fabric::incoming lane);
  void adopt(const protocols::lane_name& which, std::unique_ptr<fabric::lane> lane);
  protocols::result<void> on_control_frame(protocols::rank_id peer, const protocols::frame_view& frame);
  /// Until `here` holds, under `mutex_`. Errors: timeout, cancelled (`urgent`).
  protocols::result<void> await(std::unique_lock<std::mutex>& lock, protocols::time_point deadline,
                                const urgency& urgent, const std::function<bool()>& here);

  actors::rank_context& rank_;
  events calls_;
  fabric::identity self_;
  std::vector<protocols::endpoint> everybody_;
  std::vector<fabric::wire::peer_signs> signs_; ///< outlives the wire
  fabric::wire wire_;

  mutable std::mutex mutex_; ///< guards the next four: the wire's thread hands them to the main thread
  std::condition_variable arrived_;
  std::map<protocols::lane_name, std::unique_ptr<fabric::lane>> lanes_;
  protocols::edge_machine machine_;
  std::map<std::pair<protocols::rank_id, std::string>, protocols::region_card> announced_;

  std::map<protocols::lane_name, fabric::wire::key> wired_; ///< lanes that the wire drives
  std::unique_ptr<fabric::lane> token_lane_;                ///< null: this rank streams nothing
};

} // namespace troupe::cluster
