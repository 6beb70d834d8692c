#pragma once

#include <span>

#include "runtime/cluster/message_text.hpp"

namespace troupe::cluster {

/// Of the programs that are built in. A new one is a line in message_texts.cpp.
std::span<const message_text> built_in_message_texts() noexcept;

} // namespace troupe::cluster
