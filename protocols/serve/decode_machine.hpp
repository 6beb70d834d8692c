#pragma once

#include <map>
#include <optional>
#include <set>
#include <span>
#include <variant>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/invariant.hpp"
#include "protocols/serve/request_ledger.hpp"
#include "protocols/serve/serve_message.hpp"
#include "protocols/time.hpp"
#include "protocols/transfers/lent_rooms.hpp"

namespace troupe::protocols {

/// Leader of a decode cell: keeps blocks for a request from the moment the front has admitted it, and lets the sequence
/// join the batch once its keys and values are whole on every rank and its first token is stored.
///
/// Blocks for the whole answer are taken at once (`request_ledger`): a sequence that ran out of blocks half way would
/// have to be preempted or recomputed, and until a scheduler exists that does so, refusing early is the honest form.
///
/// Contract: B15, F6, F12, F13, F14, F16, E19, I24, K2, K3.
/// Threads: the decode actor's.
class decode_leader_machine {
public:
  struct options {
    rank_id front;
    std::uint32_t kv_blocks = 0;
    duration room_deadline{};
    std::uint32_t requests_max = 0;
  };

  using vote = room_vote;
  /// The sequence enters the batch; its first token is emitted as index 0.
  struct join_batch {
    sequence_join sequence;
    token_id first_token = 0;
    std::uint32_t max_tokens = 0;
    std::vector<token_id> end_tokens;
    std::vector<token_logprob> first_logprobs = {};
    bool operator==(const join_batch&) const = default;
  };
  /// The sequence is to leave the batch before its end; `on_left` follows.
  struct leave_batch {
    request_id request;
    bool operator==(const leave_batch&) const = default;
  };
  using effect = std::variant<send_message, vote, join_batch, leave_batch>;
  using effects = std::vector<effect>;

  decode_leader_machine(const cluster_plan& plan, cell_id cell, options bounds);

  effects on_reserve(const reserve_kv& order, time_point now);
  effects on_handover(const handover& news, time_point now);
  effects on_arrived(const arrived& news, std::uint32_t place, time_point now);
  effects on_vote(request_id request, const std::vector<admission>& minimum, time_point now);
  /// The executor no longer touches the sequence's blocks: it ended, or was told to leave.
  effects on_left(request_id request, time_point now);
  effects on_cancel(request_id request, time_point now);
  /// No token comes of this sequence any more, by a fault of its own; that it has left the batch is said next.
  effects on_given_up(request_id request, const failure& cause);
  /// Nobody can write any more into what the rank at `place` lent for the request.
  effects on_quiet(const blocks_quiet& word, std::uint32_t place, time_point now);
  effects on_tick(time_point now);

  std::size_t requests() const noexcept { return ledger_.requests(); }
  bool at_rest() const noexcept { return ledger_.at_rest() && early_.empty(); }
  /// Of the cell's KV blocks, the part that requests hold, in millionths.
  std::uint32_t kv_usage() const noexcept {
    return ledger_.blocks() == 0
               ? 0
               : static_cast<std::uint32_t>(std::uint64_t{ledger_.blocks_held()} * 1'000'000 / ledger_.blocks());
  }

private:
  friend class keeps_invariants<decode_leader_machine>;
  void check_invariants() const;
  void show_states(state_view& view) const;
  enum class stage {
    receiving, ///< keys and values, or the first token, are on their way
    voting,    ///< the mesh is asked
    joined,    ///< in the batch
  };
  struct progress {
    stage at = stage::receiving;
    std::vector<bool> arrived; ///< by place
    std::optional<handover> first;
  };
  using ledger = request_ledger<reserve_kv, progress>;
  using iterator = ledger::iterator;

  void admit(effects& out, time_point now);
  void take_handover(iterator which, const handover& news, effects& out, time_point now);
  void vote_if_whole(iterator which, effects& out);
  void join(iterator which, effects& out);
  void end(iterator which, effects& out, time_point now);

  const cell_plan& cell_;
  options bounds_;
  ledger ledger_;
  struct early_handover {
    handover news;
    time_point until;
  };
  /// Handed over before the blocks were there; bounded by requests_max, and in time where no order for it is here: the
  /// order may have gone to this cell's predecessor.
  std::map<request_id, early_handover> early_;
  generation reservations_{0};
};

/// Every rank of a decode cell, the leader too: grants its blocks to the prefill ranks that hold the same heads and
/// layers, reports when all of them have written, and asks back what it lent when the request has ended.
/// Contract: D10, D11, I15, I16, K1, K2.
/// Threads: the decode actor's.
class decode_member_machine {
public:
  struct options {
    generation born = {}; ///< of this rank
    std::uint32_t rooms_max = 0;
    element_type kv_dtype = element_type::f32;
    /// Places of each prefill cell that share heads and layers with this rank.
    std::map<cell_id, std::vector<std::uint32_t>> overlap;
  };
  using set_admission = room_admission;
  using forget_admission = room_forgotten;
  using effect = std::variant<send_message, set_admission, forget_admission>;
  using effects = std::vector<effect>;

  decode_member_machine(const cluster_plan& plan, cell_id cell, rank_id self, options bounds);

  effects on_reserve_blocks(const reserve_blocks& order, time_point now);
  effects on_kv_arrived(room_id room, rank_id from, time_point now);
  effects on_returned(rank_id from, const blocks_returned& word);
  void on_lost(const lost& news);
  /// These processes have been reaped. `bytes_may_arrive`: of what they had handed to a network card.
  effects on_writers_gone(std::span<const rank_id> ranks, bool bytes_may_arrive);
  effects on_release(request_id request, time_point now);
  effects on_tick(time_point now);

  /// Nothing of any request is left here.
  bool at_rest() const noexcept { return rooms_.empty() && lent_.at_rest(); }

private:
  friend class keeps_invariants<decode_member_machine>;
  void check_invariants() const;
  void show_states(state_view& view) const;
  struct room_state {
    request_id request;
    time_point deadline;
    std::set<rank_id> missing; ///< prefill ranks that have not written yet
  };

  void tell_quiet(effects& out);

  const cluster_plan& plan_;
  const cell_plan& cell_;
  std::uint32_t place_;
  options bounds_;
  std::map<room_id, room_state> rooms_;
  lent_rooms lent_;
  tombstones ended_;
};

} // namespace troupe::protocols
