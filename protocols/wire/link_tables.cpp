#include "protocols/wire/link_states.hpp"

#include <array>

namespace troupe::protocols {

static constexpr auto link_machine_rows = std::to_array<table_row>({
    {"open", "on_rest_missing", "open"},
    {"open", "on_leave", "leaving"},
    {"open", "on_lost", "gone"},
    {"leaving", "on_lost", "gone"},
    {"gone", "on_leave on_lost", "gone"},
});
constexpr state_table link_machine_table{"link_machine", "", "open leaving gone", link_machine_rows};

} // namespace troupe::protocols
