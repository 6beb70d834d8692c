#include "actors/serve/door/service_state.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "protocols/serve/roles.hpp"

namespace troupe::actors {

using namespace protocols;

void service_state::serves() {
  const std::lock_guard lock{mutex_};
  serves_ = true;
}

void service_state::drains() {
  const std::lock_guard lock{mutex_};
  drains_ = true;
}

void service_state::lose(const lost& news) {
  const std::lock_guard lock{mutex_};
  for (const auto rank : news.ranks)
    lost_[rank] = news.cause;
}

void service_state::recover(const recovered& news) {
  const std::lock_guard lock{mutex_};
  for (const auto rank : news.ranks)
    lost_.erase(rank);
}

std::optional<service_state::obstacle> service_state::obstacle_now() const {
  const std::lock_guard lock{mutex_};
  return obstacle_here();
}

std::optional<service_state::obstacle> service_state::obstacle_here() const {
  if (drains_)
    return obstacle{"draining", "the cluster finishes what it has and takes nothing new"};
  if (!serves_)
    return obstacle{"not_ready", "the cluster is starting"};
  for (const auto role : {serve_role::encode, serve_role::prefill, serve_role::decode}) {
    const auto cells = plan_.cells_of(role);
    const lost_rank* missing = nullptr;
    const auto is_whole = [&](cell_id cell) {
      const auto gone = std::ranges::find_if(lost_, [&](const auto& each) {
        return std::ranges::find(plan_.cell(cell).ranks, each.first) != plan_.cell(cell).ranks.end();
      });
      if (gone != lost_.end())
        missing = &*gone;
      return gone == lost_.end();
    };
    if (!cells.empty() && std::ranges::none_of(cells, is_whole))
      return obstacle{"cell_gone", fmt::format("no {} cell serves: {} is lost: {}", name(role),
                                               plan_.rank(missing->first).label, missing->second)};
  }
  return std::nullopt;
}

} // namespace troupe::actors
