#pragma once

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "protocols/fault.hpp"

namespace troupe::bench {

/// The value; a benchmark that is refused something says what, and ends.
template <class Value>
Value must(protocols::result<Value> outcome) {
  if (!outcome) {
    std::fprintf(stderr, "%s\n", protocols::to_string(outcome.error()).c_str());
    std::exit(1);
  }
  if constexpr (!std::is_void_v<Value>)
    return *std::move(outcome);
}

} // namespace troupe::bench
