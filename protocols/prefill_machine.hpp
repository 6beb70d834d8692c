#pragma once

#include <map>
#include <optional>
#include <set>
#include <variant>
#include <vector>

#include "protocols/block_pool_machine.hpp"
#include "protocols/cluster_plan.hpp"
#include "protocols/lease.hpp"
#include "protocols/serve_message.hpp"
#include "protocols/slot_pool_machine.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// Leader of a prefill cell: decides what the mesh admits and runs.
///
/// A request gets its row slots and KV blocks in one piece and strictly in order of arrival (see `front_machine`). It
/// enters the forward only after all ranks of the mesh have voted that its rows are whole: the leader's own knowledge
/// is not enough, since a rank whose transfer failed must not be drawn into a collective.
///
/// Contract: A8, B15, B16, B18, C23, C25, F13, I24, I29.
/// Threads: the prefill actor's.
class prefill_leader_machine {
public:
  struct options {
    rank_id front;
    std::uint32_t kv_blocks = 0;
    std::uint32_t row_slots = 0;
    duration room_deadline{};
    std::uint32_t requests_max = 0;
  };

  using vote = room_vote;
  struct run_prefill {
    submit work;
    std::vector<block_index> blocks;
    std::vector<slot_index> rows; ///< of each picture
    bool operator==(const run_prefill&) const = default;
  };
  using effect = std::variant<send_message, vote, run_prefill>;
  using effects = std::vector<effect>;

  prefill_leader_machine(const cluster_plan& plan, cell_id cell, options bounds);

  effects on_submit(const submit& work, time_point now);
  effects on_landed(const landed& news, std::uint32_t place, time_point now);
  effects on_vote(request_id request, const std::vector<admission>& minimum, time_point now);
  effects on_prefilled(request_id request, token_id first_token, std::int32_t position_delta, std::uint64_t digest,
                       time_point now);
  effects on_shipped(const shipped& news, std::uint32_t place, time_point now);
  effects on_cancel(request_id request, time_point now);
  /// The processes that these ranks were have ended, and nothing that they had begun to write here can still arrive.
  effects on_writers_gone(const std::vector<rank_id>& gone, time_point now);
  effects on_tick(time_point now);

  std::size_t requests() const noexcept { return requests_.size() + waiting_.size(); }
  bool ended(request_id request) const noexcept { return ended_.buried(request.value); }

private:
  enum class stage {
    gathering, ///< rows are on their way
    voting,    ///< the mesh is asked
    running,   ///< in the forward
    shipping,  ///< keys and values are on their way
  };
  struct request_state {
    stage at = stage::gathering;
    submit work;
    time_point deadline;
    std::vector<block_index> blocks;
    std::vector<slot_ref> rows;                  ///< by picture
    std::set<rank_id> gone;                      ///< of those that write them
    std::map<room_id, std::vector<bool>> landed; ///< by place
    std::vector<bool> shipped;                   ///< by place
    std::optional<failure> ending;               ///< cancelled or failed; what the mesh uses is kept until it is done
  };
  using iterator = std::map<request_id, request_state>::iterator;

  void admit(effects& out, time_point now);
  void vote_if_whole(iterator which, effects& out);
  void tell_front(request_id request, const failure& cause, effects& out) const;
  void end(iterator which, bool rows_suspect, effects& out, time_point now);

  const cluster_plan& plan_;
  const cell_plan& cell_;
  options bounds_;
  block_pool_machine blocks_;
  slot_pool_machine rows_;
  waiting_line<submit> waiting_;
  std::map<request_id, request_state> requests_;
  tombstones ended_;
};

/// Every rank of a prefill cell, the leader too: grants its rows, reports what has landed, and sends its share of the
/// keys and values to the decode ranks that hold the same heads and layers.
///
/// Contract: I12, I15, I16, C22, C32, D10, F14.
/// Threads: the prefill actor's.
class prefill_member_machine {
public:
  struct options {
    generation born = {}; ///< of this rank
    std::uint32_t row_elements = 0;
    duration room_deadline{};
    std::uint32_t rooms_max = 0;
    element_type kv_dtype = element_type::f32;
    /// Places of each decode cell that share heads and layers with this rank.
    std::map<cell_id, std::vector<std::uint32_t>> overlap;
  };

  using set_admission = room_admission;
  using forget_admission = room_forgotten;
  /// Write the shared heads and layers of `blocks` to the peer's `target` blocks, completion data = room.
  struct write_blocks {
    room_id room;
    std::uint32_t part = 0; ///< place in the decode cell
    cell_id decode_cell;
    std::vector<block_index> blocks;
    std::vector<block_index> target;
    lease under; ///< of the target
    bool operator==(const write_blocks&) const = default;
  };
  using effect = std::variant<send_message, set_admission, forget_admission, write_blocks>;
  using effects = std::vector<effect>;

  prefill_member_machine(const cluster_plan& plan, cell_id cell, rank_id self, options bounds);

  effects on_reserve_rows(const reserve_rows& order, time_point now);
  effects on_rows_landed(room_id room, time_point now);
  /// The executor has finished the last piece of the prompt: `blocks` hold its keys and values.
  effects on_prefilled(request_id request, room_id kv_room, cell_id decode_cell, std::vector<block_index> blocks,
                       time_point now);
  effects on_grant(rank_id from, const grant_blocks& grant, time_point now);
  effects on_written(room_id room, std::uint32_t part, const result<void>& outcome, time_point now);
  effects on_release(request_id request, time_point now);
  effects on_tick(time_point now);

private:
  struct row_room {
    request_id request;
    time_point deadline;
    bool granted = false;
    bool landed = false;
  };
  struct kv_room {
    request_id request;
    cell_id decode_cell;
    time_point deadline;
    bool prefilled = false;
    std::vector<block_index> blocks;
    std::map<std::uint32_t, grant_blocks> grants; ///< by place in the decode cell
    std::map<std::uint32_t, lease> leases;
    std::map<std::uint32_t, bool> started; ///< writes, by place
    std::uint32_t delivered = 0;
    bool reported = false;
  };

  result<void> judge_grant(const grant_blocks& grant, std::size_t blocks) const;
  void write_granted(room_id id, kv_room& room, effects& out);
  void report(room_id id, kv_room& room, std::optional<failure> problem, effects& out);

  const cluster_plan& plan_;
  const cell_plan& cell_;
  rank_id self_;
  std::uint32_t place_;
  options bounds_;
  std::map<room_id, row_room> rows_;
  std::map<room_id, kv_room> kv_;
  tombstones ended_;
};

} // namespace troupe::protocols
