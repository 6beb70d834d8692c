#include "tests/sim/world.hpp"

#include "tests/sim/clients.hpp"
#include "tests/sim/links.hpp"
#include "tests/sim/rank_main.hpp"
#include "tests/sim/serve_node.hpp"
#include "tests/sim/supervisor.hpp"
#include "tests/sim/transfers.hpp"

namespace troupe::sim {

using namespace protocols;

world::world(std::uint64_t seed, sim_cluster of, const weather& how, bool tells)
    : cluster(std::move(of)), sky(how), began_with(how), stormy(how.hinders()), dice(mix(seed, 0x3041D)),
      past(time, tells), judge(*this, how.late > 0), service(*this), ranks(cluster.plan.ranks.size()),
      users(std::make_unique<clients>(*this)) {}

world::~world() = default;

duration world::delay(duration mean) {
  auto of = dice.around(mean);
  if (dice.chance(sky.late))
    of += dice.around(sky.late_by);
  return of;
}

duration world::held_up(rank_id from, rank_id to) const {
  const auto found = walls.find({from, to});
  return found == walls.end() || found->second <= time.now() ? duration{} : found->second - time.now();
}

void world::heal() {
  sky = healed(sky);
  healed_at = time.now();
  walls.clear();
  for (const auto& rank : ranks)
    if (rank)
      rank->resume();
  for (const auto& what : std::exchange(at_healing, {}))
    what();
}

void world::begin() {
  boss = std::make_unique<supervisor>(*this);
  boss->start();
}

process& world::make_process(rank_id rank, generation born, cache_epoch epoch) {
  auto& made = ranks[rank.value] = std::make_shared<process>(*this, rank, born, epoch);
  made->main = std::make_unique<rank_main>(*made);
  all_processes.push_back(made);
  return *made;
}

std::shared_ptr<cell_company> world::company_of(const cell_plan& cell, generation born) {
  auto& company = companies[{cell.id, born}];
  if (!company) {
    company = std::make_shared<cell_company>();
    company->members.resize(cell.ranks.size());
  }
  return company;
}

void world::on_ready() {
  if (!std::exchange(was_ready_, true))
    users->begin();
}

void world::on_exit(process& rank, rank_end end) {
  past.note(
      [&] {
        return rank.label + (end.how == rank_end::kind::signalled ? " is killed by signal " : " ends with code ") +
               std::to_string(end.number);
      },
      40, rank.self.value, end.number);
  close_lanes_of(rank);
  for (const auto& other : ranks) {
    if (!other || !other->running)
      continue;
    if (const auto found = other->peers.find(rank.self); found != other->peers.end() && found->second.born == rank.born)
      other->reach(time.now() + delay(sky.frame), [at = other.get(), of = rank.self, born = rank.born] {
        if (at->peers.at(of).born == born)
          let_go(*at, of, {fault::peer_gone, "it has ended"});
      });
  }
  if (rank.serves)
    for (const auto& [role, steps] : rank.serves->executors)
      if (const auto company = companies.find({steps->cell.id, rank.born}); company != companies.end())
        for (auto* const member : company->second->members)
          if (member != nullptr && member != steps.get())
            member->rank.reach(time.now() + delay(sky.frame), [member, of = rank.self] { member->lose(of); });
  if (plan().is_front(rank.self))
    users->front_gone();
  boss->on_exit(rank, std::move(end));
}

void world::on_drained(process& front) {
  users->front_drained();
  front.main->on_drained();
}

} // namespace troupe::sim
