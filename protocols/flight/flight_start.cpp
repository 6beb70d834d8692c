#include "protocols/flight/flight_start.hpp"

#include <algorithm>
#include <map>

namespace troupe::protocols {

namespace {

start_line read_start(const flight_story& story) {
  start_line line{
      .rank = story.rank, .born = story.born, .label = story.label, .part_ns = {}, .ready_ns = std::nullopt};
  std::array<std::int64_t, start_parts> begun{};
  std::int64_t first_ns = story.steady_ns; // the file is opened when the launch has been read
  for (const auto& record : story.records) {
    if (record.action == flight_action::part && record.operation < start_parts) {
      if (record.moment == flight_moment::begin)
        begun[record.operation] = record.time_ns;
      else if (begun[record.operation] != 0)
        line.part_ns[record.operation] += record.time_ns - begun[record.operation];
    }
    const bool is_ready = record.action == flight_action::life && record.moment == flight_moment::point &&
                          record.operation == static_cast<std::uint16_t>(life_state::ready);
    if (is_ready && !line.ready_ns)
      line.ready_ns = record.time_ns - first_ns;
  }
  return line;
}

} // namespace

std::vector<start_line> starts_of(const std::vector<flight_story>& stories) {
  std::map<rank_id, const flight_story*> newest;
  for (const auto& story : stories) {
    const auto [found, is_new] = newest.emplace(story.rank, &story);
    if (!is_new && found->second->born < story.born)
      found->second = &story;
  }
  std::vector<start_line> lines;
  for (const auto& [rank, story] : newest)
    if (rank != supervisor_rank)
      lines.push_back(read_start(*story));
  return lines;
}

} // namespace troupe::protocols
