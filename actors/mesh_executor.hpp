#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "actors/admission_board.hpp"
#include "gpu/group.hpp"
#include "gpu/models/model.hpp"
#include "protocols/decode_machine.hpp"
#include "protocols/encode_machine.hpp"
#include "protocols/flight.hpp"
#include "protocols/prefill_machine.hpp"
#include "protocols/prompt_positions.hpp"
#include "runtime/base/assert.hpp"
#include "runtime/base/busy_sign.hpp"

namespace troupe::actors {

/// Slots of one registered region, as the executor sees them.
struct slot_area {
  std::span<std::byte> bytes;
  std::uint64_t slot_bytes = 0;
  gpu::device_kind device = gpu::device_kind::cpu;

  std::span<std::byte> slot(protocols::slot_index which) const {
    return bytes.subspan(which.value * slot_bytes, slot_bytes);
  }
  /// `count` rows of a slot, from row `first` on: f32 [count, width].
  gpu::tensor_view rows(protocols::slot_index which, std::uint32_t first, std::uint32_t count,
                        std::uint32_t width) const {
    TROUPE_ASSERT("slot", (std::uint64_t{first} + count) * width * sizeof(float) <= slot_bytes);
    return {slot(which).data() + std::uint64_t{first} * width * sizeof(float),
            gpu::element_kind::f32,
            device,
            {count, width}};
  }
};

/// Runs the steps of one cell on one rank, in lockstep with the other ranks of the cell.
///
/// The leader's loop takes orders from its role actor, announces each step on the plan channel and takes part in it; a
/// member's loop waits for the next plan and takes part. Both run the same `perform`, so what the leader does and what
/// it announces cannot differ. While sequences are active the leader steps without returning to any mailbox: an order
/// is looked for between two steps, and tokens go out on a lane of their own (DESIGN decision 3).
///
/// Contract: A7, A9, A24, A25, B11, B15, B18, B20, E19, F17, G7, K8.
/// Threads: `run` owns the thread that calls it and everything below; `order`, `stop` from any.
class mesh_executor {
public:
  struct parts {
    protocols::cell_plan cell;
    std::uint32_t place = 0;                ///< of this rank in the cell
    std::optional<gpu::plan_channel> plans; ///< absent for a cell of one rank
    std::shared_ptr<gpu::group> cell_group; ///< absent for a cell of one rank
    std::shared_ptr<gpu::group> mesh;       ///< of this stage; absent without tensor parallelism
    gpu::models::model_facts facts;
    std::shared_ptr<gpu::models::vision_model> vision; ///< encode cells
    std::shared_ptr<gpu::models::text_model> text;     ///< prefill and decode cells
    slot_area pixels;                                  ///< encode: what the front writes
    slot_area rows;                                    ///< encode leader: send ring; prefill: what encode writes
    std::uint32_t batch_max = 1;
    std::uint32_t steps_ahead = 0; ///< begun before the one before is collected: 1 where a device works beside the host
    protocols::duration step_deadline{};                               ///< of one announcement
    const std::atomic<bool>* captures = &gpu::models::always_captured; ///< whether what can be is; never null
    /// At work while the leader is at something that is no step: handing tokens on, taking an order. Steps are seen by
    /// the flight recorder.
    base::busy_sign turn;
    protocols::duration nap = std::chrono::seconds{1}; ///< a thread that waits for orders turns so often
  };

  // Orders of the role actor to its leader's executor.
  struct vote_order {
    protocols::request_id request;
    std::vector<protocols::room_id> rooms;
  };
  struct encode_order {
    protocols::tower_item item;
  };
  struct prefill_order {
    protocols::prefill_leader_machine::run_prefill what;
  };
  struct join_order {
    protocols::decode_leader_machine::join_batch what;
  };
  /// Out of the batch; of a prompt, no piece more of it. What is not there is told nothing of.
  struct leave_order {
    protocols::request_id request;
  };
  using any_order = std::variant<vote_order, encode_order, prefill_order, join_order, leave_order>;

  /// When the device has done what is handed on; none: it has (E12).
  using moment = std::shared_ptr<const gpu::stream_event>;

  /// Called on the executor's thread; they hand on and return. Those of the leader unless said otherwise.
  struct events {
    std::function<void(protocols::request_id, std::vector<protocols::admission>)> on_voted;
    /// The pixels have been read, and the rows are there at `ready`.
    std::function<void(protocols::room_id, moment ready)> on_encoded;
    /// The tower has ended, and was begun when it says.
    std::function<void(protocols::room_id, protocols::time_point began)> on_tower_ended;
    /// Every rank: the last piece of the prompt is on its way, and `blocks` hold its keys and values at `ready`.
    std::function<void(const protocols::prefill_step&, moment ready)> on_prefilled;
    std::function<void(protocols::request_id, protocols::token_id first, std::int32_t position_delta,
                       std::uint64_t digest, protocols::time_point began)>
        on_first_token;
    std::function<void(protocols::request_id)> on_left;
    /// The request has a fault of its own, or was told to leave: of a prompt no first token comes, and `on_prefilled`
    /// came only where `ran_whole`; of a sequence no token comes, and `on_left` follows (K8).
    std::function<void(protocols::request_id, const protocols::failure& cause, bool ran_whole)> on_given_up;
    std::function<protocols::result<void>(std::span<const protocols::token_event>)> on_tokens;
  };

  mesh_executor(parts made_of, events calls, admission_board& board);

  /// Runs until `stop` (leader) or the leader's stop plan (member). Errors: those of the step that failed; the rank
  /// cannot go on then.
  protocols::result<void> run();
  /// The first announcement: every collective and the smallest shapes once, in step. Before `run`.
  protocols::result<void> warm();

