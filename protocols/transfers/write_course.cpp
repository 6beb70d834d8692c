#include "protocols/transfers/write_course.hpp"

#include <string>

namespace troupe::protocols {

result<void> check_deadline(time_point deadline, std::optional<rank_id> to, time_point now) {
  if (now < deadline)
    return {};
  return fail(fault::timeout, to ? "a write to rank " + std::to_string(to->value) : "a write to this rank itself");
}

result<void> check_write(const lease& under, time_point deadline, const write_sight& at, time_point now) {
  if (at.gone != nullptr)
    return tl::unexpected{*at.gone};
  if (auto late = check_deadline(deadline, at.to, now); !late || at.handed_over)
    return late;
  return check_lease(under, at.owner_now, now);
}

} // namespace troupe::protocols
