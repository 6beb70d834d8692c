#include "protocols/flight/flight.hpp"

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/life_messages.hpp"
#include "protocols/cluster/program.hpp"
#include "protocols/limits.hpp"
#include "protocols/mesh/collective_kind.hpp"
#include "protocols/serve/request_messages.hpp"
#include "protocols/serve/transfer_messages.hpp"
#include "protocols/wire/edge_messages.hpp"

namespace troupe::protocols {

namespace {

constexpr std::uint64_t short_bits = 16;

// The last sixteen of the 32-bit ranks are no places in a spec (client, supervisor, nobody); they stay the last
// sixteen.
constexpr std::uint16_t special_ranks = 0xfff0;
static_assert(limits::ranks_max < special_ranks && limits::groups_max < special_ranks);

constexpr std::uint64_t narrow(std::uint32_t id) noexcept {
  return id & 0xffffu;
}
constexpr std::uint32_t widen(std::uint64_t id) noexcept {
  return static_cast<std::uint32_t>(id >= special_ranks ? 0xffff'0000u | id : id);
}

std::string_view name_of(channel_kind kind) noexcept {
  switch (kind) {
  case channel_kind::control:
    return "control";
  case channel_kind::group:
    return "group";
  case channel_kind::tokens:
    return "tokens";
  }
  return {};
}

} // namespace

flight_words pack(const flight_record& record) noexcept {
  return {static_cast<std::uint64_t>(record.time_ns),
          record.call.value,
          record.item,
          record.epoch.value,
          record.amount,
          record.number | narrow(record.peer.value) << 32 | narrow(record.group.value) << 48,
          record.operation | std::uint64_t{record.outcome} << short_bits |
              static_cast<std::uint64_t>(record.action) << 32 | static_cast<std::uint64_t>(record.moment) << 40 |
              static_cast<std::uint64_t>(record.phase) << 48};
}

result<flight_record> unpack(const flight_words& words) {
  const auto byte_of = [&](int shift) { return static_cast<std::uint8_t>(words[6] >> shift); };
  const auto bad = [](const char* field, unsigned value) {
    return fail(fault::bad_value, std::string{field} + ' ' + std::to_string(value));
  };
  flight_record record{.time_ns = static_cast<std::int64_t>(words[0]),
                       .call = call_id{words[1]},
                       .item = words[2],
                       .epoch = cache_epoch{words[3]},
                       .amount = words[4],
                       .number = static_cast<std::uint32_t>(words[5]),
                       .peer = rank_id{widen(words[5] >> 32 & 0xffff)},
                       .group = group_id{widen(words[5] >> 48)},
                       .operation = static_cast<std::uint16_t>(words[6]),
                       .outcome = static_cast<std::uint16_t>(words[6] >> short_bits),
                       .action = flight_action{byte_of(32)},
                       .moment = flight_moment{byte_of(40)},
                       .phase = flight_phase{byte_of(48)}};
  if (!is_flight_time(record.time_ns))
    return fail(fault::bad_value, "time " + std::to_string(record.time_ns));
  if (byte_of(32) > static_cast<std::uint8_t>(flight_action::turn))
    return bad("action", byte_of(32));
  if (byte_of(40) > static_cast<std::uint8_t>(flight_moment::end))
    return bad("moment", byte_of(40));
  if (name(record.phase).empty())
    return bad("phase", byte_of(48));
  if (byte_of(56) != 0)
    return bad("spare byte", byte_of(56));
  return record;
}

std::string_view name(flight_action action) noexcept {
  switch (action) {
  case flight_action::none:
    return "none";
  case flight_action::life:
    return "life";
  case flight_action::edge:
    return "edge";
  case flight_action::step:
    return "step";
  case flight_action::collective:
    return "collective";
  case flight_action::plan_announce:
    return "plan_announce";
  case flight_action::plan_await:
    return "plan_await";
  case flight_action::transfer:
    return "transfer";
  case flight_action::arrived:
    return "arrived";
  case flight_action::frame_sent:
    return "frame_sent";
  case flight_action::frame_received:
    return "frame_received";
  case flight_action::fault:
    return "fault";
  case flight_action::spawned:
    return "spawned";
  case flight_action::ended:
    return "ended";
  case flight_action::killed:
    return "killed";
  case flight_action::verdict:
    return "verdict";
  case flight_action::device:
    return "device";
  case flight_action::part:
    return "part";
  case flight_action::turn:
    return "turn";
  }
  return {};
}

std::string_view name(actor_kind whose) noexcept {
  if (whose == actor_kind::link)
    return "link";
  for (const auto* const each : programs())
    for (const auto& row : each->actors)
      if (row.kind == whose)
        return row.name;
  return {};
}

std::string_view name(start_part part) noexcept {
  switch (part) {
  case start_part::files:
    return "files";
  case start_part::device:
    return "device";
  case start_part::memory:
    return "memory";
  case start_part::edges:
    return "edges";
  case start_part::collectives:
    return "collectives";
  case start_part::weights:
    return "weights";
  case start_part::shapes:
    return "shapes";
  case start_part::capture:
    return "capture";
  }
  return {};
}

std::string_view name(flight_moment moment) noexcept {
  switch (moment) {
  case flight_moment::point:
    return "point";
  case flight_moment::begin:
    return "begin";
  case flight_moment::end:
    return "end";
  }
  return {};
}

std::string_view name(flight_phase phase) noexcept {
  switch (phase) {
  case flight_phase::none:
    return "none";
  case flight_phase::start:
    return "start";
  case flight_phase::warm:
    return "warm";
  case flight_phase::stop:
    return "stop";
  case flight_phase::other:
    return "other";
  }
  for (const auto* const each : programs())
    for (const auto& row : each->phases)
      if (row.phase == phase)
        return row.name;
  return {};
}

flight_phase phase_named(std::string_view text) noexcept {
  using enum flight_phase;
  for (const auto phase : {start, warm, stop})
    if (name(phase) == text)
      return phase;
  for (const auto* const each : programs())
    for (const auto& row : each->phases)
      if (row.name == text)
        return row.phase;
  return other;
}

std::string_view operation_name(flight_action action, std::uint16_t operation) noexcept {
  const auto small = static_cast<std::uint8_t>(operation);
  switch (action) {
  case flight_action::life:
    return operation == small && is_valid(life_state{small}) ? name(life_state{small}) : std::string_view{};
  case flight_action::edge:
    return operation == small ? name_of(channel_kind{small}) : std::string_view{};
  case flight_action::collective:
    return operation == small ? name(collective_kind{small}) : std::string_view{};
  case flight_action::frame_sent:
  case flight_action::frame_received:
    return name(message_type{operation});
  case flight_action::fault: {
    const auto code = fault_from(operation);
    return code ? name(*code) : std::string_view{};
  }
  case flight_action::ended:
    return operation == 0 ? "exit code" : "signal";
  case flight_action::part:
    return operation == small ? name(start_part{small}) : std::string_view{};
  case flight_action::turn:
    return operation == small ? name(actor_kind{small}) : std::string_view{};
  case flight_action::none:
  case flight_action::device:
  case flight_action::step:
  case flight_action::plan_announce:
  case flight_action::plan_await:
  case flight_action::transfer:
  case flight_action::arrived:
  case flight_action::spawned:
  case flight_action::killed:
  case flight_action::verdict:
    return {};
  }
  return {};
}

} // namespace troupe::protocols
