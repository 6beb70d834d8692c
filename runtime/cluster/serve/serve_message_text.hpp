#pragma once

#include "runtime/cluster/message_text.hpp"

namespace troupe::cluster {

/// The messages of `serve`.
protocols::result<std::optional<std::vector<std::byte>>> serve_message_text(protocols::message_type type,
                                                                            const json_node& fields);

} // namespace troupe::cluster
