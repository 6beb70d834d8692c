#pragma once

#include <string>

namespace troupe::cluster {

/// Version and digest of the program that runs: two ranks with equal build ids run the same code.
/// Contract: A27 (parity handshake), G8.
std::string build_id();

} // namespace troupe::cluster
