#include <algorithm>

#include "actors/rank_context.hpp"
#include "protocols/cluster/program.hpp"

namespace troupe::actors {

using namespace protocols;

std::uint64_t cookie_of(transfer_kind what, room_id room, std::uint32_t part) noexcept {
  return std::uint64_t{part} << 50 | completion_data(what, room);
}

std::function<void(rank_id to, std::uint64_t completion_data, std::uint64_t bytes)>
count_transfers(const rank_context& rank) {
  return [&counted = *rank.counted](rank_id to, std::uint64_t data, std::uint64_t bytes) {
    const auto kind = static_cast<std::uint16_t>(from_completion_data(data).first);
    counted.add_about(metric_number{static_cast<std::uint16_t>(shared_metric::transfer_bytes.value + kind - 1)}, to,
                      bytes);
  };
}

/// A role that is not there yet has granted nothing and posted nothing: what the data plane tells of it is of nobody.
fabric::transfer_events transfer_events_of(const rank_context& rank) {
  const auto actor_of = [&rank](transfer_kind what, role_kind transfer_row::*end) -> const caf::actor* {
    const auto& rows = rank.plan.of->transfers;
    const auto row = std::ranges::find(rows, what, &transfer_row::kind);
    return row == rows.end() ? nullptr : rank.roles->find((*row).*end);
  };
  return {.on_delivered =
              [actor_of](std::uint64_t cookie, result<void> outcome) {
                const auto [what, room] = from_completion_data(cookie & ((std::uint64_t{1} << 50) - 1));
                if (const auto* const actor = actor_of(what, &transfer_row::sender))
                  caf::anon_send(*actor, write_completed{what, room, static_cast<std::uint32_t>(cookie >> 50),
                                                         std::move(outcome)});
              },
          .on_arrived =
              [actor_of](rank_id from, std::uint64_t data) {
                const auto [what, room] = from_completion_data(data);
                if (const auto* const actor = actor_of(what, &transfer_row::receiver))
                  caf::anon_send(*actor, write_arrived{what, from, room});
              },
          // Each write to it fails with its own event, and its control lane says the same to the rank.
          .on_peer_gone = [](rank_id, const failure&) {}};
}

} // namespace troupe::actors
