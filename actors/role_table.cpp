// Decides outside protocols: threads meet here before there is an actor to decide

#include "actors/role_table.hpp"

#include "runtime/base/assert.hpp"

namespace troupe::actors {

using namespace protocols;

void role_table::publish(role_kind role, caf::actor actor) {
  auto& one = places_[static_cast<std::size_t>(role)];
  const std::lock_guard lock{mutex_};
  TROUPE_ASSERT("K12", !one.here.load(std::memory_order_relaxed));
  one.actor = std::move(actor);
  for (auto& each : std::exchange(one.waiting, {}))
    each(one.actor);
  one.bytes = 0;
  one.here.store(true, std::memory_order_release);
}

const caf::actor* role_table::find(role_kind role) const noexcept {
  const auto& one = places_[static_cast<std::size_t>(role)];
  return one.here.load(std::memory_order_acquire) ? &one.actor : nullptr;
}

result<void> role_table::keep(role_kind role, std::size_t bytes, delivery what) {
  auto& one = places_[static_cast<std::size_t>(role)];
  const std::lock_guard lock{mutex_};
  if (one.here.load(std::memory_order_relaxed)) { // it came meanwhile
    what(one.actor);
    return {};
  }
  if (one.waiting.size() >= most_.messages || bytes > most_.bytes - one.bytes) {
    const auto so_far = dropped_.fetch_add(1, std::memory_order_relaxed) + 1;
    return fail(fault::queue_full, std::string{name(role)} + " is not there yet and " +
                                       std::to_string(one.waiting.size()) + " messages wait for it; " +
                                       std::to_string(so_far) + " dropped");
  }
  one.waiting.push_back(std::move(what));
  one.bytes += bytes;
  return {};
}

} // namespace troupe::actors
