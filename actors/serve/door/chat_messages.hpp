#pragma once

#include <string>

#include "actors/serve/door/body_keys.hpp"

namespace troupe::actors {

/// Reads `messages`, and adds the turns of the conversation and its pictures to `out`.
problem read_messages(const std::string& param, const door::json_value& value, const body_bounds& bounds,
                      chat_request& out);

} // namespace troupe::actors
