#include "protocols/transfers/transfer_states.hpp"

#include "protocols/transfers/block_pool_machine.hpp"
#include "protocols/transfers/lent_rooms.hpp"
#include "protocols/transfers/slot_pool_machine.hpp"

namespace troupe::protocols {

void slot_pool_machine::show_states(state_view& view) const {
  view.show(slot_pool_table, {}, 0);
}

void block_pool_machine::show_states(state_view& view) const {
  view.show(block_pool_table, {}, 0);
}

void lent_rooms::show_states(state_view& view) const {
  using writer_id = strong_id<writer, std::uint64_t>;
  view.follow<writer_id>(lent_rooms_table);
  for (const auto& [id, room] : rooms_)
    for (const auto& [rank, one] : room.writers)
      view.show(lent_rooms_table, subject_of(writer_id{(id.value << 20) | rank.value}),
                static_cast<std::size_t>(one.at) + 1);
}

} // namespace troupe::protocols
