#include "tests/tally/tally_program.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "actors/rank_program.hpp"
#include "tests/tally/tally_rank.hpp"
#include "tests/tally/tally_roles.hpp"
#include "tests/tally/tally_text.hpp"

namespace troupe::tally {

using namespace protocols;

namespace {

constexpr std::array role_rows{
    role_row{.role = teller, .name = "teller", .one_rank = true, .jobs = {}},
    role_row{.role = counter, .name = "counter", .computes = true, .restarts = true, .jobs = {}},
};

constexpr station at_teller{teller, seat::leader};
constexpr station at_leader{counter, seat::leader};
constexpr station at_worker{counter, seat::worker};
constexpr station at_counter{counter, seat::any};

constexpr std::array routes{
    route{tally_type::lend, at_counter, at_teller},
    route{tally_type::add, at_teller, at_counter},
    route{tally_type::landed, at_worker, at_leader, reach::own_cell},
    route{tally_type::sum, at_leader, at_teller},
};
constexpr std::array region_rows{region_row{.purpose = "numbers",
                                            .owner = at_counter,
                                            .source = "drawn",
                                            .writer = at_teller,
                                            .words = "numbers teller->counter"}};
constexpr std::array transfer_rows{transfer_row{numbers_written, teller, counter}};
constexpr std::array message_rows{
    message_row{tally_type::lend, "lend"},     message_row{tally_type::add, "add"},
    message_row{tally_type::landed, "landed"}, message_row{tally_type::sum, "sum"},
    message_row{tally_type::count, "count"},   message_row{tally_type::counted, "counted"},
};
constexpr std::array setting_rows{
    setting_row{.name = tally_setting::numbers_max,
                .sentence = "Numbers of one rank in one round.",
                .least = 1,
                .most = 1 << 20,
                .initial = 4096},
    setting_row{.name = tally_setting::piece_numbers,
                .sentence = "Numbers of one write.",
                .least = 1,
                .most = 1 << 20,
                .initial = 256},
};

constexpr std::array actor_rows{actor_row{tally_actor::teller, "teller"}, actor_row{tally_actor::counter, "counter"}};
constexpr std::array phase_rows{phase_row{adding, "adding"}};

constexpr std::string_view layouts = "one teller pool and a counter pool, or pools of role stub";

result<void> validate_pools(const cluster_spec& spec) {
  for (const auto role : {teller, counter})
    if (std::ranges::count(spec.pools, role, &pool_spec::role) != 1)
      return fail(fault::config_invalid,
                  "not one pool of role " + std::string{name(role)} + "; valid are: " + std::string{layouts});
  return {};
}

constexpr program tally{
    .name = "tally",
    .roles = role_rows,
    .front = teller,
    .contacts = {},
    .streams = role_kind::stub,
    .routes = routes,
    .regions = region_rows,
    .transfers = transfer_rows,
    .messages = message_rows,
    .fault_points = tally_fault_points,
    .settings = setting_rows,
    .actors = actor_rows,
    .phases = phase_rows,
    .watched_max = 2, // an actor and, of a counter, its executor
    .metrics = {},
    .layouts = layouts,
    .validate_pools = validate_pools,
};

} // namespace

const program& tally_program() noexcept {
  return tally;
}

result<void> add_tally() {
  return add_program(tally).map([] {
    actors::add_rank_program(tally.name, &make_tally_rank);
    cluster::add_message_text(&tally_message_text);
  });
}

} // namespace troupe::tally