  /// Never waits for a step, so a leader's role actor hears and orders while its executor is in a collective (B23).
  /// Errors: queue_full.
  protocols::result<void> order(any_order what);
  void stop();

  /// Steps that have ended since the start: what heartbeats carry.
  std::uint64_t completed() const noexcept { return completed_.load(std::memory_order_relaxed); }

private:
  static protocols::flight_phase phase_of(protocols::plan_kind kind) noexcept;
  protocols::flight_record about(protocols::flight_action action) const noexcept;
  protocols::flight_record awaiting() const noexcept;

  struct row { ///< an active sequence
    protocols::sequence_join what;
    std::uint32_t context = 0;
    protocols::token_id newest = 0; ///< that has been collected; in a chain of stages the leader's alone
    std::uint32_t place = 0;        ///< in the running batch
    std::uint64_t entered = 0;      ///< steps of the running batch that had begun before
    // leader only
    std::uint32_t answered = 0;
    std::uint32_t max_tokens = 0;
    std::vector<protocols::token_id> end_tokens;
    bool ended = false; ///< its last token has been emitted
    bool leaving = false;
  };

  bool leads() const noexcept { return place_ == 0; }
  bool last_stage() const noexcept { return stage_ + 1 == parts_.cell.pipeline_parallel; }

  protocols::result<void> lead();
  protocols::result<void> follow();
  std::optional<any_order> next_order(bool wait);
  protocols::result<void> obey(any_order what);
  protocols::result<void> prefill_in_pieces(const protocols::prefill_leader_machine::run_prefill& order);
  void plan_piece(const protocols::prefill_leader_machine::run_prefill& order, const protocols::prompt_positions& where,
                  std::uint32_t begin);
  /// Why no rank may compute with these: a token that the model does not have.
  std::optional<protocols::failure> judge(std::span<const protocols::token_id> tokens) const;
  protocols::failure not_finite(std::uint32_t answer_index) const;
  protocols::result<void> step_batch();
  protocols::result<void> enter(const join_order& order);
  void drop(protocols::request_id request);
  /// Takes an order for this request to leave out of the queue.
  bool told_to_leave(protocols::request_id request);

  /// False: told to stop.
  protocols::result<bool> await_plan();
  struct pause;
  protocols::result<void> perform_in_pause();
  protocols::result<void> announce_and_perform();
  protocols::result<void> perform(const protocols::mesh_plan& plan);
  protocols::result<void> find_late(const protocols::mesh_plan& plan, protocols::result<void> done);
  protocols::result<void> perform_warm(const protocols::mesh_plan& plan);
  protocols::result<void> compare_replicas() const;
  protocols::result<void> warm_text(const protocols::mesh_plan& plan, std::uint32_t tokens);
  protocols::result<void> warm_vision(const protocols::mesh_plan& plan, std::uint32_t side);
  protocols::result<void> compare_captures(const protocols::mesh_plan& plan);
  gpu::models::capture_counts captures() const noexcept;
  void note_captures() noexcept;
  protocols::result<void> perform_vote(const protocols::mesh_plan& plan);
  protocols::result<void> perform_encode(const protocols::mesh_plan& plan);
  protocols::result<void> perform_prefill(const protocols::mesh_plan& plan);
  protocols::result<void> perform_decode(const protocols::mesh_plan& plan);
  protocols::result<void> change_batch(const protocols::decode_step& step);
  protocols::result<void> step_running(const protocols::mesh_plan& plan);
  protocols::result<void> step_chain(const protocols::mesh_plan& plan);
  protocols::result<void> open_running(const protocols::mesh_plan& plan);
  void take_token(std::uint32_t place, protocols::token_id id);
  /// The leader's: `one.newest` is a token of its answer.
  void answer(row& one);

  /// One pass of this stage over `batch_`; leaves the chosen tokens in `chosen_` on the leader.
  protocols::result<void> forward(const protocols::mesh_plan& plan, std::string_view phase, std::size_t choices);

  parts parts_;
  events calls_;
  admission_board& board_;
  std::uint32_t place_;
  std::uint32_t stage_;

  std::mutex mutex_;
  std::condition_variable ordered_;
  std::deque<any_order> orders_;
  bool stopping_ = false;
  std::atomic<std::uint64_t> completed_ = 0;

  // What a step uses; kept between steps so that a decode step allocates nothing once the batch has been this large.
  protocols::mesh_plan plan_;
  protocols::call_id next_call_{1};
  std::vector<std::byte> plan_bytes_;
  std::vector<row> rows_;                               ///< the batch, in the order of joining
  std::unique_ptr<gpu::models::running_batch> running_; ///< where one stage decodes; a chain of stages uses `forward`
  std::uint64_t begun_ = 0;                             ///< steps of `running_`
  std::uint64_t collected_ = 0;
  gpu::models::capture_counts noted_; ///< in the flight recorder
  std::deque<row> joining_;           ///< leader: handed over, not yet announced
  std::vector<row> entering_;         ///< leader: announced with the present plan
  std::vector<gpu::models::text_model::sequence> batch_;
  std::vector<std::array<std::int32_t, 3>> positions_;
  std::vector<gpu::models::text_model::rows_at> pictures_;
  std::vector<float> logits_;
  std::vector<protocols::replica> replicas_; ///< of the members, where this rank compares them
  std::vector<std::int32_t> votes_;
  std::vector<protocols::token_id> chosen_;
  std::vector<std::pair<protocols::sampling_options, std::uint64_t>> how_; ///< of each choice: options, answer index
  std::vector<protocols::token_event> emitted_;
};

} // namespace troupe::actors
