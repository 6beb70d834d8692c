#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "fabric/transfers/transfer.hpp"

namespace troupe::fabric {

/// What another process of this host opens a device's memory by; it says which device, too.
using device_handle = std::array<std::byte, 80>;

/// How a device gets at the other end of a copy.
enum class device_reach : std::uint8_t {
  direct,         ///< by its own loads and stores, and by its copy engines
  by_way_of_host, ///< the driver copies through the host: slow, right
  pinned          ///< as `direct`, but it is memory of the host
};

/// One allocation of a device's memory: made here, or opened from a peer's handle. Its end frees or closes it.
class device_region {
public:
  virtual ~device_region() = default;
  device_region(const device_region&) = delete;
  device_region& operator=(const device_region&) = delete;

  virtual std::span<std::byte> bytes() const noexcept = 0; ///< addresses of the device
  virtual const device_handle& handle() const noexcept = 0;
  virtual device_reach reach() const noexcept { return device_reach::direct; }

protected:
  device_region() = default;
};

/// A point in the order of what a device computes, which what reads that memory can be put behind: one for good,
/// another point is another event. Which kind of point it is only the plug-in knows that made it. Ownership: whoever
/// waits for it holds it (E12).
class device_event {
public:
  virtual ~device_event() = default;
  device_event(const device_event&) = delete;
  device_event& operator=(const device_event&) = delete;

protected:
  device_event() = default;
};

/// Copies between a device's regions, or between one and pinned memory of the host, one write at a time, in an order of
/// their own beside what the device computes. Threads: one.
class device_copies {
public:
  virtual ~device_copies() = default;
  /// Pieces were checked against both regions. Returns before they are copied; the device copies them when it has come
  /// to `after`, at once without one, and `after` stays until `finished`. Errors: executor_failed.
  virtual protocols::result<void> begin(std::span<const write_piece> pieces, const std::byte* source, std::byte* target,
                                        device_reach reach, const device_event* after) = 0;
  /// Whether everything that was begun is in the target's memory. Errors: executor_failed.
  virtual protocols::result<bool> finished() = 0;
};

/// The memory of one device as the data plane needs it; a plug-in implements it.
/// Threads: any.
class device_memory {
public:
  virtual ~device_memory() = default;
  /// Zeroed. Errors: no_memory with what is free; executor_failed.
  virtual protocols::result<std::unique_ptr<device_region>> make(std::size_t bytes) = 0;
  /// What `make` made in another process. Errors: transfer_failed.
  virtual protocols::result<std::unique_ptr<device_region>> open(const device_handle& of, std::size_t bytes) = 0;
  /// Lets `make_copies` at memory of the host for as long as what is returned is held. Errors: no_memory;
  /// executor_failed.
  virtual protocols::result<std::shared_ptr<const void>> pin(std::span<std::byte> of_host) = 0;
  virtual std::unique_ptr<device_copies> make_copies() = 0;

  struct room {
    std::uint64_t unused = 0; ///< bytes, of all processes together
    std::uint64_t whole = 0;
  };
  virtual protocols::result<room> left() = 0;
};

} // namespace troupe::fabric
