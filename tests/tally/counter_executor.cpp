#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "protocols/wire/codec.hpp"
#include "runtime/base/assert.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/fault_point.hpp"
#include "runtime/base/uncaught.hpp"
#include "tests/tally/tally_actors.hpp"

namespace troupe::tally {

using namespace protocols;
using actors::run_atom;
using actors::stop_atom;

counter_executor::counter_executor(caf::actor_config& config, const actors::rank_context& rank, std::uint32_t place,
                                   actors::cell_groups groups, duration nap)
    : caf::blocking_actor(config), rank_(rank), place_(place), groups_(std::move(groups)), nap_(nap),
      turn_(rank.turns->claim("a counter's executor stands still between two rounds")) {}

void counter_executor::act() noexcept {
  try {
    bool runs = false;
    receive([&](run_atom) { runs = true; }, [](stop_atom) {});
    const auto ended = !runs ? result<void>{} : place_ == 0 ? lead() : follow();
    turn_.set(false);
    if (!ended)
      rank_.fail_rank(ended.error(), "counting");
  } catch (const std::exception& problem) {
    rank_.fail_rank(base::failure_of(problem), "counting");
  }
}

result<void> counter_executor::lead() {
  for (result<void> done; done;) {
    bool stops = false;
    turn_.set(true);
    receive(
        [&](const counter_machine::add_up& order) {
          done = announce(order.plan).and_then([&] { return add_up(order.plan); }).map([&](float value) {
            rank_.tell_role(counter, summed{order.plan.round, value});
          });
        },
        [&](stop_atom) { stops = true; }, caf::after(nap_) >> [] {});
    if (stops)
      return announce({.round = {}, .stops = true, .numbers = {}});
    if (!done)
      return done;
  }
  return {};
}

result<void> counter_executor::follow() {
  bool stops = false;
  while (!stops) {
    turn_.set(true);
    const auto came = groups_.plans->await(plan_bytes_, base::now() + nap_);
    if (!came && came.error().code != fault::timeout)
      return came;
    while (has_next_message())
      receive([&](stop_atom) { stops = true; });
    if (!came)
      continue;
    add_plan plan;
    if (auto read = decode_payload(plan_bytes_, plan); !read)
      return read;
    if (plan.stops)
      return {};
    if (auto added = add_up(plan); !added)
      return tl::unexpected<failure>{added.error()};
  }
  return {};
}

result<void> counter_executor::announce(const add_plan& plan) {
  if (!groups_.plans)
    return {};
  plan_bytes_.clear();
  encode_payload(plan, plan_bytes_);
  return groups_.plans->announce(call_, plan_bytes_, base::now() + rank_.step_max());
}

result<float> counter_executor::add_up(const add_plan& plan) {
  if (place_ >= plan.numbers.size())
    return fail(fault::plan_mismatch, "a plan without this rank's numbers");
  turn_.set(false); // the flight record shows how the collective gets on
  TROUPE_FAULT_POINT_OF(tally_fault_points, "counter.adding");
  std::vector<float> numbers(plan.numbers[place_]);
  const auto& region = rank_.regions.at("numbers");
  TROUPE_ASSERT("tally", numbers.size() * sizeof(float) <= region.bytes.size());
  std::memcpy(numbers.data(), region.bytes.data(), numbers.size() * sizeof(float));
  std::array<float, 1> all{std::accumulate(numbers.begin(), numbers.end(), 0.0f)};
  call_ = call_.next();
  if (groups_.cell) {
    auto done = groups_.cell->begin(call_, "adding", 1)
                    .and_then([&] { return groups_.cell->all_reduce_sum(std::span<float>{all}); })
                    .and_then([&] { return groups_.cell->end(); });
    if (!done)
      return tl::unexpected<failure>{done.error()};
  }
  turn_.set(true);
  return all.front();
}

} // namespace troupe::tally
