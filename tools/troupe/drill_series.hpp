#pragma once

#include <cstdint>
#include <string>

/// What is run again and again to see what happens once in a thousand times.
namespace troupe::tools {

enum class series_kind { kills, cycles, pressure, walk };

struct series_options {
  series_kind kind = series_kind::kills;
  std::string spec;
  std::string pages;
  std::uint32_t count = 0;      ///< 0: what the figure asks for
  std::uint32_t seconds = 3600; ///< of pressure, and of all walks together
  std::uint64_t seed = 1;
  std::string resume; ///< a summary: what stands there is not run again
  bool json = false;
};

/// Runs the series with a progress line and prints what was seen. Returns the exit code.
int run_series(const series_options& options);

} // namespace troupe::tools
