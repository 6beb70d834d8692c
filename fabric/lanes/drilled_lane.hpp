#pragma once

// Decides outside protocols: acts a fault of a drill, which the product must not know of

#include <deque>
#include <memory>
#include <vector>

#include "fabric/lanes/lane.hpp"
#include "protocols/wire/edge_messages.hpp"
#include "runtime/base/fault_point.hpp"
#include "runtime/base/unique_fd.hpp"

namespace troupe::fabric {

/// The lane itself where drills are off; a `drilled_lane` around it where they are on.
std::unique_ptr<lane> drilled(std::unique_ptr<lane> with, protocols::rank_id peer, protocols::channel_kind channel);

/// A lane whose frames a drill can lose, delay, double, reorder, change or cut off (protocols/drill/injection.hpp).
/// It sits between stamp and wire: what it does to a frame happens after the frame has got its sequence and checksum,
/// as a broken link would do it, and the peer's own judgement has to find it. A delayed frame is not taken at all until
/// its time has come: the lane says that it is full, so whoever sends waits as for a slow peer and nothing piles up
/// here. What is judged once is not judged again when its sender comes back with it; a sender that gives the frame up
/// spends the verdict on its next one. Threads: as of the lane within.
class drilled_lane final : public lane {
public:
  drilled_lane(std::unique_ptr<lane> with, base::fault_injector& drill, protocols::rank_id peer,
               protocols::channel_kind channel);

  lane_kind kind() const noexcept override { return with_->kind(); }

  protocols::result<void> try_send(protocols::frame_header header, std::span<const std::byte> payload) override;
  protocols::header_bytes stamp(protocols::frame_header header, std::span<const std::byte> payload) override;
  protocols::result<void> try_send_stamped(const protocols::header_bytes& header,
                                           std::span<const std::byte> payload) override;
  bool flush() override;

  protocols::result<std::optional<protocols::frame_view>> peek() override;
  void pop() override;
  bool is_amid_frame() const noexcept override { return with_->is_amid_frame(); }

  bool arm(interest wanted) override;
  void disarm() override;
  wait_set waitables(interest wanted) const override;

  std::size_t bytes_in_flight() const noexcept override { return with_->bytes_in_flight(); }
  void close() noexcept override { with_->close(); }

private:
  struct stamped {
    protocols::header_bytes header;
    std::vector<std::byte> payload;
  };
  /// A fault that lasts: from when it struck until its time is over, or for ever.
  struct spell {
    bool on = false;
    protocols::time_point until; ///< the clock's beginning: no end
    bool holds(protocols::time_point now) const noexcept {
      return on && (until == protocols::time_point{} || now < until);
    }
  };

  protocols::result<void> suffer(const protocols::injection_rule& rule, const protocols::frame_header& header,
                                 std::span<const std::byte> payload);
  void hold(const protocols::frame_header& header, std::span<const std::byte> payload);
  bool push_held();
  void begin(spell& what, std::uint32_t ms);
  void set_timer(protocols::time_point at);
  void check_end();
  interest within(interest wanted) const;

  std::unique_ptr<lane> with_;
  base::fault_injector& drill_;
  protocols::rank_id peer_;
  std::uint8_t channel_;
  base::unique_fd timer_; ///< timerfd: the end of a delay or of a spell

  std::deque<stamped> held_;    ///< on their way as soon as there is room
  std::optional<stamped> late_; ///< goes after the next frame
  bool judged_ = false;         ///< the frame that comes next has been judged before
  spell delay_;
  spell silent_; ///< nothing goes out
  spell deaf_;   ///< what comes in is thrown away
  spell unread_; ///< what comes in is left where it is
  bool front_judged_ = false;
  bool ended_ = false; ///< the peer's end was seen while nothing was read
};

} // namespace troupe::fabric
