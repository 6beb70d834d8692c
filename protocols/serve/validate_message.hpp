#pragma once

#include <optional>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/fault.hpp"
#include "protocols/serve/routes.hpp"
#include "protocols/serve/serve_message.hpp"

namespace troupe::protocols {

/// What a message must be before a machine sees it: sent by a rank whose part that is, to one whose part it is to take
/// it (`routes.hpp`), and naming cells and places that the plan has. The frame's codec has checked types and ranges by
/// then; machines check what only their own state can tell.
/// It is asked once, where messages are handed to actors, so a machine may index by what it is told. It returns the
/// roles of this rank that take the message. `as`: the role that sends, where sender and receiver are one rank.
/// Contract: A8, A10, A15, B5, C42, I18, K4.
/// Errors: wrong_rank (a sender or an addressee whose part it is not), bad_value (what it names is not in the plan).
result<role_set> validate_message(const cluster_plan& plan, rank_id self, rank_id from, const serve_message& message,
                                  std::optional<role_kind> as = std::nullopt);

/// The request that a message is about, for the front to be told of; 0 when it is about none.
request_id request_of(const serve_message& message);

} // namespace troupe::protocols
