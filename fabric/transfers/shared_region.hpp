#pragma once

#include <memory>
#include <variant>

#include "fabric/transfers/device_memory.hpp"
#include "fabric/transfers/region_memory.hpp"

namespace troupe::fabric {

/// A region that processes of one host share: memory of the host, or of a device.
/// Ownership: movable; ends the mapping.
class shared_region {
public:
  shared_region() noexcept = default;
  shared_region(region_memory of) noexcept : memory_(std::move(of)) {}
  shared_region(std::unique_ptr<device_region> of) noexcept : memory_(std::move(of)) {}

  std::span<std::byte> bytes() const noexcept {
    const auto* const host = std::get_if<region_memory>(&memory_);
    return host != nullptr ? host->bytes() : device()->bytes();
  }
  bool on_device() const noexcept { return device() != nullptr; }
  memory_kind kind() const noexcept { return on_device() ? memory_kind::device : memory_kind::host; }
  /// The memfd behind it; of host memory only.
  int file() const noexcept { return std::get<region_memory>(memory_).file(); }
  /// Of a device's memory only.
  const device_handle& handle() const noexcept { return device()->handle(); }
  device_reach reach() const noexcept { return on_device() ? device()->reach() : device_reach::direct; }

private:
  const device_region* device() const noexcept {
    const auto* const found = std::get_if<std::unique_ptr<device_region>>(&memory_);
    return found != nullptr ? found->get() : nullptr;
  }

  std::variant<region_memory, std::unique_ptr<device_region>> memory_;
};

} // namespace troupe::fabric
