#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/life_messages.hpp"
#include "protocols/cluster/rank_inbox.hpp"
#include "protocols/fault.hpp"
#include "protocols/invariant.hpp"

namespace troupe::protocols {

/// One rank's own life: which order of the supervisor may come now, what the rank may say of itself, and when it ends.
/// Start: a step is taken when the supervisor says so, never because this rank is done with the one before: so all
/// ranks enter the collectives of `grouped` and `warm` together (B20, G3).
/// Failures: a failure of this rank's own thread ends the rank at once. The loss of a peer of its own cell ends it
/// after `limits::explanation_grace`: the order to leave arrives on another socket and may explain the loss. The loss
/// of any other peer, the front included, is reported to the supervisor, which decides. In a drain the loss of a peer
/// is ignored. Leaving: in a drain the front leaves when every request has ended, the others when the front has left,
/// since they serve it until then. A rank that was not ready yet leaves at once, and so does every rank in an abort.
/// Contract: A16, B1, B20, C1, C2, C3, C10, C11, C14, G3, K13, K14.
/// Threads: the rank's main thread.
/// Errors: illegal_transition; the caller reports it and leaves. Final states take nothing more.
class rank_life_machine {
public:
  explicit rank_life_machine(rank_id self = {}) : self_(self) {}

  /// The rank knows its job. Before this every peer is a stranger.
  void on_launch(const cluster_plan& plan);
  /// Everybody can be reached: state your facts.
  result<void> on_roster();
  /// Errors: parity_mismatch too, with the difference; the rank has failed then.
  result<void> on_verdict(const verdict& judged);
  /// Begin the step to `order.next`.
  result<void> on_proceed(const proceed& order);
  /// The step is done. Returns what to tell the supervisor; nothing once the rank has been told to leave.
  result<std::optional<progress>> on_reached(life_state here, std::string detail = {});
  /// From any state: a cluster may be ended while it starts. An abort may follow a drain; a repeated order has no
  /// effect. Returns whether the rank has served, and so has something to finish.
  result<bool> on_shutdown(const shutdown& order);
  /// Returns what to tell the supervisor before the edges are made. What was posted before the order must have been
  /// given to `on_inbox`. Errors: bad_value.
  result<rejoined> on_rejoin(const rejoin& order);
  /// Returns the report about a rejoin; nothing if it was cancelled, because the supervisor has sent a newer order. If
  /// a newcomer could not be reached, the supervisor decides; this rank continues.
  std::optional<std::variant<rejoined, error>> on_admitted(const rejoin& order, const result<void>& done,
                                                           std::optional<rank_id> unreached) const;
  /// Returns what to tell the supervisor of peers that have gone.
  std::vector<error> on_inbox(const rank_inbox& posted, time_point now);
  /// Everything that it had is finished; the process may end.
  result<void> on_left();

  struct last_words {
    error said;
    bool of_another = false; ///< the rank leaves because of another's fault
  };
  /// The rank cannot go on. `unreached`: the other end of an edge that could not be made. While a rank starts it names
  /// that end and not itself.
  last_words on_failed(const failure& cause, std::string where, std::optional<rank_id> unreached);
  /// What the rank was doing when `cause` came, in words.
  std::string where_of(const failure& cause) const;

  /// The failure that ends this rank now; nothing while there is none, or while a peer's end may still be explained.
  std::optional<failure> must_leave(time_point now) const;
  bool may_leave() const noexcept;
  /// How long the main thread may sleep: `most`, or less while a peer's end waits for its explanation.
  duration nap(duration most) const;
  /// From ready on the main thread is watched; until then a rank's steps have the deadline of the start (K13).
  bool is_watched() const noexcept { return at_ >= life_state::ready; }

  life_state current() const noexcept { return at_; }
  /// The state that the rank has been told to reach; equal to `current` while it waits for the others.
  life_state heading() const noexcept { return heading_; }
  bool aborting() const noexcept { return aborting_; }

private:
  friend class keeps_invariants<rank_life_machine>;
  void check_invariants() const;
  void show_states(state_view& view) const;
  tl::unexpected<failure> illegal(std::string_view event) const;
  bool is_explained() const noexcept { return at_ == life_state::draining; }

  rank_id self_;
  rank_id front_;
  bool is_front_ = false;
  bool alone_ = false;         ///< a cluster of stubs: nobody to wait for when it drains
  std::vector<bool> one_fate_; ///< by rank: in a cell of this one
  life_state at_ = life_state::spawned;
  life_state heading_ = life_state::joined; ///< the first step needs no order
  bool aborting_ = false;
  bool served_ = false;  ///< was ready before it was told to leave
  bool drained_ = false; ///< the front: every request has ended
  bool front_gone_ = false;
  first_trouble trouble_;
};

/// Whether `order` makes a rank stop making its edges to newcomers: `lost` and `rejoin` begin another recovery, and
/// `shutdown` the end. The rank obeys any other order and goes on making its edges, because the supervisor waits for
/// the result of every rejoin.
bool supersedes_rejoin(message_type order) noexcept;

} // namespace troupe::protocols
