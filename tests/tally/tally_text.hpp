#pragma once

#include "runtime/cluster/message_text.hpp"

namespace troupe::tally {

/// The messages of `tally` as drills and `troupe inject` write them.
protocols::result<std::optional<std::vector<std::byte>>> tally_message_text(protocols::message_type type,
                                                                            const cluster::json_node& fields);

} // namespace troupe::tally
