#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "protocols/fault.hpp"
#include "runtime/base/unique_fd.hpp"

namespace troupe::fabric {

/// One shared mapping and the memfd behind it.
/// The memfd is sealed against any change of size: a peer that could shrink it would end this process by SIGBUS in the
/// middle of a copy. Its pages are reserved when it is made, so that no first write pays for them or finds none left.
/// Contract: I25, I26.
/// Ownership: movable; unmaps and closes at its end.
class region_memory {
public:
  region_memory() noexcept = default;
  region_memory(region_memory&& other) noexcept;
  region_memory& operator=(region_memory&& other) noexcept;
  ~region_memory();

  /// New zeroed memory; `label` is what /proc/PID/maps shows. Errors: no_memory, bad_value (no bytes).
  static protocols::result<region_memory> create(std::size_t bytes, const char* label);
  /// Maps what a peer made. Errors: bad_value (not sealed, or not that long), no_memory.
  static protocols::result<region_memory> map(base::unique_fd file, std::size_t bytes);

  std::span<std::byte> bytes() const noexcept { return {begin_, size_}; }
  int file() const noexcept { return file_.get(); }

private:
  region_memory(base::unique_fd file, std::byte* begin, std::size_t size) noexcept;

  base::unique_fd file_;
  std::byte* begin_ = nullptr;
  std::size_t size_ = 0; ///< as asked for; the mapping is whole pages
};

} // namespace troupe::fabric
