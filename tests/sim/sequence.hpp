#pragma once

#include <string>

namespace troupe::sim {

/// The messages and writes of one request with one picture, in the order in which a cluster of one encode, one prefill
/// and one decode rank sends them when nothing else goes on. Taken from a run, as protocols/README.md has it.
std::string describe_request();

} // namespace troupe::sim
