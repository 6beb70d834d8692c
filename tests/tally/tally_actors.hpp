#pragma once

#include <functional>
#include <map>
#include <memory>

#include <caf/all.hpp>

#include "actors/message_router.hpp"
#include "actors/rank_program.hpp"
#include "actors/role_actor.hpp"
#include "tests/tally/counter_machine.hpp"
#include "tests/tally/teller_machine.hpp"

namespace troupe::tally {

inline constexpr actors::message_router<tally_message> tally_router{};

// What actors of one rank say to each other.
struct client_asks {
  fabric::link_queues::key client = 0;
  count what;
};
struct client_left {
  fabric::link_queues::key client = 0;
};
struct finish_all {}; ///< the cluster drains
struct summed {
  protocols::room_id round;
  float value = 0;
};

/// The front. Carries out what `teller_machine` decides.
class teller_actor final : public actors::role_actor {
public:
  teller_actor(caf::actor_config& config, const actors::rank_context& rank, std::function<void()> on_drained);
  const char* name() const override { return "teller"; }

private:
  handlers make_handlers() override;
  void on_count(const client_asks& letter);
  void perform(teller_machine::effects what);
  void write(const teller_machine::write_numbers& what);
  void end(const teller_machine::end_question& what);
  void answer(fabric::link_queues::key client, const counted& what);

  std::function<void()> on_drained_;
  teller_machine machine_;
  std::map<protocols::request_id, std::pair<fabric::link_queues::key, std::uint64_t>> asked_; ///< client, its tag
  protocols::request_id newest_{};
};

/// A rank of a cell. Carries out what `counter_machine` decides.
class counter_actor final : public actors::role_actor {
public:
  counter_actor(caf::actor_config& config, const actors::rank_context& rank, const protocols::cell_plan& cell,
                caf::actor executor);
  const char* name() const override { return "counter"; }

private:
  handlers make_handlers() override;
  void perform(counter_machine::effects what);

  const protocols::cell_plan& cell_;
  caf::actor executor_;
  counter_machine machine_;
};

/// Adds up, in step with the cell's other ranks: the leader announces each round, each rank sums its own numbers, and a
/// collective adds these sums. A detached actor that begins with `run_atom` and ends with `stop_atom`.
class counter_executor final : public caf::blocking_actor {
public:
  counter_executor(caf::actor_config& config, const actors::rank_context& rank, std::uint32_t place,
                   actors::cell_groups groups, protocols::duration nap);
  void act() noexcept override;
  const char* name() const override { return "counting"; }

private:
  protocols::result<void> lead();
  protocols::result<void> follow();
  protocols::result<void> announce(const add_plan& plan);
  protocols::result<float> add_up(const add_plan& plan);

  const actors::rank_context& rank_;
  std::uint32_t place_;
  actors::cell_groups groups_;
  protocols::duration nap_;
  base::progress_counter turn_;
  protocols::call_id call_{};
  std::vector<std::byte> plan_bytes_;
};

} // namespace troupe::tally

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::tally::client_asks)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::tally::client_left)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::tally::finish_all)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::tally::summed)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::tally::counter_machine::add_up)
