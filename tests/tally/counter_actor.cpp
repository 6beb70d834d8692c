#include "runtime/base/fault_point.hpp"
#include "runtime/base/log.hpp"
#include "runtime/base/overloaded.hpp"
#include "tests/tally/tally_actors.hpp"
#include "tests/tally/tally_program.hpp"

namespace troupe::tally {

using namespace protocols;
using actors::envelope;

counter_actor::counter_actor(caf::actor_config& config, const actors::rank_context& rank, const cell_plan& cell,
                             caf::actor executor)
    : role_actor(config, rank, "counter", tally_actor::counter), cell_(cell), executor_(std::move(executor)),
      machine_(cell, *cell.place_of(rank.self),
               {.front = rank.plan.front(),
                .born = rank.born,
                .numbers_max =
                    static_cast<std::uint32_t>(tally_program().setting(rank.spec, tally_setting::numbers_max))}) {}

actors::rank_actor::handlers counter_actor::make_handlers() {
  return on([this](actors::start_atom) { perform(machine_.start()); },
            [this](const envelope<add>& order) {
              if (auto taken = machine_.on_add(order.body))
                perform(*std::move(taken));
              else // its deadline ends the question
                base::log_warning("an order was refused: {}", to_string(taken.error()));
            },
            [this](const actors::write_arrived& news) {
              TROUPE_FAULT_POINT_OF(tally_fault_points, "counter.piece");
              perform(machine_.on_piece(news.room));
            },
            [this](const envelope<landed>& word) {
              if (const auto place = cell_.place_of(word.source))
                perform(machine_.on_landed(*place, word.body));
            },
            [this](const summed& news) { perform(machine_.on_sum(news.round, news.value)); },
            [](const lost&) {}); // of another cell: its own would have taken this rank along
}

void counter_actor::perform(counter_machine::effects what) {
  for (auto& effect : what)
    std::visit(
        base::overloaded{
            [this](send_tally& message) { tally_router.deliver(rank_, counter, message.to, message.body, epoch()); },
            [this](counter_machine::add_up& order) { caf::anon_send(executor_, std::move(order)); },
        },
        effect);
}

} // namespace troupe::tally
