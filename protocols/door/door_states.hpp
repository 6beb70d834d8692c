#pragma once

#include "protocols/machine_watch.hpp"

/// The states of the machines under door/.
namespace troupe::protocols {

extern const state_table http_session_table;
extern const state_table stop_text_table;

} // namespace troupe::protocols
