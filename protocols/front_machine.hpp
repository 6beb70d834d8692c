#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "protocols/cluster_plan.hpp"
#include "protocols/fault.hpp"
#include "protocols/serve_message.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// Keeps the ledger of requests: admits them, chooses their cells, emits each token once, ends each request once.
///
/// Admission is strictly first come, first served. Every role behind the front serves in that same order, so the oldest
/// request can always get what it lacks: letting a small request pass a large one would allow two requests to hold what
/// the other waits for, in prefill and in decode.
///
/// A request is served in attempts. Each has an id of its own on the wire, so whatever still comes of an earlier one is
/// unknown here and dropped. When a cell that serves an attempt is lost, or a transfer fails, and no token has been
/// emitted, the request goes back to its place in the queue, within its deadline and `limits::request_attempts_max`;
/// once a token has been emitted it ends with the cause, because the next attempt might say something else (D7).
/// While a lost cell is being restarted, requests wait for it.
///
/// What computes may be repeated, what emits may not (D1).
/// Contract: A12, A13, D1, D2, D5, D6, D7, D8, D11, D16, F14, J8, C46; bounded by `in_flight_max` (started) and as many
/// again waiting. Threads: the front actor's.
class front_machine {
public:
  struct options {
    std::uint32_t in_flight_max = 64;
    std::uint32_t context_max = 0;   ///< tokens of prompt and answer
    std::uint32_t kv_tokens_max = 0; ///< of a rank's pool
    std::uint32_t row_slots = 0;     ///< pictures that a prefill cell can hold at once
    std::uint32_t pixel_slots = 0;   ///< pictures that an encode cell can hold at once
    std::uint32_t picture_tokens_max = 0;
    std::vector<token_id> end_tokens;
    duration request_deadline{};        ///< from accepted to ended
    duration ack_deadline{};            ///< a leader that has not acknowledged by then is slow beyond use, or gone
    duration drain_deadline{};          ///< what still runs this long after a drain began ends as failed
    std::uint32_t room_deadline_ms = 0; ///< handed to the roles
  };

  struct picture {
    std::uint32_t height = 0; ///< resized
    std::uint32_t width = 0;
    std::uint32_t tokens = 0;
    std::uint32_t first_token = 0; ///< in the prompt
    std::array<std::uint32_t, 3> grid{};
    std::uint64_t content_hash = 0;
  };
  struct request {
    request_id id;
    std::vector<token_id> prompt;
    std::vector<picture> pictures;
    sampling_options sampling;
    std::uint32_t max_tokens = 0;
  };

  /// Copy the picture's pixels into `slot` of every rank of the encode cell, then tell it with completion data `room`.
  struct write_pixels {
    request_id request; ///< as the client's; on the wire it goes by its attempt
    std::uint32_t picture = 0;
    room_id room;
    cell_id encode_cell;
    slot_ref slot;
    generation owner; ///< of the cell that lent the slot
    bool operator==(const write_pixels&) const = default;
  };
  struct emit_token {
    request_id request;
    std::uint32_t index = 0;
    token_id id = 0;
    bool operator==(const emit_token&) const = default;
  };
  /// The request has ended; nothing of it will be emitted any more.
  struct end_request {
    request_id request;
    finish_reason reason = finish_reason::none;
    std::optional<failure> cause;
    bool operator==(const end_request&) const = default;
  };
  /// Every request has ended and none will be taken.
  struct drained {
    bool operator==(const drained&) const = default;
  };
  using effect = std::variant<send_message, write_pixels, emit_token, end_request, drained>;
  using effects = std::vector<effect>;

  front_machine(const cluster_plan& plan, options bounds);

  /// Errors: invalid_request, context_exceeded, queue_full, shutting_down; nothing was taken then.
  result<effects> on_request(request wanted, time_point now);
  effects on_pixel_credits(rank_id from, const grant_pixels& credits, time_point now);
  /// A token whose index is behind was emitted before and is dropped; one ahead is a lost one and ends the request.
  effects on_tokens(rank_id from, const tokens& batch, time_point now);
  void on_ack(rank_id from, const ack& word);
  effects on_error(rank_id from, const error& problem, time_point now);
  effects on_pixels_failed(room_id room, const failure& cause, time_point now);
  effects on_cancel(request_id id, time_point now);
  /// Cells of these ranks are gone, for a while (`news.next` is not 0) or for good.
  effects on_lost(const lost& news, time_point now);
  effects on_regained(const regained& news, time_point now);
  effects on_drain(time_point now);
  effects on_tick(time_point now);

  /// The request that an attempt's id on the wire stands for; nothing once the attempt has ended.
  std::optional<request_id> request_of(request_id attempt) const;
  std::size_t in_flight() const noexcept { return started_.size(); }
  std::size_t waiting() const noexcept { return waiting_.size(); }

private:
  enum class presence { serving, returning, gone };
  struct cell_load {
    cell_id id;
    std::uint64_t tokens = 0;     ///< of the requests that it serves
    std::deque<slot_ref> credits; ///< encode: free pixel slots
    generation born = {};         ///< encode: of the cell that lent them
    presence is = presence::serving;
  };
  struct queued {
    request what;
    time_point deadline;
    std::uint32_t attempts = 0; ///< that it has had
    time_point not_before = {}; ///< of the next one
  };
  struct entry { ///< an attempt
    queued of;
    std::vector<room_id> rooms;
    cell_id decode;
    // Until the first token: it comes from decode, once all that the others had to give has arrived there.
    std::optional<cell_id> prefill;
    std::vector<cell_id> encode;
    std::set<rank_id> unheard; ///< leaders that have not acknowledged their part (A12, A13)
    time_point unheard_until;
    std::uint32_t next_index = 0; ///< of the token that may be emitted next
  };

  using started_iterator = std::map<request_id, entry>::iterator;

  std::optional<failure> judge(const request& wanted) const;
  void admit(effects& out, time_point now);
  bool start(queued& wanted, effects& out, time_point now);
  bool choose_encode_cells(const request& wanted, std::vector<cell_load*>& chosen);
  static cell_load* least_loaded(std::vector<cell_load>& cells);
  static bool may_return(const std::vector<cell_load>& cells);
  void leave_prefill(entry& attempt);
  void leave_cells(started_iterator which, const std::optional<failure>& cause, effects& out);
  void end(started_iterator which, finish_reason reason, std::optional<failure> cause, effects& out);
  void retry_or_end(started_iterator which, const failure& cause, time_point now, duration pause, effects& out);
  void finish_drain(effects& out);

  const cluster_plan& plan_;
  options bounds_;
  std::vector<cell_load> encode_cells_;
  std::vector<cell_load> prefill_cells_;
  std::vector<cell_load> decode_cells_;
  std::deque<queued> waiting_;
  std::map<request_id, entry> started_; ///< by attempt
  request_id next_attempt_{1};
  std::uint64_t next_room_ = 1;
  std::optional<time_point> drain_until_; ///< draining
  bool drained_said_ = false;
};

} // namespace troupe::protocols
