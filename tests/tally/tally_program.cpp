#include "tests/tally/tally_program.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "actors/rank_program.hpp"
#include "tests/tally/tally_rank.hpp"
#include "tests/tally/tally_roles.hpp"

namespace troupe::tally {

using namespace protocols;

namespace {

constexpr std::array role_rows{
    role_row{.role = teller, .name = "teller", .one_rank = true, .jobs = {}},
    role_row{.role = counter, .name = "counter", .computes = true, .restarts = true, .jobs = {}},
};

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
    .routes = {},
    .regions = {},
    .transfers = {},
    .messages = {},
    .fault_points = {},
    .settings = {},
    .layouts = layouts,
    .validate_pools = validate_pools,
};

} // namespace

const program& tally_program() noexcept {
  return tally;
}

result<void> add_tally() {
  return add_program(tally).map([] { actors::add_rank_program(tally.name, &make_tally_rank); });
}

} // namespace troupe::tally
