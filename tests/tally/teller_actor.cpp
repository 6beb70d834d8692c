#include <algorithm>
#include <chrono>
#include <numeric>

#include "actors/periods.hpp"
#include "runtime/base/fault_point.hpp"
#include "runtime/base/overloaded.hpp"
#include "tests/tally/tally_actors.hpp"
#include "tests/tally/tally_program.hpp"

namespace troupe::tally {

using namespace protocols;
using actors::envelope;

namespace {

std::uint32_t setting(const actors::rank_context& rank, std::string_view which) {
  return static_cast<std::uint32_t>(tally_program().setting(rank.spec, which));
}

teller_machine::options options_of(const actors::rank_context& rank) {
  return {.numbers_max = setting(rank, tally_setting::numbers_max),
          .piece_numbers = setting(rank, tally_setting::piece_numbers),
          .questions_max = rank.spec.limits.in_flight_max,
          .rounds_max = 3,
          .question_deadline = std::chrono::milliseconds{rank.spec.timeouts.request_ms}};
}

} // namespace

teller_actor::teller_actor(caf::actor_config& config, const actors::rank_context& rank,
                           std::function<void()> on_drained)
    : role_actor(config, rank, "teller", tally_actor::teller), on_drained_(std::move(on_drained)),
      machine_(rank.plan, options_of(rank)) {}

actors::rank_actor::handlers teller_actor::make_handlers() {
  delayed_send(this, actors::tick_period, actors::tick_atom::value);
  return on(
      [this](const client_asks& letter) { on_count(letter); },
      [this](const client_left& news) {
        std::erase_if(asked_, [&](const auto& each) { return each.second.first == news.client; });
      },
      [this](const envelope<lend>& word) { perform(machine_.on_lend(word.source, word.body, rank_.now())); },
      [this](const envelope<sum>& word) { perform(machine_.on_sum(word.source, word.body, rank_.now())); },
      [this](const actors::write_completed& end) { perform(machine_.on_written(end.room, end.outcome, rank_.now())); },
      [this](const lost& news) { perform(machine_.on_lost(news, rank_.now())); },
      [this](const recovered& news) { perform(machine_.on_recovered(news, rank_.now())); },
      [this](finish_all) { perform(machine_.on_drain(rank_.now())); },
      [this](actors::tick_atom) {
        perform(machine_.on_tick(rank_.now()));
        delayed_send(this, actors::tick_period, actors::tick_atom::value);
      });
}

void teller_actor::on_count(const client_asks& letter) {
  const auto& [client, what] = letter;
  newest_ = newest_.next();
  asked_[newest_] = {client, what.tag};
  if (auto taken = machine_.on_count(newest_, what.first, what.amount, rank_.now()))
    perform(*std::move(taken));
  else
    end({newest_, taken.error(), 0, 0});
  rank_.wire->handled(client);
}

void teller_actor::perform(teller_machine::effects what) {
  for (auto& effect : what)
    std::visit(
        base::overloaded{
            [this](send_tally& message) { tally_router.deliver(rank_, teller, message.to, message.body, epoch()); },
            [this](const teller_machine::write_numbers& numbers) { write(numbers); },
            [this](const teller_machine::end_question& ended) { end(ended); },
            [this](const teller_machine::drained&) { on_drained_(); },
        },
        effect);
}

void teller_actor::write(const teller_machine::write_numbers& what) {
  const auto& source = rank_.regions.at("drawn");
  const auto source_at = what.slot * source.card.slot_bytes + what.source_at * sizeof(float);
  std::vector<float> numbers(what.amount);
  std::iota(numbers.begin(), numbers.end(), static_cast<float>(what.first_value));
  std::ranges::copy(std::as_bytes(std::span{numbers}), source.bytes.begin() + static_cast<std::ptrdiff_t>(source_at));
  const auto until = rank_.now() + std::chrono::milliseconds{rank_.spec.timeouts.transfer_ms};
  const auto posted = rank_.transfers->post({.to = what.to,
                                             .source_region = source.id,
                                             .target_region = rank_.peer_regions.at(what.to, "numbers").region,
                                             .pieces = {{.source_offset = source_at,
                                                         .target_offset = what.target_at * sizeof(float),
                                                         .bytes = what.amount * sizeof(float)}},
                                             .completion_data = actors::completion_data(numbers_written, what.round),
                                             .lease = {what.owner, until},
                                             .deadline = until,
                                             .cookie = actors::cookie_of(numbers_written, what.round, what.part)},
                                            fabric::ready_event::already());
  if (!posted)
    caf::anon_send(this, actors::write_completed{numbers_written, what.round, what.part, posted});
  TROUPE_FAULT_POINT_OF(tally_fault_points, "teller.posted");
}

/// A client that has left is told nothing; its question goes on.
void teller_actor::end(const teller_machine::end_question& what) {
  const auto found = asked_.find(what.question);
  if (found == asked_.end())
    return;
  const auto [client, tag] = found->second;
  asked_.erase(found);
  answer(client, {.tag = tag,
                  .code = what.why ? static_cast<std::uint16_t>(what.why->code) : std::uint16_t{0},
                  .message = what.why ? to_string(*what.why) : std::string{},
                  .value = what.value,
                  .rounds = what.rounds});
}

/// A client that does not read for a whole queue is let go.
void teller_actor::answer(fabric::link_queues::key client, const counted& what) {
  auto letter = actors::outgoing_of(what, cache_epoch{}); // the connection of a client is of none
  const auto posted = rank_.wire->post(client, {.type = letter.type}, std::move(letter.payload));
  if (!posted && posted.error().code == fault::queue_full)
    rank_.wire->remove(client);
}

} // namespace troupe::tally
