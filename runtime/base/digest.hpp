#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include <fmt/format.h>
#include <xxhash.h>

namespace troupe::base {

/// XXH3-64: finds change and difference, not intent; nothing that an enemy may choose is checked by it.
inline std::uint64_t digest(std::span<const std::byte> bytes) noexcept {
  return XXH3_64bits(bytes.data(), bytes.size());
}

/// The same over pieces: equal to `digest` of their concatenation.
class running_digest {
public:
  running_digest() : state_(XXH3_createState()) { XXH3_64bits_reset(state_.get()); }
  void add(std::span<const std::byte> bytes) noexcept { XXH3_64bits_update(state_.get(), bytes.data(), bytes.size()); }
  std::uint64_t value() const noexcept { return XXH3_64bits_digest(state_.get()); }

private:
  struct free_state {
    void operator()(XXH3_state_t* state) const noexcept { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, free_state> state_;
};

/// Sixteen hexadecimal digits.
inline std::string hex(std::uint64_t value) {
  return fmt::format("{:016x}", value);
}

} // namespace troupe::base
