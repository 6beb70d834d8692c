#include <string>
#include <utility>

#include "gpu/group.hpp"
#include "runtime/base/assert.hpp"

namespace troupe::gpu {

using namespace protocols;

namespace {

failure named(const group_lanes& lanes, std::size_t member, const std::string& doing, const failure& problem) {
  std::string what =
      "group " + lanes.plan.name + ": " + doing + " rank " + std::to_string(lanes.plan.members[member].value);
  if (problem.code != fault::peer_gone && !problem.what.empty())
    what += ": " + problem.what;
  return {problem.code, std::move(what)};
}

} // namespace

plan_channel::plan_channel(std::shared_ptr<group_lanes> lanes) : lanes_(std::move(lanes)) {}

result<void> plan_channel::announce(call_id call, std::span<const std::byte> plan, time_point deadline) {
  TROUPE_ASSERT("B6", lanes_->self == 0);
  for (std::size_t member = 1; member < lanes_->to.size(); ++member) {
    auto sent = fabric::send(*lanes_->to[member], {.type = message_type::mesh_plan, .call = call}, plan, deadline);
    if (!sent)
      return tl::unexpected<failure>{
          named(*lanes_, member, "announcing call " + std::to_string(call.value) + " to", sent.error())};
  }
  return {};
}

/// A deadline that passes takes nothing from the lane: what ends a member that waits in vain is its leader's closed
/// lane or the watchdog beside it, never this tick (C18).
result<void> plan_channel::await(std::vector<std::byte>& plan, time_point deadline) {
  TROUPE_ASSERT("B6", lanes_->self != 0);
  auto& leader = *lanes_->to[0];
  const auto next = fabric::receive(leader, deadline);
  if (!next)
    return tl::unexpected<failure>{named(*lanes_, 0, "awaiting the plan of", next.error())};
  if (next->header.type != message_type::mesh_plan)
    return tl::unexpected<failure>{
        named(*lanes_, 0, "awaiting the plan of",
              {fault::plan_mismatch, "it sent " + std::string{name(next->header.type)} + " of call " +
                                         std::to_string(next->header.call.value)})};
  plan.assign(next->payload.begin(), next->payload.end());
  leader.pop();
  return {};
}

} // namespace troupe::gpu
