#include "protocols/mesh/plan_states.hpp"

#include <array>

namespace troupe::protocols {

static constexpr auto collective_plan_rows = std::to_array<table_row>({
    {"idle", "begin", "stepping broken"},
    {"idle", "enter", "broken"},
    {"idle", "end", "refused"},
    {"stepping", "end", "idle broken"},
    {"stepping", "enter", "stepping broken"},
    {"stepping", "begin", "refused"},
    {"broken", "enter", "broken"},
    {"broken", "begin end", "refused"},
});
constexpr state_table collective_plan_table{"collective_plan_machine", "", "idle stepping broken",
                                            collective_plan_rows};

} // namespace troupe::protocols
