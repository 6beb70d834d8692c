#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "protocols/fault.hpp"
#include "tests/sim/schedule.hpp"

namespace troupe::sim {

/// A schedule that reached something that none before it had reached, or reached it much more often.
struct kept_schedule {
  std::uint64_t seed = 0;
  std::uint64_t course = 0;
  bool operator==(const kept_schedule&) const = default;
};

/// What one run of the simulator keeps for the next: the schedules worth running again, and the first untried seed.
/// It is a folder with one text file, `schedules`. The first line states the options of the runs, since a seed draws
/// another schedule under other options.
class corpus {
public:
  /// A folder without the file is an empty corpus. Errors: config_invalid, with the line or the options that differ.
  static protocols::result<corpus> open(const std::filesystem::path& folder, const schedule_options& each);

  const std::vector<kept_schedule>& kept() const noexcept { return kept_; }
  std::uint64_t next_seed() const noexcept { return next_seed_; }
  /// Replaces the file whole. Errors: config_invalid (it cannot be written).
  protocols::result<void> save(std::vector<kept_schedule> kept, std::uint64_t next_seed);

private:
  std::filesystem::path folder_;
  std::string options_;
  std::vector<kept_schedule> kept_;
  std::uint64_t next_seed_ = 1;
};

} // namespace troupe::sim
