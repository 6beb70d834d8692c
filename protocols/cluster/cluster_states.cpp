#include "protocols/cluster/cluster_states.hpp"

#include "protocols/cluster/edge_machine.hpp"
#include "protocols/cluster/life_machine.hpp"
#include "protocols/cluster/liveness_judge.hpp"
#include "protocols/cluster/rank_life_machine.hpp"

namespace troupe::protocols {

void life_machine::show_states(state_view& view) const {
  view.show(life_table, {}, static_cast<std::size_t>(state_));
  view.follow<rank_id>(life_admission_table);
  for (const auto& rank : plan_.ranks) {
    const auto& record = ranks_[rank.id.value];
    view.show(life_rank_table, subject_of(rank.id), static_cast<std::size_t>(record.at));
    if (record.admits != admission::none)
      view.show(life_admission_table, subject_of(rank.id), static_cast<std::size_t>(record.admits));
  }
}

/// A rank on the way to a state stands before that state.
void rank_life_machine::show_states(state_view& view) const {
  const auto place = [](life_state at) -> std::size_t {
    const auto number = static_cast<std::size_t>(at);
    if (at == life_state::spawned)
      return 0;
    return at < life_state::ready ? 2 * number - 1 : number + 4;
  };
  const bool on_the_way = heading_ != at_ && at_ > life_state::spawned && at_ < life_state::ready;
  view.show(rank_life_table, {}, place(at_) + (on_the_way ? 1 : 0));
}

void parity_machine::show_states(state_view& view) const {
  for (std::uint32_t rank = 0; rank < statements_.size(); ++rank)
    view.show(parity_table, subject_of(rank_id{rank}), statements_[rank] ? 1 : 0);
}

void first_cause_machine::show_states(state_view& view) const {
  view.show(first_cause_table, {}, found_ ? 1 : 0);
}

void restart_machine::show_states(state_view& view) const {
  view.show(restart_table, {}, 0);
}

void liveness_judge::show_states(state_view& view) const {
  view.show(liveness_table, {}, 0);
}

void edge_machine::show_states(state_view& view) const {
  view.show(edge_table, {}, 0);
}

void epoch_fence::show_states(state_view& view) const {
  view.show(epoch_fence_table, {}, 0);
}

} // namespace troupe::protocols
