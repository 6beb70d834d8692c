#include "world.hpp"

#include "clients.hpp"
#include "links.hpp"
#include "rank_main.hpp"
#include "serve_node.hpp"
#include "transfers.hpp"

namespace troupe::sim {

using namespace protocols;

world::world(std::uint64_t seed, sim_cluster of, const weather& how, bool tells)
    : cluster(std::move(of)), sky(how), stormy(how.hinders()), dice(mix(seed, 0x3041D)), past(tells), judge(*this), ranks(cluster.plan.ranks.size()),
      users(std::make_unique<clients>(*this)) {}

world::~world() = default;

duration world::delay(duration mean) {
  auto of = dice.around(mean);
  if (dice.chance(sky.late))
    of += dice.around(sky.late_by);
  return of;
}

void world::begin() {
  for (const auto& rank : plan().ranks) {
    auto& made = ranks[rank.id.value] = std::make_shared<process>(*this, rank.id, generation{1});
    made->main = std::make_unique<rank_main>(*made);
    made->serves = std::make_unique<serve_node>(*made);
  }
  for (const auto& edge : plan().edges)
    join(*at(edge.connects), *at(edge.accepts), false);
  for (const auto& edge : plan().token_edges)
    join(*at(edge.connects), *at(edge.accepts), true);
  for (auto& from : ranks)
    for (auto& to : ranks)
      if (from != to)
        attach(*from, *to);
  for (const auto& cell : plan().cells) {
    auto company = std::make_shared<cell_company>();
    for (const auto rank : cell.ranks)
      if (const auto found = at(rank)->serves->executors.find(cell.role); found != at(rank)->serves->executors.end())
        company->members.push_back(found->second.get());
    for (auto* const member : company->members)
      member->join(company);
  }
  for (auto& rank : ranks)
    rank->serves->start();
}

void world::on_rank_failed(process& rank, const failure& cause, const std::string& where) {
  past.violate(time.now(), "no rank fails by itself", rank.label + ", " + where + ": " + to_string(cause));
}

void world::on_drained(process&) {}

} // namespace troupe::sim
