#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/invariant.hpp"
#include "protocols/mesh/places.hpp"
#include "protocols/serve/serve_message.hpp"
#include "protocols/serve/serve_states.hpp"
#include "protocols/time.hpp"
#include "protocols/transfers/block_pool_machine.hpp"
#include "protocols/transfers/slot_pool_machine.hpp"

namespace troupe::protocols {

/// Requests that wait until a cell has memory for them. Strictly in order of arrival. Bounded by its owner, which
/// counts all requests of the cell.
template <class Order>
class waiting_line {
public:
  struct place {
    Order order;
    time_point until; ///< of the request
  };

  bool empty() const noexcept { return places_.empty(); }
  std::size_t size() const noexcept { return places_.size(); }
  void join(const Order& order, time_point now) {
    places_.push_back({order, now + std::chrono::milliseconds{order.deadline_ms}});
  }
  const Order& first() const { return places_.front().order; }
  place take_first() {
    auto first = std::move(places_.front());
    places_.pop_front();
    return first;
  }
  void leave(request_id request) {
    std::erase_if(places_, [request](const place& each) { return each.order.request == request; });
  }
  const std::deque<place>& places() const noexcept { return places_; }
  bool contains(request_id request) const {
    return std::any_of(places_.begin(), places_.end(),
                       [request](const place& each) { return each.order.request == request; });
  }

private:
  std::deque<place> places_;
};

/// What a request takes of its cell's memory when it starts.
struct cell_needs {
  std::uint64_t kv_tokens = 0;
  std::size_t row_slots = 0;
};

/// Which memory of a cell ranks of other cells write into.
enum class lent_memory {
  kv_blocks, ///< of a decode cell
  row_slots, ///< of a prefill cell
};

/// The requests of one cell, as its leader keeps them. A request waits for memory, has started, or has ended. After its
/// end, the memory that it had lent rests until every rank of the cell has reported that nobody can write there.
///
/// Prefill and decode leaders share this class: a request gets memory, ends and frees memory in the same way in both.
/// What it does in between differs and stays in each leader.
///
/// A request gets all of its memory in one piece, and strictly in order of arrival: one that was passed by smaller ones
/// might wait for ever.
///
/// Invariants, asserted before and after every change:
/// 1. Requests that wait or have started are at most `requests_max`.
/// 2. Each block and each slot is free, held by one request that has started, or rests for one that has ended (K3).
/// 3. A request whose memory rests neither waits nor has started.
/// 4. Memory that rests waits for at least one rank (K2).
///
/// `Order`: the message that a request begins with. `Progress`: what the leader keeps of a started request, with its
/// stage in `at`. Effects are those of the leader.
/// Contract: A12, F13, I24, I27, K2, K3.
/// Threads: the leader's.
template <class Order, class Progress>
class request_ledger {
public:
  struct options {
    rank_id front;
    std::string_view role; ///< as errors call it
    std::uint32_t kv_blocks = 0;
    std::uint32_t row_slots = 0;
    std::uint32_t requests_max = 0;
    lent_memory lends = lent_memory::kv_blocks;
    cell_needs (*needs)(const Order&) = nullptr;
  };
  /// A request that has started.
  struct entry : Progress {
    Order order;
    time_point deadline;
    std::vector<block_index> blocks;
    std::vector<slot_ref> rows;
    std::optional<failure> ending; ///< cancelled or failed; what the mesh uses is kept until it is done
  };
  using stage = decltype(Progress::at);
  using iterator = typename std::map<request_id, entry>::iterator;

  request_ledger(const cell_plan& cell, options bounds)
      : cell_(cell), bounds_(bounds), blocks_(bounds.kv_blocks), rows_(bounds.row_slots) {}

