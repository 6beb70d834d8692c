#include "runtime/cluster/supervisor_drills.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include "runtime/base/assert.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/doorbell.hpp"
#include "runtime/base/log.hpp"

namespace troupe::cluster {

using namespace protocols;

supervisor_drills::supervisor_drills(const cluster_spec& spec, const cluster_plan& plan)
    : spec_(spec), plan_(plan), doorbell_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  TROUPE_ASSERT("drill doorbell", doorbell_);
}

result<void> supervisor_drills::open(const job_paths& paths, const std::vector<protocols::inject>& rules) {
  for (const auto& order : rules)
    if (auto allowed = validate_injection(spec_, plan_, order); !allowed)
      return allowed;
  if (spec_.drills) {
    injector_.emplace(base::fault_injector::options{supervisor_rank, paths.file("strikes").string()});
    injector_->arm();
    for (const auto& order : rules)
      if (order.rank == supervisor_rank)
        if (auto added = injector_->add(order.rule); !added)
          return added;
  }
  auto door = control_listener::open(paths.file("control.sock").string());
  if (!door)
    return tl::unexpected{door.error()};
  door_.emplace(std::move(*door));
  return {};
}

result<void> supervisor_drills::inject(const protocols::inject& order) {
  if (auto allowed = validate_injection(spec_, plan_, order); !allowed)
    return allowed;
  {
    const std::lock_guard lock{mutex_};
    orders_.push_back(order);
  }
  base::ring(doorbell_);
  return {};
}

std::vector<int> supervisor_drills::waitables() const {
  auto fds = door_ ? door_->waitables() : std::vector<int>{};
  fds.push_back(doorbell_.get());
  return fds;
}

void supervisor_drills::step(const std::function<void(const protocols::inject&)>& send) {
  if (door_)
    door_->step([this](const protocols::inject& order) { return inject(order); }, base::now());
  std::uint64_t rung = 0;
  if (::read(doorbell_.get(), &rung, sizeof rung) < 0)
    return;
  std::deque<protocols::inject> orders;
  {
    const std::lock_guard lock{mutex_};
    orders.swap(orders_);
  }
  for (const auto& order : orders)
    if (order.rank != supervisor_rank)
      send(order);
    else if (const auto added = injector_->add(order.rule); !added)
      base::log_warning("drill: {}", to_string(added.error()));
}

void supervisor_drills::notice(rank_id rank) {
  if (injector_)
    injector_->notice(rank);
}

void pass_fault_points(const roster&) {
  TROUPE_FAULT_POINT("supervisor.roster");
}

void pass_fault_points(const proceed& order) {
  if (order.next == life_state::grouped)
    TROUPE_FAULT_POINT("supervisor.grouping");
  if (order.next == life_state::warm)
    TROUPE_FAULT_POINT("supervisor.warming");
}

void pass_fault_points(const shutdown& order) {
  if (order.drain)
    TROUPE_FAULT_POINT("supervisor.draining");
}

} // namespace troupe::cluster
