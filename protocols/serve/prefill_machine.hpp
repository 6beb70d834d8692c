#pragma once

#include <map>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/invariant.hpp"
#include "protocols/serve/request_ledger.hpp"
#include "protocols/serve/serve_message.hpp"
#include "protocols/time.hpp"
#include "protocols/transfers/held_grants.hpp"
#include "protocols/transfers/lease.hpp"
#include "protocols/transfers/lent_rooms.hpp"

namespace troupe::protocols {

/// Leader of a prefill cell: decides what the mesh admits and runs.
///
/// A request gets its row slots and KV blocks from `request_ledger`. It enters the forward only after all ranks of the
/// mesh have voted that its rows are whole: the leader's own knowledge is not enough, since a rank whose transfer
/// failed must not be drawn into a collective.
///
/// Contract: A8, B15, B16, B18, C23, C25, D19, F13, I24, I29, K2, K3.
/// Threads: the prefill actor's.
class prefill_leader_machine {
public:
  struct options {
    rank_id front;
    std::uint32_t kv_blocks = 0;
    std::uint32_t row_slots = 0;
    std::uint32_t requests_max = 0;
  };

  using vote = room_vote;
  struct run_prefill {
    submit work;
    std::vector<block_index> blocks;
    std::vector<slot_index> rows; ///< of each picture
    bool operator==(const run_prefill&) const = default;
  };
  /// Nobody wants this prompt any more: its next piece need not be run.
  struct stop_prefill {
    request_id request;
    bool operator==(const stop_prefill&) const = default;
  };
  using effect = std::variant<send_message, vote, run_prefill, stop_prefill>;
  using effects = std::vector<effect>;

  prefill_leader_machine(const cluster_plan& plan, cell_id cell, options bounds);

  effects on_submit(const submit& work, time_point now);
  effects on_arrived(const arrived& news, std::uint32_t place, time_point now);
  effects on_vote(request_id request, const std::vector<admission>& minimum, time_point now);
  effects on_prefilled(request_id request, token_id first_token, std::int32_t position_delta, std::uint64_t digest,
                       time_point now, std::vector<token_logprob> logprobs = {});
  /// The executor has ended the prompt without a token. `ran_whole`: keys and values are on their way, on every rank.
  effects on_given_up(request_id request, const failure& cause, bool ran_whole, time_point now);
  effects on_kv_sent(const kv_sent& news, std::uint32_t place, time_point now);
  effects on_cancel(request_id request, time_point now);
  /// Nobody can write any more into what the rank at `place` lent for the request.
  effects on_quiet(const rows_quiet& word, std::uint32_t place, time_point now);
  effects on_tick(time_point now);

  std::size_t requests() const noexcept { return ledger_.requests(); }
  bool at_rest() const noexcept { return ledger_.at_rest(); }
  bool ended(request_id request) const noexcept { return ledger_.has_ended(request); }

private:
  friend class keeps_invariants<prefill_leader_machine>;
  void check_invariants() const;
  void show_states(state_view& view) const;
  enum class stage {
    gathering, ///< rows are on their way
    voting,    ///< the mesh is asked
    running,   ///< in the forward
    sending,   ///< keys and values are on their way
  };
  struct progress {
    stage at = stage::gathering;
    std::map<room_id, std::vector<bool>> arrived; ///< by place
    std::vector<bool> kv_sent;                    ///< by place
  };
  using ledger = request_ledger<submit, progress>;
  using iterator = ledger::iterator;

  void admit(effects& out, time_point now);
  void vote_if_whole(iterator which, effects& out);
  void run(iterator which, effects& out);
  void await_kv_sent(iterator which, effects& out, time_point now);
  void end(iterator which, effects& out, time_point now);

  const cluster_plan& plan_;
  const cell_plan& cell_;
  ledger ledger_;
};

/// Every rank of a prefill cell, the leader too: grants its rows, reports what has arrived, and sends its share of the
/// keys and values to the decode ranks that hold the same heads and layers.
/// What it writes to was lent: it begins no write under a lease that has ended, and tells the owner when it will begin
/// none any more (`blocks_returned`). What it lends it asks back when the request has ended (`revoke_rows`).
///
/// Contract: I12, I15, I16, C22, C32, D10, F14, K1, K2, K15.
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
  effects on_rows_arrived(room_id room, rank_id from, time_point now);
  effects on_rows_returned(rank_id from, const rows_returned& word);
  /// The executor has finished the last piece of the prompt: `blocks` hold its keys and values.
  effects on_prefilled(request_id request, room_id kv_room, cell_id decode_cell, std::vector<block_index> blocks,
                       time_point now);
  effects on_grant(rank_id from, const grant_blocks& grant, time_point now);
  effects on_written(room_id room, std::uint32_t part, const result<void>& outcome, time_point now);
  effects on_revoke(rank_id from, const revoke_blocks& word);
  effects on_lost(const lost& news);
  /// These processes have been reaped. `bytes_may_arrive`: of what they had handed to a network card.
  effects on_writers_gone(std::span<const rank_id> ranks, bool bytes_may_arrive);
  effects on_release(request_id request, time_point now);
  effects on_tick(time_point now);

  /// Nothing of any request is left here.
  bool at_rest() const noexcept { return rows_.empty() && lent_.at_rest() && kv_.empty(); }
  /// Whether a write of this room may still be begun.
  bool may_write(room_id room) const noexcept {
    const auto found = kv_.find(room);
    return found != kv_.end() && !found->second.reported;
  }

private:
  friend class keeps_invariants<prefill_member_machine>;
  void check_invariants() const;
  void show_states(state_view& view) const;
  struct row_room {
    request_id request;
    time_point deadline;
  };
  using kv_grants = held_grants<grant_blocks>;
  struct kv_room {
    request_id request;
    cell_id decode_cell;
    time_point deadline;
    bool prefilled = false;
    std::vector<block_index> blocks;
    kv_grants grants;              ///< by place in the decode cell
    std::optional<failure> failed; ///< the first; said when no write is on its way (K15)
    bool reported = false;
  };

  static void give_back(rank_id to, request_id request, room_id room, effects& out, bool settled = true);
  result<void> validate_grant(const kv_grants::held& held, std::size_t blocks, time_point now) const;
  void write_granted(room_id id, kv_room& room, time_point now, effects& out);
  void fail_room(room_id id, kv_room& room, failure cause, effects& out);
  void report_if_quiet(room_id id, kv_room& room, effects& out);
  void tell_quiet(effects& out);

  const cluster_plan& plan_;
  const cell_plan& cell_;
  std::uint32_t place_;
  options bounds_;
  std::map<room_id, row_room> rows_;
  lent_rooms lent_; ///< rows
  std::map<room_id, kv_room> kv_;
  lost_owners lost_;
  tombstones ended_;
};

} // namespace troupe::protocols
