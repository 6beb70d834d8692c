#include "gpu/group.hpp"

#include <utility>

#include "runtime/base/assert.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::gpu {

using namespace protocols;

std::string_view name(collective_kind kind) noexcept {
  switch (kind) {
  case collective_kind::all_reduce_sum:
    return "all_reduce_sum";
  case collective_kind::all_reduce_min:
    return "all_reduce_min";
  case collective_kind::all_gather:
    return "all_gather";
  case collective_kind::broadcast:
    return "broadcast";
  case collective_kind::hop:
    return "hop";
  }
  return {};
}

group::group(group_plan plan, std::uint32_t self, std::unique_ptr<collective_backend> backend, duration deadline)
    : plan_(std::move(plan)), self_(self), backend_(std::move(backend)), deadline_(deadline), plan_check_(plan_, self) {
  TROUPE_ASSERT("B9", backend_ != nullptr);
}

result<void> group::begin(call_id call, std::string_view phase, std::uint32_t expected) {
  backend_->begin_call(call);
  return plan_check_.begin(call, phase, expected);
}

result<void> group::end() {
  return plan_check_.end();
}

/// Everything that is refused is refused here, before a peer could be left waiting inside a library (B9, B12).
result<time_point> group::enter(collective_kind kind, std::size_t count) {
  if (const auto planned = plan_check_.enter(name(kind), count); !planned)
    return tl::unexpected<failure>{planned.error()};
  return base::now() + deadline_;
}

result<time_point> group::enter_with(collective_kind kind, std::size_t count, std::uint32_t member) {
  if (member >= size() || (kind == collective_kind::hop && member == self_))
    return fail(fault::not_a_member, std::string{name(kind)} + " with member " + std::to_string(member) + " of group " +
                                         plan_.name + ", which has " + std::to_string(size()));
  return enter(kind, count);
}

result<void> group::all_reduce_sum(std::span<float> values) {
  return enter(collective_kind::all_reduce_sum, values.size()).and_then([&](time_point deadline) {
    return backend_->all_reduce_sum(values, deadline);
  });
}

result<void> group::all_reduce_min(std::span<std::int32_t> values) {
  return enter(collective_kind::all_reduce_min, values.size()).and_then([&](time_point deadline) {
    return backend_->all_reduce_min(values, deadline);
  });
}

result<void> group::all_gather(std::span<const float> mine, std::span<float> all) {
  TROUPE_ASSERT("all_gather", all.size() == mine.size() * size());
  return enter(collective_kind::all_gather, mine.size()).and_then([&](time_point deadline) {
    return backend_->all_gather(mine, all, deadline);
  });
}

result<void> group::broadcast(std::span<std::byte> bytes, std::uint32_t root) {
  return enter_with(collective_kind::broadcast, bytes.size(), root).and_then([&](time_point deadline) {
    return backend_->broadcast(bytes, root, deadline);
  });
}

result<void> group::send(std::uint32_t to, std::span<const std::byte> bytes) {
  return enter_with(collective_kind::hop, bytes.size(), to).and_then([&](time_point deadline) {
    return backend_->send(to, bytes, deadline);
  });
}

result<void> group::receive(std::uint32_t from, std::span<std::byte> bytes) {
  return enter_with(collective_kind::hop, bytes.size(), from).and_then([&](time_point deadline) {
    return backend_->receive(from, bytes, deadline);
  });
}

} // namespace troupe::gpu
