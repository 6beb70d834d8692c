#pragma once

#include <memory>

#include "runtime/door/door.hpp"

/// The one symbol that libtroupe_door.so exports, and its type.
namespace troupe::door {

inline constexpr const char* make_door_symbol = "troupe_make_door";
using make_door_function = void(options wanted, protocols::result<std::unique_ptr<door>>& made);

} // namespace troupe::door
