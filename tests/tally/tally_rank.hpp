#pragma once

#include "actors/rank_program.hpp"

namespace troupe::tally {

std::unique_ptr<actors::rank_program> make_tally_rank(actors::rank_context& rank, actors::rank_services& services);

} // namespace troupe::tally
