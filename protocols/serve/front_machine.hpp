#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/fault.hpp"
#include "protocols/invariant.hpp"
#include "protocols/serve/serve_message.hpp"
#include "protocols/time.hpp"
#include "protocols/transfers/slot_pool_machine.hpp"

namespace troupe::protocols {

/// Keeps the ledger of requests: admits them, chooses their cells, emits each token once, ends each request once.
///
/// A request starts only when the front can reserve all that it needs: KV blocks of a decode cell for prompt and
/// answer, KV blocks and row slots of a prefill cell, a pixel slot of an encode cell and a staging slot for each
/// picture. So no started request waits behind the front for what another holds, and no inner wait for that ends it
/// (K16). A cell may free what an attempt held a little later than the front counts. The order then waits in the cell,
/// at most until the request's deadline, which the order carries.
///
/// Requests are admitted in order, with two exceptions. Text passes a request whose pictures wait for slots or for an
/// encode cell that is being restarted. Any request passes one that pauses before its next attempt. No request starves:
/// text takes no slot that the passed request waits for, and when that request lacks blocks, which every request needs,
/// nothing passes it.
///
/// A request is served in attempts. Each attempt has an id of its own on the wire, so late messages of an earlier one
/// carry an unknown id and are dropped. When a cell that serves an attempt is lost, or a fault is transient, and no
/// token has been emitted, the request goes back to its place in the queue, within its deadline and
/// `limits::request_attempts_max`. Once a token has been emitted it ends with the cause, because another attempt might
/// give another answer (D7). While a lost cell is being restarted, requests wait for it.
///
/// Silence is not loss: a stopped rank may go on. A cell whose leader does not acknowledge in time is *quiet* until it
/// is heard again. New attempts pass it over while another cell of its pool can take them. An attempt that has waited
/// for such a leader for half of the request's time is made anew on other cells, where there are any. Otherwise a
/// stopped cell would be sent every picture whose content names it until the supervisor gives it up (`kill_ms`).
///
/// A staging slot holds a picture from the start of the attempt until the last of its writes has ended, however late
/// that is reported. Where a write failed and may still read from the slot, the slot rests longer (K3, I24).
///
/// What computes may be repeated, what emits may not (D1).
/// Contract: A12, A13, C39, C40, C46, D1, D2, D5, D6, D7, D8, D11, D16, F14, I24, I27, J8, K2, K3, K16; bounded by
/// `in_flight_max` (started) and as many again waiting. Threads: the front actor's.
class front_machine {
public:
  struct options {
    std::uint32_t in_flight_max = 64;
    std::uint32_t context_max = 0;   ///< tokens of prompt and answer
    std::uint32_t kv_tokens_max = 0; ///< of a rank's pool
    std::uint32_t row_slots = 0;     ///< pictures that a prefill cell can hold at once
    std::uint32_t pixel_slots = 0;   ///< pictures that an encode cell can hold at once
    std::uint32_t staging_slots = 0; ///< pictures that the front can be writing at once
    std::uint32_t picture_tokens_max = 0;
    std::uint32_t vocabulary = 0;
    std::vector<token_id> end_tokens;
    duration request_deadline{}; ///< from the question's first frame to its end
    /// Without a leader's acknowledgement by then, the attempt ends. Not before the supervisor would have given up a
    /// rank that the host starves: such a rank is slow, and another attempt would find the same host.
    duration ack_deadline{};
    /// A cell whose leader owes an acknowledgement for so long is passed over while another of its pool serves.
    duration quiet_after{};
    duration drain_deadline{}; ///< a request that still runs this long after a drain began ends as failed
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
    std::uint32_t max_tokens = 0; ///< 0: `answer_room`
    time_point asked = {};        ///< the question's first frame
    std::uint32_t timeout_ms = 0; ///< from then; 0, or above `request_deadline`: that
    std::int32_t priority = 0;
    request_trace trace = {};
  };

  /// Copy the picture's pixels by way of the staging slot into `slot` of every rank of the encode cell, with completion
  /// data `room`; `on_pixels_written` follows for each rank.
  struct write_pixels {
    request_id request; ///< the client's; messages carry the attempt's id
    std::uint32_t picture = 0;
    room_id room;
    cell_id encode_cell;
    slot_ref slot;
    generation owner; ///< of the cell that lent the slot
    slot_index staging;
    bool operator==(const write_pixels&) const = default;
  };
  struct emit_token {
    request_id request;
    std::uint32_t index = 0;
    token_id id = 0;
    finish_reason finish = finish_reason::none;
    std::vector<token_logprob> logprobs = {}; ///< as `event_logprobs::values`
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

  /// How a write of pixels to one rank ended.
  enum class write_end {
    delivered, ///< the bytes are there
    refused,   ///< it was never begun
    failed     ///< it was begun; bytes of it may still be read and arrive (`may_still_arrive`)
  };

  /// Tokens that the answer to such a prompt may have, as context and pools go.
  std::uint32_t answer_room(std::size_t prompt_tokens) const noexcept;
  /// Errors: invalid_request, context_exceeded, queue_full, shutting_down; nothing was taken then.
  result<effects> on_request(request wanted, time_point now);
  effects on_pixel_credits(rank_id from, const grant_pixels& credits, time_point now);
  /// A token below the next index was emitted before and is dropped. One above it means that a token was lost, and ends
  /// the request.
  effects on_tokens(rank_id from, const tokens& batch, time_point now);
  void on_ack(rank_id from, const ack& word);
  /// Counts only from a rank that still has a part in the attempt; see `errors_ignored`.
  effects on_error(rank_id from, const error& problem, time_point now);
  /// Once for each rank of the encode cell. `cause`: why a write was not delivered.
  effects on_pixels_written(room_id room, write_end how, const failure& cause, time_point now);
  effects on_cancel(request_id id, time_point now);
  /// Cells of these ranks are gone, for a while (`news.next` is not 0) or for good.
  effects on_lost(const lost& news, time_point now);
  effects on_recovered(const recovered& news, time_point now);
  effects on_drain(time_point now);
  effects on_tick(time_point now);

