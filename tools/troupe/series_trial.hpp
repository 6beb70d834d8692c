#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/time.hpp"
#include "tools/troupe/drill_load.hpp"

namespace troupe::tools {

/// How one trial of a series went.
struct series_trial {
  struct figure {
    std::string name; ///< "teardown"
    protocols::duration took{};
    bool operator==(const figure&) const = default;
  };

  std::uint32_t number = 0; ///< from 1
  std::string what;         ///< "decode.0/t1 killed 120 ms into serving"
  std::vector<figure> figures;
  load_counts load;
  std::size_t left_alive = 0;        ///< processes that should have gone, 5 s later
  std::vector<std::string> problems; ///< none: it passed
  std::string kept;                  ///< the job's directory, of a trial that did not pass

  bool passed() const noexcept { return problems.empty(); }
  void measured(std::string_view name, protocols::duration took) { figures.push_back({std::string{name}, took}); }
  void problem(std::string text) { problems.push_back(std::move(text)); }
  /// Notes what is wrong with the answers.
  void judge(const drill_load& asked);
};

nlohmann::ordered_json as_json(const series_trial& trial);
/// Errors: config_invalid.
protocols::result<series_trial> series_trial_from(const nlohmann::ordered_json& json);

/// Of one figure over all trials that have it.
struct spread {
  std::string name;
  std::size_t count = 0;
  protocols::duration p50{}, p99{}, most{};
};
/// In the order in which they first come.
std::vector<spread> spreads_of(const std::vector<series_trial>& trials);

/// For people: the figures, the sums, and why those that did not pass did not.
void print_series(const std::vector<series_trial>& trials);

} // namespace troupe::tools
