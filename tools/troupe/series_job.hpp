#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "runtime/cluster/drill_file.hpp"
#include "tools/troupe/drill_cluster.hpp"
#include "tools/troupe/drill_folder.hpp"
#include "tools/troupe/drill_load.hpp"
#include "tools/troupe/series_trial.hpp"

namespace troupe::tools {

/// Above any wait of a trial: what is not over by then hangs.
inline constexpr std::chrono::seconds hang_deadline{60};
/// Nothing that has to go lives this long.
inline constexpr std::chrono::seconds leave_deadline{5};

/// What every trial of a series launches and asks.
struct series_setup {
  std::filesystem::path spec;
  protocols::cluster_spec settings;
  protocols::cluster_plan plan;
  std::vector<cluster::drill_page> pages;
};
/// `pages`: as of a drill. Errors: config_invalid.
protocols::result<series_setup> read_series_setup(const std::filesystem::path& spec,
                                                  const std::filesystem::path& pages);

/// One launched cluster and who asks it; everything ends with this object. Threads: one.
class series_job {
public:
  struct asking {
    std::vector<cluster::drill_page> pages;
    std::uint32_t repeat = 1;
    std::uint32_t at_once = 4;
  };
  /// Errors: config_invalid.
  static protocols::result<std::unique_ptr<series_job>> launch(const series_setup& setup, asking what);

  /// Looks and asks until `what` holds or `deadline` has passed; returns whether it holds.
  bool until(protocols::time_point deadline, const std::function<bool()>& what);
  /// The same, for as long as it takes: until `deadline`.
  void pass(protocols::time_point deadline);

  /// Once it is ready. Errors: peer_gone, timeout.
  protocols::result<void> begin_to_ask();

  drill_cluster& running() noexcept { return running_; }
  drill_load& load() noexcept { return load_; }
  protocols::time_point launched() const noexcept { return launched_; }
  /// A rank of a later generation serves, and so does everybody else.
  bool has_recovered() const;

  /// Waits until nothing of the job lives, the supervisor's end included, at most until `leave_deadline` after `since`;
  /// notes what does, and otherwise how long it took under `name`.
  void see_all_leave(series_trial& trial, protocols::time_point since, std::string_view name);
  /// Its directory stays after the end of this object. Returns where.
  std::filesystem::path keep();
  /// Counts the answers; keeps the job's directory if the trial has a problem.
  void conclude(series_trial& trial);

private:
  series_job(const series_setup& setup, asking what, std::unique_ptr<drill_folder> folder, drill_cluster running);
  static cluster::drill as_drill(asking what);

  cluster::drill asked_;
  protocols::rank_id front_;
  std::unique_ptr<drill_folder> folder_;
  protocols::time_point launched_;
  drill_cluster running_;
  drill_load load_;
};

} // namespace troupe::tools
