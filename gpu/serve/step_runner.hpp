#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "gpu/group.hpp"
#include "gpu/models/model.hpp"
#include "gpu/slot_area.hpp"
#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/flight/flight.hpp"
#include "protocols/serve/mesh_plan.hpp"
#include "protocols/serve/step_work.hpp"

namespace troupe::gpu {

/// A device event: what is handed on with it is complete once it has passed. Null: it is complete already (E12).
using moment = std::shared_ptr<const stream_event>;

/// Reports that do not wait for the end of a step. Called on the thread that runs the step; must not block.
class step_events {
public:
  virtual ~step_events() = default;
  /// At `ready` the pixels have been read and the rows are complete. In a mesh only the leader reports it.
  virtual void encoded(protocols::room_id room, moment ready) = 0;
  /// Every rank: a prompt's last piece is on the stream. At `ready` the prompt's blocks hold its keys and values.
  virtual void prefilled(const protocols::prefill_step& step, moment ready) = 0;
};

/// Carries out the steps of one cell on one rank, in lockstep with the other ranks; decides nothing.
/// Every rank runs the same code with the same plan, so what the leader does cannot differ from what it announces.
/// Contract: A24, A25, B11, B15, B20, E12, G1, G4, G9, G14.
/// Ownership: its buffers are kept, so that a decode step allocates nothing once the batch has been as large.
/// Threads: one at a time. Errors: those of the step; after one the rank cannot go on.
class step_runner {
public:
  struct parts {
    protocols::cell_plan cell;
    std::uint32_t place = 0;           ///< of this rank in the cell
    std::shared_ptr<group> cell_group; ///< absent for a cell of one rank
    std::shared_ptr<group> mesh;       ///< of this stage; absent without tensor parallelism
    models::model_facts facts;
    std::shared_ptr<models::vision_model> vision; ///< encode cells
    std::shared_ptr<models::text_model> text;     ///< prefill and decode cells
    slot_area pixels;                             ///< encode: what the front writes
    slot_area rows;                               ///< encode leader: send ring; prefill: what encode writes
    std::uint32_t batch_max = 1;
    std::uint32_t steps_ahead = 0; ///< as in step_machine; 1 where a device works beside the host
    protocols::duration step_deadline{};
    const std::atomic<bool>* captures = &models::always_captured; ///< whether to capture graphs; never null
  };

  step_runner(parts made_of, step_events& tells);

  /// Before a vote `out.votes` holds this rank's votes; before any other step `out` is empty.
  protocols::result<void> run(const protocols::mesh_plan& plan, const protocols::step_work& work,
                              protocols::step_outcome& out);

private:
  bool leads() const noexcept { return parts_.place == 0; }
  bool pipelined() const noexcept { return parts_.cell.pipeline_parallel > 1; }
  bool last_stage() const noexcept { return stage_ + 1 == parts_.cell.pipeline_parallel; }
  /// The rank that chooses tokens in a pass: the leader of the last stage.
  std::uint32_t chooser() const noexcept { return (parts_.cell.pipeline_parallel - 1) * parts_.cell.tensor_parallel; }

  protocols::result<void> carry_out(const protocols::mesh_plan& plan, const protocols::step_work& work,
                                    protocols::step_outcome& out);
  protocols::result<void> find_late(const protocols::mesh_plan& plan, protocols::result<void> done);
  protocols::result<void> vote(const protocols::mesh_plan& plan, protocols::step_outcome& out);
  protocols::result<void> encode(const protocols::mesh_plan& plan);
  protocols::result<void> encode_one(const protocols::mesh_plan& plan, const protocols::tower_item& item);
  protocols::result<void> prefill(const protocols::mesh_plan& plan, protocols::step_outcome& out);
  protocols::result<void> decode(const protocols::mesh_plan& plan, const protocols::step_work& work,
                                 protocols::step_outcome& out);
  protocols::result<void> change_batch(const protocols::decode_step& step, const protocols::step_work& work);
  protocols::result<void> step_running(const protocols::mesh_plan& plan, const protocols::step_work& work,
                                       protocols::step_outcome& out);
  protocols::result<void> step_chain(const protocols::mesh_plan& plan, const protocols::step_work& work,
                                     protocols::step_outcome& out);

  /// One pass of this stage over `batch_`. It chooses a token for each entry of `how_`; the leader has them in `out`.
  protocols::result<void> pass(const protocols::mesh_plan& plan, std::string_view phase, protocols::step_outcome& out);
  protocols::result<void> begin_groups(const protocols::mesh_plan& plan, std::string_view phase, bool compares);
  protocols::result<void> compute(const protocols::mesh_plan& plan, bool compares);
  protocols::result<void> choose(protocols::step_outcome& out);
  /// The same where the rank that chooses is another one than the leader: words from that one to this.
  protocols::result<void> exchange(protocols::step_outcome& out);
  protocols::result<void> end_groups();
  protocols::result<void> compare_replicas() const;

  // step_warm.cpp
  protocols::result<void> warm(const protocols::mesh_plan& plan, protocols::step_outcome& out);
  protocols::result<void> warm_group(const protocols::mesh_plan& plan);
  protocols::result<void> warm_prompts(const protocols::mesh_plan& plan, protocols::step_outcome& out);
  protocols::result<void> warm_pictures(const protocols::mesh_plan& plan);
  protocols::result<void> warm_prompt(const protocols::mesh_plan& plan, std::uint32_t tokens,
                                      protocols::step_outcome& out);
  protocols::result<void> warm_picture(const protocols::mesh_plan& plan, std::uint32_t side);
  protocols::result<void> open_running(const protocols::mesh_plan& plan);
  protocols::result<void> compare_captures(const protocols::mesh_plan& plan);
  models::capture_counts captures() const noexcept;
  void note_captures() noexcept;

  parts parts_;
  step_events& tells_;
  std::uint32_t stage_;
  std::unique_ptr<models::running_batch> running_; ///< of a decode cell of one stage; a chain of stages runs passes
  models::capture_counts noted_;                   ///< the counts last noted in the flight recorder

  // What a pass uses.
  std::vector<models::text_model::sequence> batch_;
  std::vector<std::array<std::int32_t, 3>> positions_;
  std::vector<models::text_model::rows_at> pictures_;
  struct choice {
    const protocols::sampling_options* options = nullptr; ///< the plan's or the machine's
    models::answer_so_far so_far;
  };
  std::vector<choice> how_;          ///< of each token that the pass chooses
  std::vector<std::int32_t> chosen_; ///< as it goes from the rank that chooses to the leader: ids, then `read_told`'s
  std::vector<float> logits_;
  std::vector<protocols::replica> replicas_; ///< of the members, where this rank compares them
};

protocols::flight_phase phase_of(protocols::plan_kind kind) noexcept;
/// A plan of the cell, as the flight recorder notes it.
protocols::flight_record record_of(const protocols::mesh_plan& plan, const protocols::cell_plan& cell,
                                   protocols::flight_action action) noexcept;

} // namespace troupe::gpu
