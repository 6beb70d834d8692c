#include "protocols/transfers/lease.hpp"

#include <string>

namespace troupe::protocols {

result<void> check_lease(const lease& held, generation owner_now, time_point now) {
  if (held.owner != owner_now)
    return fail(fault::stale_grant, "the memory was lent by generation " + std::to_string(held.owner.value) +
                                        " of its rank, which is now " + std::to_string(owner_now.value));
  if (now >= held.until) {
    const auto late = std::chrono::duration_cast<std::chrono::milliseconds>(now - held.until);
    return fail(fault::stale_grant, held.until == time_point{}
                                        ? std::string{"no lease"}
                                        : "the lease ended " + std::to_string(late.count()) + " ms ago");
  }
  return {};
}

bool may_still_arrive(fault outcome) noexcept {
  return outcome == fault::timeout || outcome == fault::transfer_failed;
}

} // namespace troupe::protocols
