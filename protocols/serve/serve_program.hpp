#pragma once

#include "protocols/cluster/program.hpp"

namespace troupe::protocols {

/// The transfer kinds of `serve`.
namespace serve_transfer {
inline constexpr transfer_kind pixels{1};
inline constexpr transfer_kind rows{2};
inline constexpr transfer_kind kv{3};
} // namespace serve_transfer

/// Image and prompt to tokens, over pools of encode, prefill and decode cells.
const program& serve_program() noexcept;

} // namespace troupe::protocols
