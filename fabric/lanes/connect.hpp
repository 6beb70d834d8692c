#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fabric/edge.hpp"
#include "fabric/lanes/lane.hpp"
#include "protocols/cluster/life_messages.hpp"
#include "protocols/wire/edge_messages.hpp"

/// How lanes come to be: a rank listens on a unix socket (shared-memory lanes) and on a TCP port; for every edge and
/// channel of the plan one side connects, says `hello`, and is welcomed or refused.
namespace troupe::fabric {

/// Who this rank is, for every hello and every header.
struct identity {
  protocols::rank_id rank;
  protocols::generation born;
  std::array<std::byte, 32> job_token{};
  std::string build;
  protocols::cache_epoch epoch{}; ///< of the job when this rank was started; that of the edges that it connects
};

struct lane_options {
  std::size_t frame_bytes_max = protocols::limits::frame_bytes_max_default;
  std::size_t in_flight_bytes_max = 2 * protocols::limits::frame_bytes_max_default; ///< of one direction
};

/// What a hello asked for, and the lane it got.
struct incoming {
  std::unique_ptr<lane> with;
  protocols::rank_id peer;
  protocols::generation peer_born;
  protocols::channel_kind channel;
  protocols::group_id group;
  std::vector<std::string> capabilities;
};

/// Accepts edges. A peer that has not shown the job's token costs at most 64 KiB and one deadline (2 s); 256 of them
/// are heard at a time, for 250 ms each once all places are taken. What one sends wrong is refused with a named fault,
/// told in `take_refusals`, and disturbs no other connection.
///
/// Refused with: the faults of decode_header and decode_frame, bad_checksum, timeout, peer_gone, wrong_job,
/// wrong_rank, stale_generation, stale_epoch, wrong_sequence, those of `hello_check`.
///
/// Threads: all calls from one thread (the wire thread or the one that sets the rank up); nothing runs in between.
class listener {
public:
  /// `expects` says whether a hello of that rank, generation, epoch, channel and group is part of the plan; a failure
  /// refuses.
  using hello_check = std::function<protocols::result<void>(const edge& between, const protocols::hello& said)>;
  /// Hears of each hello whose lane has come to be, before the next one is checked.
  using notice = std::function<void(const edge& between, const protocols::hello& said)>;

  /// `unix_path` empty: no shared-memory lanes; `tcp_address` empty: no TCP. Errors: config_invalid with address and
  /// errno in words ("cannot listen on 127.0.0.1:9000: address in use; ...").
  static protocols::result<std::unique_ptr<listener>> open(const std::string& unix_path, const std::string& tcp_address,
                                                           std::uint16_t tcp_port, identity self, lane_options options,
                                                           hello_check expects, notice begun = {});
  virtual ~listener() = default;

  virtual std::uint16_t tcp_port() const noexcept = 0;
  /// What to poll (POLLIN) before the next `step`.
  virtual std::vector<pollfd> waitables() const = 0;
  /// Accepts, reads hellos, welcomes or refuses; returns the lanes that came to be. Never blocks. To be called every
  /// second or so even when nothing is polled: silent peers are dropped here.
  virtual std::vector<incoming> step(protocols::time_point now) = 0;
  /// Refusals since the last call, one line each.
  virtual std::vector<std::string> take_refusals() = 0;
};

/// Connects to a peer and waits for its welcome. Errors: timeout, peer_gone, the fault of a `refuse` with its message.
protocols::result<std::unique_ptr<lane>> connect(lane_kind kind, const protocols::endpoint& to, const identity& self,
                                                 const protocols::hello& say, lane_options options,
                                                 protocols::time_point deadline);

/// A lane over a stream socket that is already connected (supervisor control, clients of the front, tests): no hello.
/// Takes the descriptor. `self`/`peer` stand in every frame and are checked. TCP or a unix stream socket.
std::unique_ptr<lane> make_stream_lane(int fd, protocols::rank_id self, protocols::generation self_born,
                                       protocols::rank_id peer, protocols::generation peer_born, lane_options options);

/// Two ends of a shared-memory lane in one process, ranks 0 and 1, for tests and benchmarks.
std::pair<std::unique_ptr<lane>, std::unique_ptr<lane>> make_shared_memory_pair(lane_options options);

} // namespace troupe::fabric
