#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "fabric/lanes/lane.hpp"
#include "protocols/fault.hpp"
#include "protocols/limits.hpp"
#include "protocols/serve/client_messages.hpp"
#include "protocols/serve/request_messages.hpp"
#include "protocols/time.hpp"
#include "runtime/base/unique_fd.hpp"

namespace troupe::embed {

/// A picture file as it lies on disk: PNG or JPEG.
struct picture_file {
  std::string name; ///< for error lines
  std::vector<std::byte> bytes;
};

struct question {
  std::string prompt;                 ///< at most `prompt_bytes_max`
  std::vector<picture_file> pictures; ///< at most limits::pictures_per_request_max
  std::uint32_t max_tokens = 128;
  protocols::sampling_options sampling; ///< greedy unless said otherwise
};

inline constexpr std::size_t prompt_bytes_max = protocols::limits::picture_chunk_bytes; ///< it stands in one frame

/// What the front said of a question, told apart by the `tag` that `ask` gave it: `accepted`, one `answer` a token,
/// then `finished`; or `refused` alone. The whole text is that of all answers and then of `finished`.
using event = std::variant<protocols::accepted, protocols::answer, protocols::finished, protocols::refused>;

/// A connection to the front of a running job; many questions may be in flight on it.
/// It has no thread and keeps no reply: whoever asks also calls `next_event`, which sends what is still to be sent
/// while it reads, so a front that is slow to take pictures holds up neither side. The front ends a connection on which
/// a frame was begun and is not ended within `limits::client_frame_deadline`. Contract: A17, C15 (a question that
/// cannot be sent whole ends the connection, never half of it). Threads: one at a time, except `interrupt`.
class client {
public:
  /// `socket`: the front's unix socket; `front`: its rank in the plan. Errors: peer_gone (nobody listens there, with
  /// the path and errno in words), timeout.
  static protocols::result<client> connect(const std::string& socket, protocols::rank_id front,
                                           protocols::time_point deadline);

  /// Takes the question and sends what fits now; the rest goes out in `next_event`. Never blocks.
  /// Errors: invalid_request (too many pictures, or a prompt beyond a frame), queue_full (`questions_waiting_max` are
  /// not sent yet: read events, then ask again; or the front has refused the connection), peer_gone.
  protocols::result<std::uint64_t> ask(question what);

  /// Asks the front to end that question; how it ends, an event says: it may have ended meanwhile. What is not sent of
  /// its pictures is not sent any more. Never blocks; the order goes out like a question, after its `ask`.
  /// Contract: C15, K9.
  void cancel(std::uint64_t tag) { cancels_.push_back(tag); }

  /// Sends and reads until there is an event. Errors: timeout (the connection stays good), cancelled (after
  /// `interrupt`), peer_gone, the faults of a frame that is not as it should be, what the front refuses the connection
  /// with (queue_full: too many clients); after these the connection is over.
  protocols::result<event> next_event(protocols::time_point deadline);

  /// Makes this and every later `next_event` return cancelled instead of waiting. Any thread.
  void interrupt() noexcept;

  static constexpr std::size_t questions_waiting_max = 256;

private:
  /// A question on its way out: first the `ask`, then its pictures piece by piece.
  struct outgoing {
    std::uint64_t tag = 0;
    question what;
    bool announced = false;
    std::uint32_t picture = 0;
    std::size_t offset = 0;
  };

  client(std::unique_ptr<fabric::lane> lane, protocols::rank_id front, base::unique_fd wake);

  /// True when the lane has all of it; false when it is full.
  protocols::result<bool> send_what_fits();
  protocols::result<bool> send_questions();
  /// Of questions that were announced.
  protocols::result<bool> send_cancels();
  template <class Message>
  protocols::result<bool> try_send(const Message& message);
  protocols::result<std::optional<event>> take_event();
  /// What the front said of the connection before it closed it, if it did; otherwise `seen`.
  protocols::failure cause_of_end(const protocols::failure& seen);
  /// Sleeps until the lane moves. Errors: timeout, cancelled.
  protocols::result<void> wait(bool writable, protocols::time_point deadline);

  std::unique_ptr<fabric::lane> lane_;
  protocols::rank_id front_;
  base::unique_fd wake_; ///< eventfd; readable once interrupted
  std::deque<outgoing> waiting_;
  std::deque<std::uint64_t> cancels_;
  std::uint64_t last_tag_ = 0;
  std::vector<std::byte> payload_; ///< reused from frame to frame
};

} // namespace troupe::embed
