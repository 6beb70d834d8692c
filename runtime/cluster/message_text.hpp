#pragma once

#include <string_view>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/frame.hpp"

namespace troupe::cluster {

/// The payload of a message between role actors, from its fields as a JSON list in the order of `fields`
/// (protocols/messages.hpp): numbers for integers, ids and enumerators, lists for lists and parts.
/// "[5]" is a release of request 5, "[[[3, 1], [4, 1]]]" a grant of two pixel slots.
/// Errors: invalid_request (no such message between actors, a field that is missing, too many, or of another kind),
/// config_invalid (no JSON).
protocols::result<std::vector<std::byte>> payload_of_text(protocols::message_type type, std::string_view fields);

} // namespace troupe::cluster
