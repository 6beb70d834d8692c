#pragma once

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// The right to write into memory that another rank has lent: for whose memory it holds, and until when.
///
/// A grant outlives what it grants whenever something between owner and writer is slow: the writer's queue, a message
/// that ends the request, a rank that is restarted. So a writer may begin nothing under a lease that has ended, and the
/// transfer engine asks again before each copy. The owner does not rely on it alone: it lends the memory again when
/// every writer has said that it writes no more, or is gone (lent_rooms.hpp).
/// Contract: K1.
struct lease {
  generation owner; ///< of the rank whose memory it is; its next generation has other tenants
  time_point until; ///< on the writer's clock; the default is over before it has begun

  bool operator==(const lease&) const = default;
};

/// Whether a write under `held` may begin, or go on with its next copy. The one judgement of it: machines ask when a
/// write is posted, engines before each copy.
/// `owner_now`: the generation of the owner that would be written to.
/// Errors: stale_grant, with both generations or the time that has passed.
result<void> judge_lease(const lease& held, generation owner_now, time_point now);

/// Whether bytes of a write that ended so may still arrive, or be read: a network card or a device may have taken it.
/// Every other failure comes before anything was begun, or after its target is gone.
bool may_still_arrive(fault outcome) noexcept;

} // namespace troupe::protocols
