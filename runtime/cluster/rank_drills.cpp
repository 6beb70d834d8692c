#include "runtime/cluster/rank_drills.hpp"

#include <limits>
#include <optional>

#include "gpu/backend.hpp"
#include "runtime/base/fault_point.hpp"
#include "runtime/base/log.hpp"

namespace troupe::cluster {

using namespace protocols;

result<void> arm_drills(const launch& start, rank_id self) {
  if (start.drills == 0)
    return {};
  static std::optional<base::fault_injector> injector; // until the process ends: fault points look there
  injector.emplace(base::fault_injector::options{self, start.run_directory + "/strikes"});
  injector->arm();
  for (const auto& rule : start.rules)
    if (auto added = injector->add(rule); !added)
      return added;
  return {};
}

result<void> take_injection(const inject& order) {
  auto* const injector = base::armed_injector();
  if (injector == nullptr)
    return fail(fault::invalid_request, "a fault to inject, and drills are off");
  return injector->add(order.rule);
}

void take_deliveries(actors::rank_program& program, rank_id self,
                     std::function<void(rank_id peer, const failure& cause)> on_refused) {
  auto* const injector = base::armed_injector();
  if (injector == nullptr)
    return;
  injector->on_deliver([&program, self, on_refused = std::move(on_refused)](const injection_rule& rule) {
    frame_header header;
    header.type = static_cast<message_type>(rule.message);
    header.source = rule.source;
    header.destination = self;
    header.epoch = cache_epoch{std::numeric_limits<std::uint64_t>::max()}; // what is tried is the message, not its age
    if (auto taken = program.accept_frame({header, rule.payload}); !taken)
      on_refused(rule.source, taken.error());
  });
}

void take_device_faults(const std::string& device, std::atomic<bool>& captures) {
  auto* const injector = base::armed_injector();
  if (injector == nullptr)
    return;
  injector->on_device([device, &captures](const injection_rule& rule) -> result<void> {
    if (rule.action == drill_action::no_capture) {
      captures = false;
      return {};
    }
    const gpu::device_fault what{.hangs = rule.action == drill_action::hang_device,
                                 .longest = std::chrono::milliseconds{rule.ms}};
    return gpu::strike_device(device, what);
  });
}

} // namespace troupe::cluster
