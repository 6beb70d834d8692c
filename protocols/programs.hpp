#pragma once

#include <span>

namespace troupe::protocols {

struct message_row;
struct program;

/// The programs that are built in. A new one is a line in programs.cpp, and no other shared file.
std::span<const program* const> built_in_programs() noexcept;
/// Their messages, program by program.
std::span<const std::span<const message_row>> built_in_messages() noexcept;

} // namespace troupe::protocols
