#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/wire/frame.hpp"

namespace troupe::cluster {

/// The payload of a message between role actors, from its fields as JSON (protocols/*/*_messages.hpp): a list in the
/// order of `fields`, or an object by their names; parts within it alike. Numbers stand for integers, ids and
/// enumerators.
/// "[5]" and "{\"request\": 5}" are a release of request 5, "[[[3, 1], {\"slot\": 4, \"lease_generation\": 1}]]" a
/// grant of two pixel slots. Errors: invalid_request (no such message between actors; a field that is missing, unknown,
/// too many, or of another kind), config_invalid (no JSON).
protocols::result<std::vector<std::byte>> payload_of_text(protocols::message_type type, std::string_view fields);

struct json_node;

/// The messages of one program: the payload of `type`, or nothing where it is none of them (message_fields.hpp).
/// Errors: invalid_request.
using message_text = protocols::result<std::optional<std::vector<std::byte>>> (*)(protocols::message_type type,
                                                                                  const json_node& fields);

/// Of a program that came later: beside `protocols::add_program`, by the main thread.
void add_message_text(message_text of);

} // namespace troupe::cluster
