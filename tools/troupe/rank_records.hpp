#pragma once

#include <nlohmann/json.hpp>

#include "protocols/flight/flight_start.hpp"
#include "runtime/cluster/job_directory.hpp"
#include "tools/troupe/text.hpp"

/// What commands tell of ranks beside their states, from the ranks' own records.
namespace troupe::tools {

/// Adds to each of `ranks`, objects with "rank", how many graphs it keeps and how many runs it made without one (G5),
/// and where its start went; nothing of a rank without a record.
void add_records(nlohmann::ordered_json& ranks, const cluster::job_paths& paths);

/// A line a rank: milliseconds by part of its start, what is left of it, and all of it.
table start_table(const std::vector<protocols::start_line>& lines);

} // namespace troupe::tools
