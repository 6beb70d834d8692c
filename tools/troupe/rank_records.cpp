#include "tools/troupe/rank_records.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "runtime/base/flight_files.hpp"

namespace troupe::tools {

namespace {

double milliseconds(std::int64_t ns) {
  return static_cast<double>(ns / 1000) / 1e3;
}

std::string_view part_name(std::size_t part) {
  return protocols::name(static_cast<protocols::start_part>(part));
}

nlohmann::ordered_json as_json(const protocols::start_line& line) {
  nlohmann::ordered_json out;
  for (std::size_t part = 0; part < line.part_ns.size(); ++part)
    if (line.part_ns[part] > 0)
      out[std::string{part_name(part)}] = milliseconds(line.part_ns[part]);
  if (line.ready_ns)
    out["ready"] = milliseconds(*line.ready_ns);
  return out;
}

} // namespace

void add_records(nlohmann::ordered_json& ranks, const cluster::job_paths& paths) {
  std::vector<std::string> problems; // a file that cannot be understood tells nothing here
  const auto stories = base::read_flights(paths.flight_folder(), problems);
  if (!stories)
    return;
  const auto starts = protocols::starts_of(*stories);
  for (auto& rank : ranks) {
    const protocols::rank_id id{rank.at("rank").get<std::uint32_t>()};
    const auto start = std::ranges::find(starts, id, &protocols::start_line::rank);
    if (start == starts.end())
      continue;
    const auto story =
        std::ranges::find_if(*stories, [&](const auto& each) { return each.rank == id && each.born == start->born; });
    rank["graphs"] = story->graphs;
    rank["eager_runs"] = story->eager;
    rank["start_ms"] = as_json(*start);
  }
}

table start_table(const std::vector<protocols::start_line>& lines) {
  std::vector<table::column> columns{{"rank", table::side::right}, {"label"}};
  for (std::size_t part = 0; part < protocols::start_parts; ++part)
    columns.push_back({std::string{part_name(part)}, table::side::right});
  columns.push_back({"other", table::side::right});
  columns.push_back({"ready, ms", table::side::right});
  table out{std::move(columns)};
  for (const auto& line : lines) {
    std::vector<std::string> cells{std::to_string(line.rank.value), line.label};
    for (const auto part : line.part_ns)
      cells.push_back(part == 0 ? "" : fmt::format("{:.1f}", milliseconds(part)));
    const auto parts = std::accumulate(line.part_ns.begin(), line.part_ns.end(), std::int64_t{0});
    cells.push_back(line.ready_ns ? fmt::format("{:.1f}", milliseconds(*line.ready_ns - parts)) : "");
    cells.push_back(line.ready_ns ? fmt::format("{:.1f}", milliseconds(*line.ready_ns)) : "not ready");
    out.add(std::move(cells));
  }
  return out;
}

} // namespace troupe::tools
