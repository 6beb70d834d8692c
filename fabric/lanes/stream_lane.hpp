#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>

#include "fabric/edge.hpp"
#include "fabric/lanes/connect.hpp"
#include "runtime/base/unique_fd.hpp"

namespace troupe::fabric {

/// Frames over a connected stream socket (TCP, or a unix stream socket).
/// What the kernel does not take at once waits in a buffer of `in_flight_bytes_max` and goes out with every later call
/// on the lane, so a thread that only receives still sends what it owes. Both buffers are allocated whole and touched
/// only as far as they are used.
/// Threads: a producer and a consumer; either may push out what is unsent, hence the mutex (uncontended beside the
/// system call that it guards).
class stream_lane final : public lane {
public:
  stream_lane(base::unique_fd socket, const edge& between, const lane_options& options);
  ~stream_lane() override;

  lane_kind kind() const noexcept override { return lane_kind::tcp; }

  protocols::result<void> try_send(protocols::frame_header header, std::span<const std::byte> payload) override;
  protocols::header_bytes stamp(protocols::frame_header header, std::span<const std::byte> payload) override;
  protocols::result<void> try_send_stamped(const protocols::header_bytes& header,
                                           std::span<const std::byte> payload) override;
  bool flush() override;

  protocols::result<std::optional<protocols::frame_view>> peek() override;
  void pop() override;
  bool is_amid_frame() const noexcept override { return !front_ && received_bytes() != 0; }

  bool arm(interest wanted) override;
  void disarm() override;
  wait_set waitables(interest wanted) const override;

  std::size_t bytes_in_flight() const noexcept override;
  void close() noexcept override;

private:
  protocols::result<void> make_room(std::size_t total);
  protocols::result<void> put(const protocols::header_bytes& header, std::span<const std::byte> payload);
  bool push_unsent();
  void keep_unsent(std::span<const std::byte> bytes);
  std::size_t unsent_bytes() const noexcept { return unsent_end_ - unsent_begin_; }

  protocols::result<std::optional<protocols::frame_view>> parse();
  protocols::result<bool> read_some();
  bool has_unchecked() const noexcept;
  std::size_t received_bytes() const noexcept { return in_end_ - in_begin_; }
  protocols::failure peer_gone(std::string_view how) const;

  base::unique_fd socket_;
  edge edge_;
  std::size_t frame_bytes_max_;
  std::size_t unsent_bytes_max_;
  std::atomic<bool> closed_ = false;     ///< by this side, or after an error
  std::atomic<bool> send_ended_ = false; ///< the peer takes nothing more; what it had sent is still delivered

  mutable std::mutex sending_; ///< guards what follows
  std::unique_ptr<std::byte[]> unsent_;
  std::size_t unsent_begin_ = 0;
  std::size_t unsent_end_ = 0;
  std::size_t refused_bytes_ = 0; ///< of the frame that did not fit
  std::uint64_t sent_ = 0;
  std::atomic<bool> has_unsent_ = false; ///< a look without the mutex

  std::unique_ptr<std::byte[]> in_;
  std::size_t in_bytes_;
  std::size_t in_begin_ = 0;
  std::size_t in_end_ = 0;
  std::uint64_t received_ = 0;
  std::optional<protocols::frame_header> arriving_; ///< checked, its payload not yet whole
  std::optional<protocols::frame_view> front_;
};

} // namespace troupe::fabric