  std::size_t requests() const noexcept { return started_.size() + waiting_.size(); }
  /// KV blocks that requests hold, those that rest included, and how many there are.
  std::uint32_t blocks_held() const noexcept { return blocks_.size() - blocks_.available(); }
  std::uint32_t blocks() const noexcept { return blocks_.size(); }
  /// No request is here, and all memory is free.
  bool at_rest() const noexcept { return requests() == 0 && resting_.empty(); }
  bool waits(request_id request) const { return waiting_.contains(request); }
  enum class standing { none, waiting, started, resting };
  template <class See>
  void see_requests(const See& see) const {
    for (const auto& place : waiting_.places())
      see(place.order.request, standing::waiting);
    for (const auto& [request, one] : started_)
      see(request, standing::started);
    for (const auto& [request, one] : resting_)
      see(request, standing::resting);
  }
  bool has_ended(request_id request) const noexcept { return ended_.retired(request.value); }
  const std::map<request_id, entry>& started() const noexcept { return started_; }
  iterator none() noexcept { return started_.end(); }
  iterator find(request_id request) { return started_.find(request); }
  /// `none()` also for a request that is at another stage.
  iterator find(request_id request, stage at) {
    const auto which = started_.find(request);
    return which != started_.end() && which->second.at == at ? which : started_.end();
  }

  /// Acknowledges the request and lets it wait, or says why not. Again: once is enough (D10).
  template <class Effects>
  void take(const Order& order, time_point now, Effects& out) {
    const keeps_invariants checked{*this, order.request};
    const auto request = order.request;
    if (has_ended(request) || started_.contains(request) || resting_.contains(request) || waiting_.contains(request))
      return;
    const auto needed = bounds_.needs(order);
    const auto tokens_max = std::uint64_t{blocks_.size()} * limits::kv_block_tokens;
    const auto cell_holds = [](std::uint64_t wanted, const char* what, std::uint64_t most) {
      return failure{fault::no_memory, std::to_string(wanted) + what + "; this cell holds " + std::to_string(most)};
    };
    if (requests() >= bounds_.requests_max)
      return tell_front(request, {fault::queue_full, std::string{bounds_.role} + " queue"}, out);
    // What never fits would hold up everything behind it.
    if (needed.row_slots > rows_.size())
      return tell_front(request, cell_holds(needed.row_slots, " pictures", rows_.size()), out);
    if (needed.kv_tokens > tokens_max)
      return tell_front(request, cell_holds(needed.kv_tokens, " tokens", tokens_max), out);
    out.push_back(send_message{bounds_.front, ack{request}});
    waiting_.join(order, now);
  }

  /// Starts the first request that waits, once all of its memory is free; otherwise `none()`.
  iterator start_next() {
    const keeps_invariants checked{*this};
    if (waiting_.empty())
      return none();
    const auto needed = bounds_.needs(waiting_.first());
    if (rows_.available() < needed.row_slots)
      return none();
    auto blocks = blocks_.reserve(
        static_cast<std::uint32_t>((needed.kv_tokens + limits::kv_block_tokens - 1) / limits::kv_block_tokens));
    if (!blocks)
      return none();
    auto [order, until] = waiting_.take_first();
    const auto which = started_.try_emplace(order.request).first;
    auto& one = which->second;
    one.order = std::move(order);
    one.deadline = until;
    one.blocks = *std::move(blocks);
    for (std::size_t i = 0; i < needed.row_slots; ++i)
      one.rows.push_back(*rows_.acquire());
    return which;
  }

  template <class Effects>
  void tell_front(request_id request, const failure& cause, Effects& out) const {
    out.push_back(request_failed(cell_, bounds_.front, bounds_.role, request, cause));
  }
  /// The first cause counts, and the front hears of it.
  template <class Effects>
  void fail(iterator which, const failure& cause, Effects& out) const {
    if (which->second.ending)
      return;
    which->second.ending = cause;
    tell_front(which->first, cause, out);
  }

  /// The request has ended for every rank of the cell. What other cells write into rests first (K2).
  template <class Effects>
  void end(iterator which, Effects& out) {
    const keeps_invariants checked{*this, which->first};
    const auto request = which->first;
    auto& one = which->second;
    resting_memory rests{.blocks = {}, .rows = {}, .quiet = std::vector<bool>(cell_.ranks.size(), false)};
    if (bounds_.lends == lent_memory::kv_blocks) {
      rests.blocks = std::move(one.blocks);
      one.blocks.clear();
    } else {
      rests.rows = std::move(one.rows);
      one.rows.clear();
    }
    free(one.blocks, one.rows);
    if (!rests.blocks.empty() || !rests.rows.empty())
      resting_.emplace(request, std::move(rests));
    release_members(request, out);
    ended_.retire(request.value);
    started_.erase(which);
  }
  template <class Effects>
  void release_members(request_id request, Effects& out) const {
    for (const auto member : cell_.ranks)
      out.push_back(send_message{member, release{request}});
  }

