#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "fabric/lanes/connect.hpp"
#include "fabric/lanes/lane.hpp"
#include "fabric/lanes/link_queues.hpp"
#include "fabric/listening_socket.hpp"
#include "protocols/wire/link_machine.hpp"
#include "runtime/base/unique_fd.hpp"

namespace troupe::fabric {

/// The one thread of a rank that drives the lanes of its typed messages: it accepts edges, sends what actors post,
/// hands on what arrives, and sleeps in one poll when nothing flows.
/// A thread for each peer was rejected: it makes 63 threads of the front of a 64-rank job, all of them asleep.
///
/// Links to other ranks carry heartbeats, which the wire sends and takes itself: a rank whose actors are all busy is
/// heard, and what is heard of a peer stands in `peer_signs`, where a watchdog reads it without a lock.
///
/// Contract: C4, C20, C21, C50, E21 (a full lane holds back its own queue and nothing else).
/// Threads: `post`, `add` and `remove` from any; handlers run on the wire's thread and must not block.
class wire final : public link_queues {
public:
  struct handlers {
    /// An error means that the peer breaks the protocol: the link ends with it.
    std::function<protocols::result<void>(const protocols::frame_view&)> on_frame;
    /// Once; the lane is let go after it.
    std::function<void(const protocols::failure&)> on_gone;
    protocols::rank_id peer = protocols::client_rank; ///< as the flight recorder calls it
  };

  using bounds = protocols::link_bounds;

  /// What is known of the rank at the other end.
  struct peer_signs {
    std::atomic<bool> linked = false;
    std::atomic<std::uint32_t> born = 0;   ///< generation of the newest that was linked; whoever adds the link says it
    std::atomic<std::uint64_t> frames = 0; ///< that have come, of every kind
    std::atomic<std::uint64_t> completed = 0; ///< as its last heartbeat said
    std::atomic<bool> busy = false;
  };

  wire();
  ~wire() override;
  wire(const wire&) = delete;
  wire& operator=(const wire&) = delete;

  void start();
  /// Sends what is queued for at most `limits::wire_flush_deadline`, then closes every lane.
  void stop() noexcept;

  /// Every `period` each link with signs gets what `self` says, on the wire's thread. Before `start`.
  void beat(protocols::duration period, std::function<protocols::heartbeat()> self);
  /// Grows while the wire's thread lives, at least every `nap_max`.
  std::uint64_t turns() const noexcept override { return turns_.load(std::memory_order_relaxed); }

  /// `signs`: the link's other end is a rank; kept for as long as the wire.
  key add(std::unique_ptr<lane> with, handlers what, peer_signs* signs, bounds held);
  key add(std::unique_ptr<lane> with, handlers what, peer_signs* signs = nullptr) {
    return add(std::move(with), std::move(what), signs, bounds{});
  }
  /// Closes the lane once what is queued has gone out, the peer is gone or `limits::link_leave_deadline` has passed;
  /// on_gone is not called.
  void remove(key which) override;
  void handled(key which) override;

  protocols::result<void> post(key which, const protocols::frame_header& header,
                               std::vector<std::byte> payload) override;

  /// Takes over accepting; `on_lane` gets each lane that came to be, `on_refused` a line for each that did not.
  void listen(std::unique_ptr<listener> from, std::function<void(incoming)> on_lane,
              std::function<void(const std::string&)> on_refused);

  /// Calls `on_client` with each connection to a listening unix socket, from now on. Once. `crowded`: it has one of the
  /// descriptors that are kept for lanes, so it can be told so and no more.
  void accept_clients(listening_socket listening, std::function<void(base::unique_fd, bool crowded)> on_client);

private:
  struct outgoing {
    protocols::frame_header header;
    std::vector<std::byte> payload;
  };
  /// Of a link, against its bounds.
  struct counts {
    bounds most;
    std::atomic<std::size_t> queued_frames = 0;
    std::atomic<std::size_t> queued_bytes = 0;
    std::atomic<std::size_t> unhandled = 0;

    bool may_read() const noexcept { return most.may_read(unhandled.load()); }
  };
  struct link {
    key id = 0;
    std::unique_ptr<lane> with;
    handlers what;
    peer_signs* signs = nullptr;
    std::deque<outgoing> queue; ///< the wire's own; `posted_` is what others have added
    std::shared_ptr<counts> held;
    protocols::link_machine life;
  };
  struct posted {
    key which;
    outgoing frame;
  };

  void run();
  void take_posts();
  bool send_some(link& one);
  bool receive_some(link& one);
  void check_unfinished(link& one);
  bool take_heartbeat(link& one, const protocols::frame_view& frame);
  void send_heartbeats(protocols::time_point now);
  void lose(link& one, const protocols::failure& cause);
  void sleep();
  void wake() noexcept;
  void accept_waiting_clients();
  bool accept_client();
  bool rests_from_accepting() const;

  base::unique_fd doorbell_;
  std::atomic<bool> sleeping_ = false;
  std::atomic<bool> stopping_ = false;
  std::atomic<std::uint64_t> turns_ = 0;
  std::thread thread_;

  std::mutex mutex_; ///< guards what other threads hand in
  std::vector<posted> posted_;
  std::map<key, std::unique_ptr<link>> added_;
  std::vector<key> removed_;
  std::map<key, std::shared_ptr<counts>> held_; ///< absent: peer gone
  key next_key_ = 1;
  listening_socket clients_added_;

  std::map<key, std::unique_ptr<link>> links_; ///< the wire's thread only, as all below
  std::function<protocols::heartbeat()> self_;
  protocols::beat_schedule beats_;
  std::vector<std::byte> beat_bytes_;
  std::unique_ptr<listener> listener_;
  std::function<void(incoming)> on_lane_;
  std::function<void(const std::string&)> on_refused_;
  listening_socket clients_;
  std::function<void(base::unique_fd, bool)> on_client_;
};

} // namespace troupe::fabric
