#include "tests/tally/counter_machine.hpp"

#include <string>

namespace troupe::tally {

using namespace protocols;

counter_machine::counter_machine(const cell_plan& cell, std::uint32_t place, options how)
    : cell_(cell), place_(place), how_(how) {}

counter_machine::effects counter_machine::start() const {
  return {send_tally{how_.front, lend{how_.born}}};
}

result<counter_machine::effects> counter_machine::on_add(const add& order) {
  if (order.numbers > how_.numbers_max)
    return fail(fault::out_of_bounds,
                std::to_string(order.numbers) + " numbers, room is for " + std::to_string(how_.numbers_max));
  if (order.round <= order_.round)
    return effects{};
  order_ = order;
  std::erase_if(pieces_, [&](const auto& each) { return each.first < order.round; });
  return check();
}

counter_machine::effects counter_machine::on_piece(room_id round) {
  const bool counts = round >= order_.round && (pieces_.contains(round) || pieces_.size() < rounds_ahead_max);
  if (!counts)
    return {};
  ++pieces_[round];
  return round == order_.round ? check() : effects{};
}

counter_machine::effects counter_machine::on_landed(std::uint32_t place, const landed& word) {
  if (word.round < landing_)
    return {};
  if (word.round > landing_) {
    landing_ = word.round;
    landed_.clear();
  }
  landed_[place] = word.numbers;
  if (landed_.size() < cell_.ranks.size())
    return {};
  add_plan plan{.round = landing_, .stops = false, .numbers = {}};
  for (const auto& [at, numbers] : landed_)
    plan.numbers.push_back(numbers);
  return {add_up{std::move(plan)}};
}

counter_machine::effects counter_machine::on_sum(room_id round, float value) const {
  return {send_tally{how_.front, sum{round, value}}};
}

/// All of the newest round's numbers are there.
counter_machine::effects counter_machine::check() {
  const auto found = pieces_.find(order_.round);
  const auto here = found == pieces_.end() ? 0 : found->second;
  if (here != order_.pieces)
    return {};
  const landed word{order_.round, order_.numbers};
  if (place_ == 0)
    return on_landed(0, word);
  return {send_tally{cell_.leader(), word}};
}

} // namespace troupe::tally
