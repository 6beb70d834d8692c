#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>

namespace troupe::bench {

/// Round-trip times of one measurement, in the order taken.
struct samples {
  std::string name;
  std::vector<double> microseconds;

  double percentile(double share) {
    if (microseconds.empty())
      return 0.0;
    const auto place =
        std::min(static_cast<std::size_t>(share * static_cast<double>(microseconds.size())), microseconds.size() - 1);
    std::nth_element(microseconds.begin(), microseconds.begin() + static_cast<std::ptrdiff_t>(place),
                     microseconds.end());
    return microseconds[place];
  }
};

inline void print_heading() {
  std::printf("%-44s %9s %9s %9s %9s %9s  %s\n", "round trip", "min us", "p50 us", "p90 us", "p99 us", "p99.9",
              "rounds");
}

inline void print(samples& of) {
  std::printf("%-44s %9.2f %9.2f %9.2f %9.2f %9.2f  %zu\n", of.name.c_str(), of.percentile(0.0), of.percentile(0.5),
              of.percentile(0.9), of.percentile(0.99), of.percentile(0.999), of.microseconds.size());
}

/// Calls `round` for the warm-up, then `rounds` times with the clock.
template <class Round>
samples measure(std::string name, std::size_t rounds, Round round) {
  samples taken{.name = std::move(name), .microseconds = {}};
  taken.microseconds.reserve(rounds);
  for (std::size_t i = 0; i < rounds / 10; ++i)
    round();
  for (std::size_t i = 0; i < rounds; ++i) {
    const auto began = std::chrono::steady_clock::now();
    round();
    taken.microseconds.push_back(
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - began).count());
  }
  return taken;
}

} // namespace troupe::bench
