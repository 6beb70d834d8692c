#pragma once

#include <string>

namespace troupe::cluster {

/// JSON Schema (draft 2020-12) of a cluster spec, from the table that the reader walks; what `troupe spec schema`
/// prints. Relations between keys (the order of timeouts, layouts) are beyond it: the reader checks them.
std::string spec_schema();

} // namespace troupe::cluster
