#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "gpu/operations.hpp"
#include "protocols/time.hpp"

namespace troupe::gpu {

class collective_backend;

/// One member's part of a product that is cut along its columns: x [m, k] . weight [n, k] transposed + bias [n] (or
/// none). As for `operations::matmul_add`, weight and bias must be there when the operation before begins.
struct partial_product {
  tensor_view x, weight, bias;
  tensor_view room; ///< contiguous f32 [m, n], for it to stand in where that is needed
};

/// Collectives of one group on memory of a device, in the order of a stream. Tensors are contiguous f32.
/// A call returns before it is carried out: what goes wrong in it comes out of stream::synchronize, or, when a peer
/// never comes, by this rank's end with its cell (C1). Threads: the executor that owns the group and the stream.
class device_collectives {
public:
  virtual ~device_collectives() = default;
  /// Whether the device alone carries them out, so that they can be captured with what is around them.
  virtual bool capturable() const noexcept = 0;
  /// What carries them out, for the log.
  virtual std::string form() const = 0;
  /// Members, a bit each, for whom the device says that it has waited for a while in a collective and still does. Asks
  /// nothing of the device. 0 also where the device cannot say. Threads: any.
  virtual std::uint32_t awaited() const noexcept { return 0; }
  /// Ends what joining has left under way, so that other parts of a start can go on meanwhile; before the first
  /// collective. Errors: timeout, not all members came; executor_failed.
  virtual protocols::result<void> settle(protocols::time_point) { return {}; }
  /// What comes next belongs to another step.
  virtual void begin_step() noexcept {}
  /// Every member gets the same bits.
  virtual protocols::result<void> all_reduce_sum(stream& on, const tensor_view& values,
                                                 protocols::time_point deadline) = 0;
  /// to += the sum of `values`, which hold something else afterwards. `to` is of the same shape.
  virtual protocols::result<void> all_reduce_add(stream& on, const tensor_view& values, const tensor_view& to,
                                                 protocols::time_point deadline) = 0;
  /// to (contiguous f32 [m, n]) += the sum of all members' parts.
  virtual protocols::result<void> add_product(const operations& run, stream& on, const partial_product& part,
                                              const tensor_view& to, protocols::time_point deadline) {
    run.matmul(on, part.x, part.weight, part.bias, part.room);
    return all_reduce_add(on, part.room, to, deadline);
  }
  /// all [rows, members x columns]: beside each other in member order what every member has as `mine` [rows, columns].
  virtual protocols::result<void> all_gather(stream& on, const tensor_view& mine, const tensor_view& all,
                                             protocols::time_point deadline) = 0;
  /// Point to point; the other side calls the counterpart.
  virtual protocols::result<void> send(stream& on, const tensor_view& values, std::uint32_t to,
                                       protocols::time_point deadline) = 0;
  virtual protocols::result<void> receive(stream& on, const tensor_view& values, std::uint32_t from,
                                          protocols::time_point deadline) = 0;
};

/// A member's place, and how it tells the others what they find each other by.
struct group_member {
  std::uint32_t self = 0;
  std::uint32_t size = 1;
  /// Hands `mine` to every member and takes theirs, in member order, by way of the host. Everybody makes the same
  /// calls.
  std::function<protocols::result<void>(std::span<const std::byte> mine, std::span<std::byte> all)> exchange;
};
/// What every member has at this place, in member order.
template <class Plain>
protocols::result<std::vector<Plain>> exchange(const group_member& seat, const Plain& mine) {
  static_assert(std::is_trivially_copyable_v<Plain>);
  std::vector<Plain> all(seat.size);
  return seat.exchange(std::as_bytes(std::span{&mine, 1}), std::as_writable_bytes(std::span{all})).map([&] {
    return std::move(all);
  });
}

/// `pieces` [members, rows, columns] beside each other in all [rows, members x columns], of the host.
void put_beside(std::span<const float> pieces, std::uint32_t members, const tensor_view& all);

/// By way of the host: down, through `host`, up. For GPUs that have no faster way, and for several ranks on one GPU.
/// `host` outlives it.
std::unique_ptr<device_collectives> stage_collectives(std::shared_ptr<const operations> run, collective_backend& host);

} // namespace troupe::gpu
