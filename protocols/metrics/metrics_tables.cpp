#include "protocols/metrics/metrics_states.hpp"

#include <array>

namespace troupe::protocols {

static constexpr auto view_machine_rows = std::to_array<table_row>({
    {"-", "next on_blamed on_counters on_restarted on_sign", "-"},
});
constexpr state_table view_machine_table{"view_machine", "", "-", view_machine_rows};

} // namespace troupe::protocols
