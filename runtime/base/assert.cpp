#include "runtime/base/assert.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>

#include "runtime/base/exit_code.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/base/outlet.hpp"

namespace troupe::base {

void broken_invariant(const char* label, const char* condition, const char* file, int line) noexcept {
  char text[512];
  const int length =
      std::snprintf(text, sizeof text, "broken invariant %s: %s at %s:%d\n", label, condition, file, line);
  const auto size = std::min(static_cast<std::size_t>(std::max(length, 0)), sizeof text - 1);
  flight().say({text, size});
  write_last_words({text, size});
  ::_exit(static_cast<int>(exit_code::invariant));
}

} // namespace troupe::base
