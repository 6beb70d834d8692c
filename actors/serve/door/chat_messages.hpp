#pragma once

#include <string>

#include "actors/serve/door/body_keys.hpp"

namespace troupe::actors {

/// The turns of a conversation, with their pictures in their places, added to `out`.
problem read_messages(const std::string& param, const door::json_value& value, const body_bounds& bounds,
                      chat_request& out);

} // namespace troupe::actors
