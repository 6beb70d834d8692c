#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <tl/expected.hpp>

#include "protocols/ids.hpp"
#include "protocols/machine_watch.hpp"

namespace troupe::protocols {

/// Outcomes that some code reacts to; everything else is a broken invariant and crashes (STYLE: errors).
/// The number goes over the wire: append only.
#define TROUPE_FAULTS(X)                                                                                               \
  X(1, bad_magic, "the bytes are not a frame", "lane closes")                                                          \
  X(2, unknown_version, "the frame's wire version is not spoken here", "lane closes")                                  \
  X(3, unknown_type, "the frame's type is not known", "lane closes")                                                   \
  X(4, unknown_flag, "the frame carries a flag that must be understood and is not", "lane closes")                     \
  X(5, frame_too_long, "the frame is longer than its limit", "lane closes")                                            \
  X(6, bad_checksum, "the frame's bytes were changed on the way", "lane closes")                                       \
  X(7, short_payload, "the payload ends inside a required field", "lane closes")                                       \
  X(8, bad_value, "a field holds a value outside its range", "lane closes")                                            \
  X(9, wrong_sequence, "a frame of this edge was lost, repeated or reordered", "lane closes")                          \
  X(10, wrong_rank, "the frame names another rank than the one that the edge belongs to", "lane closes")               \
  X(11, stale_generation, "the sender or the addressee is of an older generation", "lane closes, hello refused")       \
  X(12, stale_epoch, "the frame belongs to another epoch", "dropped, or lane closes")                                  \
  X(13, wrong_job, "the hello carries another job's token", "connection refused")                                      \
  X(14, lane_full, "the lane's bounded bytes are in flight", "sender waits for writable")                              \
  X(15, peer_gone, "the peer closed its end or died", "rank fails its cell")                                           \
  X(16, timeout, "the deadline passed", "room or step fails")                                                          \
  X(17, queue_full, "a bounded queue is full", "request refused")                                                      \
  X(18, not_admitted, "the mesh agreed that the request cannot enter", "request fails")                                \
  X(19, stale_grant, "the grant's slot has moved on to another generation", "write refused")                           \
  X(20, out_of_bounds, "the write would leave the granted bytes", "write refused")                                     \
  X(21, transfer_failed, "the fabric reported an error for a write", "room fails, slot is quarantined")                \
  X(22, wrong_group, "a group is used that the plan does not have there", "rank leaves, hello refused")                \
  X(23, plan_mismatch, "the collectives of this step are not those of its plan", "rank leaves")                        \
  X(24, not_a_member, "this rank is not a member of the group", "rank leaves")                                         \
  X(25, parity_mismatch, "the ranks do not agree on what they run", "every rank leaves")                               \
  X(26, invalid_request, "the request cannot be served as asked", "request refused")                                   \
  X(27, context_exceeded, "prompt and answer do not fit the context", "request refused")                               \
  X(28, no_memory, "a pool has no free slot or block for this request", "request waits or is refused")                 \
  X(29, cell_gone, "a cell that serves the request has left", "request fails")                                         \
  X(30, cancelled, "the client gave up", "everything of the request is released")                                      \
  X(31, bad_picture, "the picture cannot be read", "request refused")                                                  \
  X(32, illegal_transition, "the event is not allowed in this state", "rank leaves")                                   \
  X(33, shutting_down, "the cluster is draining", "request refused")                                                   \
  X(34, span_mismatch, "the grants do not tile the rows of the room", "room fails")                                    \
  X(35, executor_failed, "the executor reported an error", "rank leaves")                                              \
  X(36, config_invalid, "the model or the spec cannot be used", "rank leaves before ready")                            \
  X(37, prompt_mismatch, "what was computed is not the prompt that was asked for", "request fails")                    \
  X(38, replica_mismatch, "the ranks of a mesh hold different copies of a prompt", "rank leaves")                      \
  X(39, not_finite, "the model gave logits that are not finite", "request fails")

enum class fault : std::uint16_t {
#define X(code, name, sentence, reaction) name = code,
  TROUPE_FAULTS(X)
#undef X
};

std::string_view name(fault code) noexcept;     ///< "stale_epoch"
std::string_view sentence(fault code) noexcept; ///< what happened
std::string_view reaction(fault code) noexcept; ///< who reacts and how
std::optional<fault> fault_from(std::uint16_t code) noexcept;

/// A fault with what a person needs to find it: never thrown, carried in `result`.
struct failure {
  fault code{};
  std::string what; ///< the particulars: which slot, which bytes, what would be valid

  bool operator==(const failure&) const = default;
};

/// "stale_grant: the grant's slot has moved on to another generation (slot 3, generation 7, now 8)".
std::string to_string(const failure& problem);

template <class T>
using result = tl::expected<T, failure>;

inline tl::unexpected<failure> fail(fault code, std::string what = {}) {
  if (detail::watching != nullptr) [[unlikely]]
    detail::watching->on_fault(code);
  return tl::unexpected<failure>{failure{code, std::move(what)}};
}

} // namespace troupe::protocols
