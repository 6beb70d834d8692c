#include "runtime/cluster/rank_device.hpp"

#include "gpu/backend.hpp"
#include "runtime/base/log.hpp"
#include "runtime/cluster/rank_drills.hpp"

namespace troupe::cluster {

using namespace protocols;

result<void> rank_device::find() {
  const auto& place = rank_.plan_of_self().device;
  if (rank_.on_device()) {
    const auto count = gpu::count_devices(place.kind);
    if (!count)
      return tl::unexpected<failure>{count.error()};
    count_ = *count;
  }
  name_ = of(rank_.plan_of_self());
  take_device_faults(name_, rank_.captures);
  if (!rank_.on_device())
    return {};
  auto memory = gpu::open_device_memory(name_);
  if (!memory)
    return tl::unexpected<failure>{memory.error()};
  memory_ = *std::move(memory);
  base::log_info("computes on {}", name_);
  return {};
}

std::set<std::string> rank_device::among(std::span<const rank_id> ranks) const {
  std::set<std::string> devices;
  for (const auto rank : ranks)
    devices.insert(of(rank_.plan.rank(rank)));
  return devices;
}

} // namespace troupe::cluster
