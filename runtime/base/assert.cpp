#include "runtime/base/assert.hpp"

#include <unistd.h>

#include <cstddef>
#include <cstdio>

#include "runtime/base/exit_code.hpp"

namespace troupe::base {

void broken_invariant(const char* label, const char* condition, const char* file, int line) noexcept {
  char text[512];
  const int length =
      std::snprintf(text, sizeof text, "broken invariant %s: %s at %s:%d\n", label, condition, file, line);
  if (length > 0) [[maybe_unused]]
    const auto written = ::write(STDERR_FILENO, text, static_cast<std::size_t>(length));
  ::_exit(static_cast<int>(exit_code::invariant));
}

} // namespace troupe::base
