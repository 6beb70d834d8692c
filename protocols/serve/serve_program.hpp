#pragma once

#include "protocols/cluster/program.hpp"

namespace troupe::protocols {

/// The transfer kinds of `serve`, as they stand in completion data.
enum class transfer_kind : std::uint8_t { pixels = 1, rows = 2, kv = 3 };

/// Image and prompt to tokens, over pools of encode, prefill and decode cells.
const program& serve_program() noexcept;

} // namespace troupe::protocols