  /// A started request, which is the leader's to end. `none()`: it has not started, and never will.
  iterator on_cancel(request_id request) {
    const keeps_invariants checked{*this, request};
    const auto which = started_.find(request);
    if (which == started_.end()) {
      waiting_.leave(request);
      ended_.retire(request.value);
    }
    return which;
  }

  enum class vote_result {
    ended,   ///< it was to end, or a rank of the mesh has failed: it ends here
    pending, ///< a rank does not have everything yet
    whole,   ///< every rank has
  };
  /// `why`: what a failed vote says to the front.
  template <class Effects>
  vote_result on_vote(iterator which, const std::vector<admission>& minimum, const char* why, Effects& out) {
    const auto least = *std::min_element(minimum.begin(), minimum.end());
    if (least == admission::failed)
      fail(which, {fault::not_admitted, why}, out);
    if (which->second.ending) {
      end(which, out);
      return vote_result::ended;
    }
    return least == admission::pending ? vote_result::pending : vote_result::whole;
  }

  /// Nobody can write any more into what the rank at `place` lent for the request. True: its memory is free.
  bool on_quiet(request_id request, std::uint32_t place) {
    const keeps_invariants checked{*this, request};
    const auto found = resting_.find(request);
    if (found == resting_.end() || place >= found->second.quiet.size())
      return false; // it lent nothing, or has not ended for everybody
    auto& [blocks, rows, quiet] = found->second;
    quiet[place] = true;
    if (!all(quiet))
      return false;
    free(blocks, rows);
    resting_.erase(found);
    return true;
  }

  /// Ends what is still at stage `at` when its deadline has come; `describe` says what is late.
  template <class Effects, class Describe>
  void end_late(stage at, time_point now, const Describe& describe, Effects& out) {
    for (auto each = started_.begin(); each != started_.end();) {
      const auto current = each++;
      if (current->second.at != at || now < current->second.deadline)
        continue;
      tell_front(current->first, {fault::timeout, describe(current->second)}, out);
      end(current, out);
    }
  }

private:
  friend class keeps_invariants<request_ledger>;

  struct resting_memory { ///< of a request that has ended
    std::vector<block_index> blocks;
    std::vector<slot_ref> rows;
    std::vector<bool> quiet; ///< by place
  };

  void free(const std::vector<block_index>& blocks, const std::vector<slot_ref>& rows) {
    TROUPE_ASSERT("K3", blocks_.release(blocks));
    for (const auto& slot : rows)
      TROUPE_ASSERT("K3", rows_.release(slot));
  }

  void show_states(state_view& view) const {
    view.follow<request_id>(request_ledger_table);
    see_requests([&](request_id request, standing at) {
      view.show(request_ledger_table, subject_of(request), static_cast<std::size_t>(at));
    });
  }
  /// Once for each event of a request and never for a token: a few hundred additions.
  void check_invariants() const {
    TROUPE_ASSERT("F13", requests() <= bounds_.requests_max);
    std::size_t blocks = blocks_.available();
    std::size_t rows = rows_.available();
    const auto add = [&](const auto& holder) {
      blocks += holder.blocks.size();
      rows += holder.rows.size();
    };
    for (const auto& [request, one] : started_)
      add(one);
    for (const auto& [request, one] : resting_) {
      TROUPE_ASSERT("K2", !all(one.quiet));
      TROUPE_ASSERT("K2", !started_.contains(request) && !waiting_.contains(request));
      add(one);
    }
    TROUPE_ASSERT("K3", blocks == blocks_.size());
    TROUPE_ASSERT("K3", rows == rows_.size());
  }

  const cell_plan& cell_;
  options bounds_;
  block_pool_machine blocks_;
  slot_pool_machine rows_;
  waiting_line<Order> waiting_;
  std::map<request_id, entry> started_;
  std::map<request_id, resting_memory> resting_;
  tombstones ended_;
};

} // namespace troupe::protocols
