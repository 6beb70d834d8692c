#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "fabric/lanes/lane.hpp"
#include "protocols/wire/codec.hpp"
#include "runtime/base/unique_fd.hpp"

/// The socket between a rank and its supervisor.
namespace troupe::cluster {

/// Both ends of a control socket stand for one process each and are made with it, so no frame of another generation
/// can come; the generation of the rank itself stands in `launch`.
inline constexpr protocols::generation control_generation{1};

/// The rank's end; takes the descriptor.
std::unique_ptr<fabric::lane> open_control_lane(int fd, protocols::rank_id self);

/// One end, with whole messages in and out. Threads: one.
class control_link {
public:
  static control_link at_supervisor(base::unique_fd socket, protocols::rank_id rank);
  static control_link at_rank(base::unique_fd socket, protocols::rank_id self);

  /// Errors: those of lane::try_send. A full lane is one: over a life only a handful of frames go each way, so a peer
  /// that has left megabytes unread does not read at all.
  template <class Message>
  protocols::result<void> send(const Message& message) {
    payload_.clear();
    protocols::encode_payload(message, payload_);
    return lane_->try_send({.type = Message::type}, payload_);
  }

  /// The next frame, valid until the next call. Errors: those of lane::peek.
  protocols::result<std::optional<protocols::frame_view>> next();

  /// What `next` will give, without taking it; the frame of the last `next` is no longer valid.
  protocols::result<std::optional<protocols::frame_view>> peek();

  fabric::lane& lane() noexcept { return *lane_; }

private:
  explicit control_link(std::unique_ptr<fabric::lane> lane) noexcept : lane_(std::move(lane)) {}

  std::unique_ptr<fabric::lane> lane_;
  std::vector<std::byte> payload_; ///< reused from message to message
  bool taken_ = false;             ///< the frame of the last `next` is still to be popped
};

} // namespace troupe::cluster
