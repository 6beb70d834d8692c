#pragma once

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// The right to write into memory that another rank has lent. It says whose memory that is, and until when it holds.
///
/// A grant outlives its request whenever something between owner and writer is slow: the writer's queue, the message
/// that ends the request, a rank that is restarted. So a writer begins no write under a lease that has ended, and the
/// transfer engine checks the lease again before each copy. The owner does not rely on that alone: it grants the memory
/// again only when every writer has returned it or has ended (lent_rooms.hpp).
/// Contract: K1.
struct lease {
  generation owner; ///< of the rank whose memory it is; its next generation has other tenants
  time_point until; ///< on the writer's clock; a default lease has ended

  bool operator==(const lease&) const = default;
};

/// Whether a write under `held` may begin, or go on with its next copy. Machines call it when they post a write,
/// engines before each copy; nothing else checks a lease.
/// `owner_now`: the generation of the owner that would be written to.
/// Contract: K1. Errors: stale_grant, with both generations or the time that has passed.
result<void> check_lease(const lease& held, generation owner_now, time_point now);

/// Whether bytes of a write that ended with `outcome` may still arrive, or still be read. True for the faults after
/// which a network card or a device may have accepted the write. Every other fault comes before the write has begun, or
/// when its target is gone.
bool may_still_arrive(fault outcome) noexcept;

} // namespace troupe::protocols