  /// The request that an attempt's id on the wire stands for; nothing once the attempt has ended.
  std::optional<request_id> request_of(request_id attempt) const;
  std::size_t in_flight() const noexcept { return started_.size(); }
  std::size_t waiting() const noexcept { return waiting_.size(); }
  /// No request is here, and no staging slot is in use or rests.
  bool at_rest() const noexcept {
    return started_.empty() && waiting_.empty() && staged_.empty() && staging_.available() == staging_.size();
  }
  /// Errors that were ignored, from ranks without a part in the attempt.
  std::uint64_t errors_ignored() const noexcept { return errors_ignored_; }
  /// Contract: K3. How lent, held and resting differ from what there is, in words; empty: the sum is right.
  std::string audit() const;

private:
  friend class keeps_invariants<front_machine>;
  void check_invariants() const;
  void show_states(state_view& view) const;
  enum class presence { serving, returning, gone };
  struct cell_load {
    cell_id id;
    std::uint64_t blocks = 0;     ///< prefill, decode: KV blocks of the attempts that it serves
    std::uint32_t rows = 0;       ///< prefill: row slots of these
    std::deque<slot_ref> credits; ///< encode: free pixel slots
    generation born = {};         ///< encode: of the cell that lent them
    presence is = presence::serving;
    bool quiet = false; ///< its leader owes an acknowledgement for longer than `quiet_after`
  };
  struct needs {
    std::uint64_t prefill_blocks = 0;
    std::uint64_t decode_blocks = 0;
    std::uint32_t pictures = 0;
  };
  /// What a request gets when it starts.
  struct places {
    cell_load* prefill = nullptr;
    cell_load* decode = nullptr;
    std::vector<cell_load*> encode; ///< by picture
  };
  enum class attempt_start {
    started,     ///< or ended: it waits no more
    pauses,      ///< its next attempt is not due
    no_pictures, ///< it lacks slots for its pictures, which text does not need
    no_cell      ///< it lacks what every request needs
  };
  /// A picture of an attempt, until its writes have ended and its attempt needs it no more.
  struct staged {
    request_id attempt;
    cell_id encode_cell;
    std::optional<slot_ref> slot; ///< of the staging memory, until the last write has ended
    std::uint32_t writes_left = 0;
    bool settled = true;    ///< no failed write may still arrive
    bool over = false;      ///< the attempt needs its pixels no more
    bool tell_cell = false; ///< when over: the cell waits for `pixels_returned` (K2)
    bool cell_lost = false; ///< the generation that lent the slot is gone
  };
  struct queued {
    request what;
    std::uint64_t place = 0; ///< in the queue, kept by a further attempt
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
    time_point began;
    std::uint32_t next_index = 0; ///< of the token that may be emitted next
  };

  using started_iterator = std::map<request_id, entry>::iterator;

  std::optional<failure> judge(const request& wanted) const;
  std::optional<failure> judge_sampling(const request& wanted) const;
  failure late(const queued& which) const;
  std::uint32_t tokens_max() const noexcept { return std::min(bounds_.context_max, bounds_.kv_tokens_max); }
  static needs needs_of(const request& wanted);
  void admit(effects& out, time_point now);
  attempt_start start(queued& wanted, effects& out, time_point now);
  std::optional<failure> validate_cells(const request& wanted) const;
  attempt_start find_places(const request& wanted, places& found);
  bool choose_encode_cells(const request& wanted, std::vector<cell_load*>& chosen);
  static std::size_t count_heard(const std::vector<cell_load>& cells);
  cell_load* least_loaded(std::vector<cell_load>& cells, std::uint64_t blocks, std::uint32_t rows);
  void begin(queued& wanted, const places& found, effects& out, time_point now);
  void send_pictures(entry& started, request_id attempt, const places& found, submit& work, effects& out);
  static bool may_return(const std::vector<cell_load>& cells);
  bool has_part(const entry& attempt, rank_id from, const error& problem) const;
  static time_point half_time(const entry& attempt);
  void hear(rank_id from);
  void note_quiet(const entry& attempt, time_point now);
  bool is_better_elsewhere(const entry& attempt, time_point now) const;
  void leave_prefill(entry& attempt);
  void leave_pictures(request_id attempt, bool tell, effects& out);
  void leave_if_over(std::map<room_id, staged>::iterator which, effects& out);
  void leave_cells(started_iterator which, const std::optional<failure>& cause, effects& out);
  void end(started_iterator which, finish_reason reason, std::optional<failure> cause, effects& out);
  void retry_or_end(started_iterator which, const failure& cause, time_point now, duration pause, effects& out);
  void finish_drain(effects& out);

  const cluster_plan& plan_;
  options bounds_;
  std::vector<cell_load> encode_cells_;
  std::vector<cell_load> prefill_cells_;
  std::vector<cell_load> decode_cells_;
  std::string gone_for_; ///< why cells went that do not come back
  slot_pool_machine staging_;
  std::map<room_id, staged> staged_;
  std::deque<queued> waiting_;          ///< by `place`
  std::map<request_id, entry> started_; ///< by attempt
  std::uint64_t next_place_ = 1;
  std::uint64_t errors_ignored_ = 0;
  request_id next_attempt_{1};
  std::uint64_t next_room_ = 1;
  std::optional<time_point> drain_until_; ///< draining
  bool drained_said_ = false;
};

} // namespace troupe::protocols
