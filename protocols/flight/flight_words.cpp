#include "protocols/flight/flight_words.hpp"

#include <algorithm>
#include <map>

namespace troupe::protocols {

namespace {

/// What tells most of a rank with several threads: where it can be held up by others, then what it does itself.
int weight_of(flight_action action) noexcept {
  switch (action) {
  case flight_action::collective:
    return 6;
  case flight_action::plan_announce:
  case flight_action::edge:
    return 5;
  case flight_action::step:
  case flight_action::device:
    return 4;
  case flight_action::life:
  case flight_action::part:
    return 3;
  case flight_action::transfer:
  case flight_action::turn:
    return 2;
  case flight_action::plan_await:
    return 1;
  case flight_action::none:
  case flight_action::arrived:
  case flight_action::frame_sent:
  case flight_action::frame_received:
  case flight_action::fault:
  case flight_action::spawned:
  case flight_action::ended:
  case flight_action::killed:
  case flight_action::verdict:
    return 0;
  }
  return 0;
}

} // namespace

bool is_hop(const flight_record& what) noexcept {
  return what.action == flight_action::collective && what.number == 0;
}

std::string rank_text(rank_id rank) {
  if (rank == supervisor_rank)
    return "the supervisor";
  if (rank == client_rank)
    return "a client";
  return "rank " + std::to_string(rank.value);
}

std::string span_text(std::int64_t ns) {
  if (ns < 1'000'000'000)
    return std::to_string(ns / 1'000'000) + '.' + std::to_string(ns / 100'000 % 10) + " ms";
  const auto hundredths = ns / 10'000'000 % 100;
  return std::to_string(ns / 1'000'000'000) + (hundredths < 10 ? ".0" : ".") + std::to_string(hundredths) + " s";
}

std::string end_text(const flight_record& end, bool put_down) {
  return "; ended by " + std::string{operation_name(flight_action::ended, end.operation)} + ' ' +
         std::to_string(end.item) + (put_down ? " of the supervisor" : "");
}

flight_activity most_telling(const flight_story& story) {
  flight_activity best;
  std::map<std::uint64_t, const flight_record*> open;
  for (const auto& record : story.records) {
    if (record.action != flight_action::transfer)
      continue;
    if (record.moment == flight_moment::begin)
      open[record.item] = &record;
    else
      open.erase(record.item);
  }
  for (const auto& [cookie, begun] : open)
    if (best.what.action == flight_action::none || begun->time_ns < best.what.time_ns)
      best.what = *begun;
  for (const auto& each : story.activities) {
    const auto weight = weight_of(each.what.action);
    const auto known = weight_of(best.what.action);
    if (weight > known || (weight == known && weight > 0 && each.what.time_ns < best.what.time_ns))
      best = each;
  }
  return best;
}

std::string last_words(const flight_story& story) {
  const auto in = most_telling(story).what;
  const auto was = in.action == flight_action::none ? std::string{} : "it was in " + describe(in, story.groups);
  return story.words + (story.words.empty() || was.empty() ? "" : "; ") + was;
}

std::string describe(const flight_record& record, const std::vector<flight_story::group>& groups) {
  const auto operation = std::string{operation_name(record.action, record.operation)};
  const auto with_peer = [&](std::string_view how) {
    return record.peer == no_peer ? std::string{} : std::string{how} + rank_text(record.peer);
  };
  std::string text;
  switch (record.action) {
  case flight_action::none:
    return "idle";
  case flight_action::collective:
    text = operation + with_peer(is_hop(record) ? " with " : " from ");
    break;
  case flight_action::life:
    text = (record.moment == flight_moment::point ? "reached " : "the step to ") + operation;
    break;
  case flight_action::edge:
    text = (operation.empty() ? "making reachable" : "making the " + operation + " lane") + with_peer(" with ");
    break;
  case flight_action::step:
    text = "a step";
    break;
  case flight_action::plan_announce:
    text = "announcing a plan";
    break;
  case flight_action::plan_await:
    text = "awaiting a plan" + with_peer(" from ");
    break;
  case flight_action::transfer:
    text = "a transfer" + with_peer(" to ");
    break;
  case flight_action::arrived:
    text = "bytes arrived" + with_peer(" of ");
    break;
  case flight_action::frame_sent:
    text = operation + with_peer(" to ");
    break;
  case flight_action::frame_received:
    text = operation + with_peer(" of ");
    break;
  case flight_action::fault:
    text = "fault " + operation;
    break;
  case flight_action::spawned:
    text = "started" + with_peer(" ") + ", generation " + std::to_string(record.number) + ", process " +
           std::to_string(record.item);
    break;
  case flight_action::ended:
    text = "ended" + with_peer(" ") + " by " + operation + ' ' + std::to_string(record.item);
    break;
  case flight_action::killed:
    text = "kills" + with_peer(" ");
    break;
  case flight_action::verdict:
    text = with_peer("") + " failed first";
    break;
  case flight_action::device:
    text = "waiting for its GPU";
    break;
  case flight_action::part:
    text = "its start, part " + operation;
    break;
  case flight_action::turn:
    text = "a message of its " + operation + " actor" +
           (record.item == 0 ? std::string{} : ", question " + std::to_string(record.item));
    break;
  }
  if (record.group != no_group && record.action != flight_action::edge) {
    const auto known = std::ranges::find(groups, record.group, &flight_story::group::id);
    text += " of group " + (known == groups.end() ? std::to_string(record.group.value) : known->name);
  }
  if (record.call != call_id{})
    text += ", call " + std::to_string(record.call.value);
  if (record.phase != flight_phase::none && record.action != flight_action::life &&
      record.action != flight_action::part && record.action != flight_action::edge)
    text += ", phase " + std::string{name(record.phase)};
  if (record.action == flight_action::step && record.item != 0)
    text += ", request " + std::to_string(record.item);
  return text;
}

} // namespace troupe::protocols
