#include "runtime/base/random.hpp"

#include <sys/random.h>

#include <cerrno>

#include "runtime/base/assert.hpp"

namespace troupe::base {

void fill_random(std::span<std::byte> out) {
  while (!out.empty()) {
    const auto got = ::getrandom(out.data(), out.size(), 0);
    TROUPE_ASSERT("kernel randomness", got > 0 || errno == EINTR);
    if (got > 0)
      out = out.subspan(static_cast<std::size_t>(got));
  }
}

} // namespace troupe::base
