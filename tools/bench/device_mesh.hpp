#pragma once

#include <chrono>
#include <cstdio>
#include <memory>
#include <span>

#include "gpu/cuda/nccl_collectives.hpp"
#include "gpu/cuda/peer_collectives.hpp"
#include "gpu/group.hpp"
#include "runtime/base/clock.hpp"
#include "tools/bench/forked_members.hpp"
#include "tools/bench/must.hpp"

/// A group over the GPUs of forked members, as the ranks of a mesh have it.
namespace troupe::bench {

/// Hosts are not asked for anything in a benchmark of devices.
class no_host final : public gpu::collective_backend {
  using result = protocols::result<void>;
  result all_reduce_sum(std::span<float>, protocols::time_point) override { return {}; }
  result all_reduce_min(std::span<std::int32_t>, protocols::time_point) override { return {}; }
  result all_gather(std::span<const float>, std::span<float>, protocols::time_point) override { return {}; }
  result broadcast(std::span<std::byte>, std::uint32_t, protocols::time_point) override { return {}; }
  result send(std::uint32_t, std::span<const std::byte>, protocols::time_point) override { return {}; }
  result receive(std::uint32_t, std::span<std::byte>, protocols::time_point) override { return {}; }
};

inline gpu::group_member seat_of(std::uint32_t self, forked_members& all) {
  return {self, all.count(), [self, &all](auto mine, auto whole) { return all.exchange(self, mine, whole); }};
}

/// `library_alone`: without the kernels for small sums.
inline std::unique_ptr<gpu::group> make_mesh(std::uint32_t self, forked_members& all, bool library_alone = false) {
  protocols::group_plan plan{protocols::group_id{0}, "mesh", {}};
  for (std::uint32_t each = 0; each < all.count(); ++each)
    plan.members.emplace_back(each);
  const auto on = must(gpu::cuda::open_device(self));
  const auto seat = seat_of(self, all);
  auto by = must(gpu::cuda::join_nccl(on, seat));
  if (!library_alone)
    by = must(gpu::cuda::join_peers(on, seat, std::move(by)));
  if (self == 0)
    std::printf("a group of %u: sums by %s\n", all.count(), by->form().c_str());
  auto made = std::make_unique<gpu::group>(plan, self, std::make_unique<no_host>(), std::chrono::seconds{10});
  made->give_device(std::move(by));
  must(made->settle(base::now() + std::chrono::seconds{20}));
  return made;
}

} // namespace troupe::bench
