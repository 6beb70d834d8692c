#pragma once

#include <chrono>
#include <optional>
#include <utility>

#include "protocols/fault.hpp"
#include "protocols/invariant.hpp"
#include "protocols/time.hpp"
#include "protocols/transfers/transfer_states.hpp"

namespace troupe::protocols {

/// Opens and reopens a transfer engine's connection to one peer, when there is something to write.
/// Each attempt has a deadline (`try_patience`); a failed attempt is followed by a pause (`try_pause`). If a connection
/// breaks during a write and none is open again within `trouble_patience`, the peer is lost. If an idle connection
/// breaks, the next write opens a new one, with no overall time limit. Contract: C31, C47, K5. Threads: the engine's.
class way_machine {
public:
  enum class state {
    closed,
    knocking,   ///< at the peer's door
    connecting, ///< the door has said where
    open,
    lost, ///< final: no write to this peer will complete any more
  };
  enum class wanted {
    nothing,
    knock,
    ask,     ///< whether the door has answered
    give_up, ///< the try has taken too long
  };

  /// From a knock to an open connection: all of it is a few round trips.
  static constexpr duration try_patience = std::chrono::seconds{2};
  /// Between two tries, so that a door that is crowded or a process without descriptors is not asked in a loop.
  static constexpr duration try_pause = std::chrono::milliseconds{10};
  /// After a connection has broken: a peer that lives has let us in again by then.
  static constexpr duration trouble_patience = std::chrono::seconds{3};
  static_assert(try_patience + try_pause < trouble_patience, "a peer with trouble is tried again before it is lost");

  /// A failure that no later try mends: nobody listens there, or another peer than the one that was attached.
  static constexpr bool is_final(fault why) noexcept {
    return why == fault::peer_gone || why == fault::wrong_job || why == fault::wrong_rank ||
           why == fault::stale_generation;
  }

  state current() const noexcept { return at_; }
  bool is_open() const noexcept { return at_ == state::open; }
  bool is_lost() const noexcept { return at_ == state::lost; }
  bool is_under_way() const noexcept { return at_ == state::knocking || at_ == state::connecting; }
  bool has_trouble() const noexcept { return trouble_.has_value(); }

  /// What to do while something waits for the peer.
  wanted next(time_point now) const noexcept {
    if (is_under_way() && now >= until_)
      return wanted::give_up;
    if (at_ == state::knocking)
      return wanted::ask;
    return at_ == state::closed && now >= not_before_ ? wanted::knock : wanted::nothing;
  }
  /// The failure by which the peer is lost now.
  std::optional<failure> is_due(time_point now) const {
    return trouble_ && now >= trouble_->until ? std::optional{trouble_->cause} : std::nullopt;
  }

  void on_knocked(time_point now) noexcept {
    const keeps_invariants checked{*this};
    at_ = state::knocking;
    until_ = now + try_patience;
  }
  void on_admitted() noexcept {
    const keeps_invariants checked{*this};
    at_ = state::connecting;
  }
  void on_open() noexcept {
    const keeps_invariants checked{*this};
    at_ = state::open;
    trouble_.reset();
  }
  void on_given_up(time_point now) noexcept {
    const keeps_invariants checked{*this};
    at_ = state::closed;
    not_before_ = now + try_pause;
  }
  /// `in_use`: a write was under way, or operations of an earlier one.
  void on_broken(const failure& cause, bool in_use, time_point now) {
    const keeps_invariants checked{*this};
    if (at_ == state::lost)
      return;
    at_ = state::closed;
    if (in_use && !trouble_)
      trouble_ = {cause, now + trouble_patience};
  }
  void on_lost() noexcept {
    const keeps_invariants checked{*this};
    at_ = state::lost;
    trouble_.reset();
  }

private:
  friend class keeps_invariants<way_machine>;
  void show_states(state_view& view) const { view.show(way_machine_table, {}, static_cast<std::size_t>(at_)); }
  void check_invariants() const noexcept {
    TROUPE_ASSERT("C47", !trouble_ || (at_ != state::open && at_ != state::lost));
  }

  struct trouble {
    failure cause; ///< of the first connection that broke
    time_point until;
  };

  state at_ = state::closed;
  time_point until_;      ///< of the present try
  time_point not_before_; ///< of the next one
  std::optional<trouble> trouble_;
};

} // namespace troupe::protocols
