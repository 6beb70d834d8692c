#pragma once

#include <memory>
#include <span>

#include "gpu/operations.hpp"
#include "protocols/time.hpp"

namespace troupe::gpu {

class collective_backend;

/// Collectives of one group on memory of a device, in the order of a stream. Tensors are contiguous f32.
/// A call returns before it is carried out: what goes wrong in it comes out of stream::synchronize, or, when a peer
/// never comes, by this rank's end with its cell (C1). Threads: the executor that owns the group and the stream.
class device_collectives {
public:
  virtual ~device_collectives() = default;
  /// Whether the device alone carries them out, so that they can be captured with what is around them.
  virtual bool capturable() const noexcept = 0;
  /// Every member gets the same bits.
  virtual protocols::result<void> all_reduce_sum(stream& on, const tensor_view& values,
                                                 protocols::time_point deadline) = 0;
  /// `all` holds a piece like `mine` of every member, in member order.
  virtual protocols::result<void> all_gather(stream& on, const tensor_view& mine, const tensor_view& all,
                                             protocols::time_point deadline) = 0;
  /// Point to point; the other side calls the counterpart.
  virtual protocols::result<void> send(stream& on, const tensor_view& values, std::uint32_t to,
                                       protocols::time_point deadline) = 0;
  virtual protocols::result<void> receive(stream& on, const tensor_view& values, std::uint32_t from,
                                          protocols::time_point deadline) = 0;
};

/// By way of the host: down, through `host`, up. For GPUs that have no faster way, and for several ranks on one GPU.
/// `host` outlives it.
std::unique_ptr<device_collectives> stage_collectives(std::shared_ptr<const operations> run, collective_backend& host);

} // namespace troupe::gpu
