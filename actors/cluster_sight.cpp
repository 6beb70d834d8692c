#include "actors/cluster_sight.hpp"

#include <chrono>
#include <filesystem>
#include <utility>

namespace troupe::actors {

using namespace protocols;

namespace {

/// As its folder is called; without a model, as the job is.
std::string model_name(const cluster_spec& spec) {
  const auto folder = std::filesystem::path{spec.model_path}.lexically_normal();
  const auto name = folder.has_filename() ? folder.filename() : folder.parent_path().filename();
  return name.empty() ? spec.name : name.string();
}

} // namespace

cluster_sight::cluster_sight(const cluster_plan& plan, const cluster_spec& spec)
    : spec_(spec), model_(model_name(spec)), board_(plan) {}

result<void> cluster_sight::on_view(cluster_view page, time_point now) {
  const std::lock_guard lock{mutex_};
  return board_.on_view(std::move(page), now);
}

std::uint64_t cluster_sight::taken() const {
  const std::lock_guard lock{mutex_};
  return board_.taken();
}

/// A supervisor that is silent for longer is given up, and the job ends.
readiness cluster_sight::judge(time_point now) const {
  return judge_readiness(board_, here_.load(std::memory_order_relaxed),
                         std::chrono::milliseconds{spec_.timeouts.supervisor_ms}, now);
}

readiness cluster_sight::ready(time_point now) const {
  const std::lock_guard lock{mutex_};
  return judge(now);
}

std::vector<health_row> cluster_sight::health(time_point now) const {
  const std::lock_guard lock{mutex_};
  return health_rows(board_, now);
}

std::vector<metric_family> cluster_sight::families(bool known_too, time_point now) const {
  const std::lock_guard lock{mutex_};
  return metric_families(board_, {.model = model_, .known_too = known_too}, judge(now), now);
}

} // namespace troupe::actors
