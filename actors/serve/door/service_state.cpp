#include "actors/serve/door/service_state.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "protocols/serve/roles.hpp"
#include "runtime/door/door.hpp"

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

std::string service_state::health() const {
  const std::lock_guard lock{mutex_};
  const auto why = obstacle_here();
  std::string out = fmt::format(R"({{"ready":{},"state":)", !why);
  door::append_json_text(out, why ? why->code : "ready");
  out += R"(,"ranks":[)";
  for (const auto& rank : plan_.ranks) {
    const auto gone = lost_.find(rank.id);
    out += fmt::format(R"({}{{"rank":{},"label":)", rank.id.value == 0 ? "" : ",", rank.id.value);
    door::append_json_text(out, rank.label);
    out += R"(,"role":)";
    door::append_json_text(out, name(rank.role));
    out += R"(,"state":)";
    door::append_json_text(out, gone != lost_.end() ? "lost" : drains_ ? "draining" : serves_ ? "ready" : "starting");
    out += R"(,"cause":)";
    if (gone == lost_.end())
      out += "null";
    else
      door::append_json_text(out, gone->second);
    out += '}';
  }
  return out + "]}";
}

} // namespace troupe::actors
