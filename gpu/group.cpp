#include "gpu/group.hpp"

#include <algorithm>
#include <functional>
#include <utility>

#include "runtime/base/assert.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/fault_point.hpp"
#include "runtime/base/flight_recorder.hpp"

namespace troupe::gpu {

using namespace protocols;

namespace {

std::span<float> floats_of(const tensor_view& view) {
  return {view.f32(), static_cast<std::size_t>(view.elements())};
}

} // namespace

group::group(group_plan plan, std::uint32_t self, std::unique_ptr<collective_backend> backend, duration deadline)
    : plan_(std::move(plan)), self_(self), backend_(std::move(backend)), deadline_(deadline), plan_check_(plan_, self) {
  TROUPE_ASSERT("B9", backend_ != nullptr);
}

result<void> group::begin(call_id call, std::string_view phase, std::uint32_t expected) {
  backend_->begin_call(call);
  phase_ = phase_named(phase);
  if (device_)
    device_->begin_step();
  return plan_check_.begin(call, phase, expected);
}

result<void> group::end() {
  return plan_check_.end();
}

/// Everything that is refused is refused here, before a peer could be left waiting inside a library (B9, B12).
template <class Act>
result<void> group::issue(collective_kind kind, std::size_t count, rank_id peer, Act act) {
  if (entered_.test_and_set(std::memory_order_acquire)) // what its peers would see of two threads has no order (B24)
    return fail(fault::illegal_transition,
                std::string{name(kind)} + " by a second thread while one is inside group " + plan_.name);
  struct leave {
    std::atomic_flag& entered;
    ~leave() { entered.clear(std::memory_order_release); }
  } const leaving{entered_};
  if (auto planned = plan_check_.enter(name(kind), count); !planned)
    return planned;
  const bool hops = kind == collective_kind::hop;
  of_all_ += hops ? 0 : 1;
  base::flight_span inside{{.call = plan_check_.call(),
                            .amount = count,
                            .number = hops ? 0 : of_all_,
                            .peer = peer,
                            .group = plan_.id,
                            .operation = static_cast<std::uint16_t>(kind),
                            .action = flight_action::collective,
                            .phase = phase_}};
  TROUPE_FAULT_POINT("group.entered");
  return inside.ends(act(base::now() + deadline_)); // the spec's, of seconds: a long one would hide a bug (C5)
}

template <class Act>
result<void> group::issue_with(collective_kind kind, std::size_t count, std::uint32_t member, Act act) {
  if (member >= size() || (kind == collective_kind::hop && member == self_))
    return fail(fault::not_a_member, std::string{name(kind)} + " with member " + std::to_string(member) + " of group " +
                                         plan_.name + ", which has " + std::to_string(size()));
  return issue(kind, count, plan_.members[member], act);
}

result<void> group::all_reduce_sum(stream& on, const tensor_view& values) {
  TROUPE_ASSERT("all_reduce_sum", values.contiguous());
  if (values.device() == device_kind::cpu)
    return all_reduce_sum(floats_of(values));
  TROUPE_ASSERT("all_reduce_sum", device_ != nullptr);
  return issue(collective_kind::all_reduce_sum, static_cast<std::size_t>(values.elements()), no_peer,
               [&](time_point deadline) { return device_->all_reduce_sum(on, values, deadline); });
}

result<void> group::all_reduce_add(stream& on, const tensor_view& values, const tensor_view& to) {
  TROUPE_ASSERT("all_reduce_add", values.contiguous() && to.contiguous() && values.elements() == to.elements());
  if (values.device() == device_kind::cpu)
    return all_reduce_sum(floats_of(values)).map([&] {
      std::ranges::transform(floats_of(to), floats_of(values), floats_of(to).begin(), std::plus{});
    });
  TROUPE_ASSERT("all_reduce_add", device_ != nullptr);
  return issue(collective_kind::all_reduce_sum, static_cast<std::size_t>(values.elements()), no_peer,
               [&](time_point deadline) { return device_->all_reduce_add(on, values, to, deadline); });
}

result<void> group::add_product(const operations& run, stream& on, const partial_product& part, const tensor_view& to) {
  if (to.device() == device_kind::cpu) {
    run.matmul(on, part.x, part.weight, part.bias, part.room);
    return all_reduce_add(on, part.room, to);
  }
  TROUPE_ASSERT("add_product", device_ != nullptr && to.contiguous() && to.elements() == part.room.elements());
  return issue(collective_kind::all_reduce_sum, static_cast<std::size_t>(to.elements()), no_peer,
               [&](time_point deadline) { return device_->add_product(run, on, part, to, deadline); });
}

result<void> group::all_gather(stream& on, const tensor_view& mine, const tensor_view& all) {
  TROUPE_ASSERT("all_gather", mine.contiguous() && all.contiguous());
  TROUPE_ASSERT("all_gather", mine.shape(0) == all.shape(0) && mine.shape(1) * size() == all.shape(1));
  if (mine.device() == device_kind::cpu) {
    gathered_.resize(static_cast<std::size_t>(all.elements()));
    return all_gather(floats_of(mine), gathered_).map([&] { put_beside(gathered_, size(), all); });
  }
  TROUPE_ASSERT("all_gather", device_ != nullptr);
  return issue(collective_kind::all_gather, static_cast<std::size_t>(mine.elements()), no_peer,
               [&](time_point deadline) { return device_->all_gather(on, mine, all, deadline); });
}

result<void> group::send(stream& on, const tensor_view& values, std::uint32_t to) {
  TROUPE_ASSERT("hop", values.contiguous());
  const auto bytes = std::as_bytes(floats_of(values));
  if (values.device() == device_kind::cpu)
    return send(to, bytes);
  TROUPE_ASSERT("hop", device_ != nullptr);
  return issue_with(collective_kind::hop, bytes.size(), to,
                    [&](time_point deadline) { return device_->send(on, values, to, deadline); });
}

result<void> group::receive(stream& on, const tensor_view& values, std::uint32_t from) {
  TROUPE_ASSERT("hop", values.contiguous());
  const auto bytes = std::as_writable_bytes(floats_of(values));
  if (values.device() == device_kind::cpu)
    return receive(from, bytes);
  TROUPE_ASSERT("hop", device_ != nullptr);
  return issue_with(collective_kind::hop, bytes.size(), from,
                    [&](time_point deadline) { return device_->receive(on, values, from, deadline); });
}

result<void> group::all_reduce_sum(std::span<float> values) {
  return issue(collective_kind::all_reduce_sum, values.size(), no_peer,
               [&](time_point deadline) { return backend_->all_reduce_sum(values, deadline); });
}

result<void> group::all_reduce_min(std::span<std::int32_t> values) {
  return issue(collective_kind::all_reduce_min, values.size(), no_peer,
               [&](time_point deadline) { return backend_->all_reduce_min(values, deadline); });
}

result<void> group::all_gather(std::span<const float> mine, std::span<float> all) {
  TROUPE_ASSERT("all_gather", all.size() == mine.size() * size());
  return issue(collective_kind::all_gather, mine.size(), no_peer,
               [&](time_point deadline) { return backend_->all_gather(mine, all, deadline); });
}

result<void> group::broadcast(std::span<std::byte> bytes, std::uint32_t root) {
  return issue_with(collective_kind::broadcast, bytes.size(), root,
                    [&](time_point deadline) { return backend_->broadcast(bytes, root, deadline); });
}

result<void> group::send(std::uint32_t to, std::span<const std::byte> bytes) {
  return issue_with(collective_kind::hop, bytes.size(), to,
                    [&](time_point deadline) { return backend_->send(to, bytes, deadline); });
}

result<void> group::receive(std::uint32_t from, std::span<std::byte> bytes) {
  return issue_with(collective_kind::hop, bytes.size(), from,
                    [&](time_point deadline) { return backend_->receive(from, bytes, deadline); });
}

} // namespace troupe::gpu
