#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "fabric/transfers/transfer.hpp"
#include "fabric/transfers/transfer_doorbell.hpp"

namespace troupe::fabric {

/// What every engine does alike: its one thread's life, and what it says of a rank or region that it cannot use.
/// Threads: `mutex_` guards what the interface shares with the engine's thread.
class transfer_engine_base : public transfer_engine {
public:
  void be_watched(const base::watching& by) override;
  protocols::result<void> start(transfer_events events) override;
  /// Every engine's destructor calls it: the thread uses what the engine adds.
  void stop() noexcept override;

protected:
  /// Errors of `create`: config_invalid.
  static protocols::result<void> check_options(protocols::rank_id self, std::size_t queue_max);

  explicit transfer_engine_base(transfer_doorbell doorbell) noexcept : doorbell_(std::move(doorbell)) {}

  /// The engine's thread; returns soon after `stopping_` was set and the doorbell rang.
  virtual void run() noexcept = 0;
  /// To be asked once a turn, and a turn to be taken at least every `nap_`.
  bool goes_on();

  // Under `mutex_`.
  /// Errors: illegal_transition.
  protocols::result<void> check_registering() const;
  protocols::result<void> check_attaching() const;
  /// Errors: shutting_down.
  protocols::result<void> check_posting() const;
  /// Errors: out_of_bounds. `count`: regions of this rank.
  static protocols::result<void> check_own_region(std::uint32_t region, std::size_t count);
  static tl::unexpected<protocols::failure> not_attached(protocols::rank_id peer);
  static tl::unexpected<protocols::failure> not_attached(protocols::rank_id peer, std::uint32_t region);
  static tl::unexpected<protocols::failure> all_places_taken(std::size_t queue_max);

  const transfer_doorbell doorbell_;
  std::chrono::milliseconds nap_{1000}; ///< a belt, unless somebody watches: every cause to wake rings
  transfer_events events_;
  std::mutex mutex_;
  std::condition_variable changed_; ///< what an `attach_*` waits for may be there, or the engine stops
  bool asleep_ = false;             ///< the thread sleeps: whoever gives it work rings
  bool started_ = false;
  bool stopping_ = false;

private:
  base::progress_counter turn_; ///< the engine's thread's own, once started
  std::thread thread_;
};

} // namespace troupe::fabric
