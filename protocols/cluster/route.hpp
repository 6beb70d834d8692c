#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/role.hpp"
#include "protocols/wire/frame.hpp"

/// Who may send which message to whom, as rows of data that each program gives.
/// There is one table because comments, validation, routing and actors once had their own rules and disagreed: an
/// encode cell of several ranks never served a picture. Messages are validated by this table, routing finds the actor
/// by it, protocols/README.md prints it, and a test walks the effects of every machine through it. Contract: K4, A8,
/// B5, B17.
namespace troupe::protocols {

/// Where a rank stands in its cell. The only rank of a cell leads it.
enum class seat : std::uint8_t {
  leader,
  worker, ///< every rank but the leader
  any,
};

/// Whether sender and receiver must be of one cell.
enum class reach : std::uint8_t {
  any_cell, ///< each in any cell of its role
  own_cell, ///< both of the same cell
};

struct station {
  role_kind role = role_kind::stub;
  seat at = seat::any;

  constexpr bool operator==(const station&) const = default;
};

/// A rank at `from` may send `message` to a rank at `to`, whose actor of `to.role` receives it.
struct route {
  message_type message{};
  station from;
  station to;
  reach within = reach::any_cell;

  constexpr bool operator==(const route&) const = default;
};

/// Some of the roles of one rank.
class role_set {
public:
  constexpr void add(role_kind role) noexcept { bits_ |= bit_of(role); }
  constexpr bool contains(role_kind role) const noexcept { return (bits_ & bit_of(role)) != 0; }
  constexpr bool empty() const noexcept { return bits_ == 0; }
  /// Removes a role and returns it. The set must not be empty.
  constexpr role_kind take_first() noexcept {
    const auto first = static_cast<role_kind>(std::countr_zero(bits_));
    bits_ &= bits_ - 1;
    return first;
  }
  constexpr bool operator==(const role_set&) const = default;

private:
  static_assert(roles_max <= 32, "a set of roles is a word");
  static constexpr std::uint32_t bit_of(role_kind role) noexcept { return 1u << static_cast<unsigned>(role); }
  std::uint32_t bits_ = 0;
};

/// Whether `rank` has the role and seat of `where`: in any cell of the plan, or in `cell`.
bool stands_at(const cluster_plan& plan, rank_id rank, const station& where);
bool stands_at(const cell_plan& cell, rank_id rank, const station& where);

/// The ranks that stand there, in plan order.
std::vector<rank_id> ranks_at(const cluster_plan& plan, const station& where);

/// The roles of rank `to` that may receive this message from rank `from`, by the table of the plan's program. Empty:
/// the message is not allowed. `as`: the sender's role, if known, since a rank may have several.
role_set takers_of(const cluster_plan& plan, message_type message, rank_id from, rank_id to,
                   std::optional<role_kind> as = std::nullopt);

/// A program's table as protocols/README.md has it.
std::string describe_routes(const program& of);

} // namespace troupe::protocols
