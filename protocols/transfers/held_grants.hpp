#pragma once

#include <algorithm>
#include <map>
#include <span>

#include "protocols/cluster/life_messages.hpp"
#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/invariant.hpp"
#include "protocols/time.hpp"
#include "protocols/transfers/lease.hpp"
#include "protocols/transfers/transfer_states.hpp"

namespace troupe::protocols {

/// Ranks that were lost, and the generation that takes the place of each.
/// Contract: K1.
class lost_owners {
public:
  void on_lost(const lost& news) {
    for (const auto rank : news.ranks)
      next_[rank] = news.next;
  }
  /// Whether the owner was lost while a grant of generation `born` was under way: its memory has another tenant by now.
  bool is_of_the_past(rank_id owner, generation born) const {
    const auto next = next_.find(owner);
    return next != next_.end() && born < next->second;
  }

private:
  std::map<rank_id, generation> next_;
};

/// Grants that this rank holds for one room, one for each part. The rank writes once under each grant. This is the
/// writer's side; `lent_rooms` is the owner's side. A grant is held until its write has ended, so a revoke that arrives
/// during a write is answered after the write.
/// `Grant`: a message with `part`, `born` and `valid_ms`.
/// Contract: D10, K1, K2.
template <class Grant>
class held_grants {
public:
  enum class writing {
    not_yet,    ///< not begun: this rank's data is missing, or another receiver's grant
    on_its_way, ///< posted
    delivered,  ///< every byte is there
    ended,      ///< nothing was written, or not all of it; no write will begin
  };
  struct held {
    Grant what;
    rank_id from;
    lease under;
    writing at = writing::not_yet;
    bool revoked = false; ///< to be returned when the write has ended
  };

  /// False: a grant of that part is held already; the second one is ignored.
  bool take(rank_id from, const Grant& grant, time_point now) {
    const keeps_invariants checked{*this};
    const lease under{grant.born, now + std::chrono::milliseconds{grant.valid_ms}};
    return by_part_.try_emplace(grant.part, held{grant, from, under}).second;
  }

  enum class revocation {
    waits,    ///< a write is under way: return the grant when it has ended
    unused,   ///< return the grant now; no write has begun, and none will
    was_over, ///< return the grant now; it was not held, or its write has ended
  };
  revocation on_revoke(rank_id from) {
    const keeps_invariants checked{*this};
    const auto each =
        std::find_if(by_part_.rbegin(), by_part_.rend(), [&](const auto& one) { return one.second.from == from; });
    if (each == by_part_.rend())
      return revocation::was_over;
    auto& one = each->second;
    if (one.at == writing::on_its_way) {
      one.revoked = true;
      return revocation::waits;
    }
    if (one.at != writing::not_yet)
      return revocation::was_over;
    one.at = writing::ended;
    return revocation::unused;
  }

  /// The write into `part` has ended. Null: none was on its way.
  const held* on_written(std::uint32_t part, bool whole) {
    const keeps_invariants checked{*this};
    const auto one = by_part_.find(part);
    if (one == by_part_.end() || one->second.at != writing::on_its_way)
      return nullptr;
    one->second.at = whole ? writing::delivered : writing::ended;
    return &one->second;
  }

  /// These ranks are lost: no write into their memory will begin, and there is no owner to return it to. True: a grant
  /// of theirs was unused.
  bool on_lost(std::span<const rank_id> ranks) {
    const keeps_invariants checked{*this};
    bool hit = false;
    for (auto& [part, one] : by_part_)
      if (one.at == writing::not_yet && std::find(ranks.begin(), ranks.end(), one.from) != ranks.end()) {
        one.at = writing::ended;
        hit = true;
      }
    return hit;
  }

  /// No further write will begin. Calls `give_back` for each grant that was not used.
  template <class GiveBack>
  void end_unused(GiveBack give_back) {
    const keeps_invariants checked{*this};
    for (auto& [part, one] : by_part_)
      if (one.at == writing::not_yet) {
        one.at = writing::ended;
        give_back(one);
      }
  }

  bool any_on_its_way() const {
    return std::any_of(by_part_.begin(), by_part_.end(),
                       [](const auto& one) { return one.second.at == writing::on_its_way; });
  }
  bool any_from(std::span<const rank_id> ranks) const {
    return std::any_of(by_part_.begin(), by_part_.end(), [&](const auto& one) {
      return std::find(ranks.begin(), ranks.end(), one.second.from) != ranks.end();
    });
  }
  bool is_delivered(std::uint32_t part) const {
    const auto one = by_part_.find(part);
    return one != by_part_.end() && one->second.at == writing::delivered;
  }
  /// Null: not granted, or its write has begun or ended.
  held* find_unused(std::uint32_t part) {
    const auto one = by_part_.find(part);
    return one == by_part_.end() || one->second.at != writing::not_yet ? nullptr : &one->second;
  }

  std::map<std::uint32_t, held>& by_part() noexcept { return by_part_; }
  const std::map<std::uint32_t, held>& by_part() const noexcept { return by_part_; }

private:
  friend class keeps_invariants<held_grants>;
  void show_states(state_view& view) const {
    using part_id = strong_id<held, std::uint32_t>;
    view.follow<part_id>(held_grants_table);
    for (const auto& [part, one] : by_part_)
      view.show(held_grants_table, subject_of(part_id{part}), static_cast<std::size_t>(one.at) + 1);
  }
  void check_invariants() const {
    for (const auto& [part, one] : by_part_) {
      TROUPE_ASSERT("K1", one.what.part == part);
      TROUPE_ASSERT("K2", !one.revoked || one.at != writing::not_yet);
    }
  }

  std::map<std::uint32_t, held> by_part_;
};

} // namespace troupe::protocols
