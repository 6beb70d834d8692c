#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "gpu/tensor.hpp"

namespace troupe::gpu::cuda {

inline constexpr unsigned peer_members_max = 8;

/// What a GPU says of its waiting, in host memory that it writes and the host reads without asking the device.
struct peer_report {
  std::uint32_t missing;  ///< members, a bit each, whose part of the sum at hand has not come for a while; 0: none
  std::uint32_t given_up; ///< 1: nobody waits any longer, what followed on the stream is worthless
};

/// What the kernels of one group on one GPU share. Of the inboxes every member has one, that all others write to.
struct peer_member {
  std::byte* inbox[peer_members_max] = {}; ///< by member
  std::uint32_t* state = nullptr;          ///< this GPU's own: `peer_state_words`, see `peer_state_at_first`
  peer_report* report = nullptr;
  std::uint32_t self = 0;
  std::uint32_t members = 0;
  std::uint32_t row_items = 0; ///< room for one member's part in a slot, in items of two numbers
};
std::size_t peer_inbox_bytes(std::uint32_t members, std::size_t part_bytes_max);
std::uint32_t peer_row_items(std::size_t part_bytes_max);

/// Generation, whether it is broken, and how many blocks have read both.
inline constexpr std::size_t peer_state_words = 3;
std::array<std::uint32_t, peer_state_words> peer_state_at_first();

/// How long a kernel waits for a member, on the device's clock.
struct peer_patience {
  std::uint64_t told_ns = 0;    ///< then the report says for whom
  std::uint64_t longest_ns = 0; ///< then it gives up
};

/// What a kernel is given to exchange numbers with its like on the other GPUs.
struct peer_call {
  peer_member seat;
  peer_patience patience;
};

/// How the parts go round: each to every member, which adds all of it; or by shares, each added by one member that
/// hands the sum on: two ways in place of one, and for many members far fewer bytes.
enum class peer_way : std::uint8_t { whole, shares };

/// values [count] become the sum of all members', added in member order; where `add_to` is given it goes on top of that
/// instead. Every member makes the same calls in the same order. Captured in a graph it counts for itself.
cudaError_t sum_with_peers(cudaStream_t on, const peer_call& with, peer_way way, float* values, float* add_to,
                           std::uint32_t count);
/// all [rows, members x columns], strided or not: beside each other in member order what every member has as `mine`
/// [rows, columns], contiguous; f32
cudaError_t gather_from_peers(cudaStream_t on, const peer_call& with, const tensor_view& mine, const tensor_view& all);

} // namespace troupe::gpu::cuda
