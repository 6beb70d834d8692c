#include "protocols/serve/serve_states.hpp"

#include "protocols/serve/decode_machine.hpp"
#include "protocols/serve/encode_machine.hpp"
#include "protocols/serve/front_machine.hpp"
#include "protocols/serve/ingest_machine.hpp"
#include "protocols/serve/prefill_machine.hpp"
#include "protocols/serve/session_machine.hpp"
#include "protocols/serve/step_machine.hpp"

namespace troupe::protocols {

namespace {

/// The stages of a leader stand in its table between "waiting" and "resting".
template <class Stage, class Ledger>
void show_requests(state_view& view, const state_table& table, const Ledger& ledger, std::size_t waiting, Stage last) {
  using standing = typename Ledger::standing;
  view.follow<request_id>(table);
  ledger.see_requests([&](request_id request, standing at) {
    if (at == standing::started)
      view.show(table, subject_of(request), waiting + 1 + static_cast<std::size_t>(ledger.started().at(request).at));
    else
      view.show(table, subject_of(request),
                at == standing::waiting ? waiting : waiting + 2 + static_cast<std::size_t>(last));
  });
}

} // namespace

void session_machine::show_states(state_view& view) const {
  view.follow<request_id>(session_table);
  for (const auto& [request, one] : questions_)
    view.show(session_table, subject_of(request), static_cast<std::size_t>(one.at) + 1);
}

void ingest_machine::show_states(state_view& view) const {
  using question_id = strong_id<ticket, std::uint64_t>;
  view.follow<question_id>(ingest_table);
  for (const auto& one : waiting_)
    view.show(ingest_table, subject_of(question_id{static_cast<std::uint64_t>(one.which)}), 1);
  for (std::uint64_t place = 0; place < readers_.size(); ++place) {
    const auto& one = readers_[place];
    if (one.reads)
      view.show(ingest_table, subject_of(question_id{static_cast<std::uint64_t>(one.reads->which)}), 2);
    view.show(ingest_reader_table, subject_of(strong_id<reader, std::uint64_t>{place}),
              !one.at_work ? 0
              : one.reads  ? 1
                           : 2);
  }
}

/// A request is followed by its client's id through all of its attempts.
void front_machine::show_states(state_view& view) const {
  view.follow<request_id>(front_request_table);
  for (const auto& one : waiting_)
    view.show(front_request_table, subject_of(one.what.id), 1);
  for (const auto& [attempt, one] : started_)
    view.show(front_request_table, subject_of(one.of.what.id), one.prefill ? 2 : 3);
  for (const auto* const cells : {&encode_cells_, &prefill_cells_, &decode_cells_})
    for (const auto& cell : *cells)
      view.show(front_cell_table, subject_of(cell.id), static_cast<std::size_t>(cell.is));
}

void encode_machine::show_states(state_view& view) const {
  view.follow<room_id>(encode_room_table);
  for (const auto& [id, room] : rooms_)
    view.show(encode_room_table, subject_of(id), static_cast<std::size_t>(room.at) + 1);
}

void prefill_leader_machine::show_states(state_view& view) const {
  show_requests(view, prefill_leader_table, ledger_, 1, stage::sending);
}

void prefill_member_machine::show_states(state_view& view) const {
  view.follow<room_id>(prefill_rows_table);
  view.follow<room_id>(prefill_kv_table);
  for (const auto& [id, room] : rows_)
    view.show(prefill_rows_table, subject_of(id), 1);
  for (const auto& [id, room] : kv_)
    view.show(prefill_kv_table, subject_of(id),
              room.reported ? 4
              : room.failed ? 3
                            : 1 + static_cast<std::size_t>(room.prefilled));
}

void decode_leader_machine::show_states(state_view& view) const {
  show_requests(view, decode_leader_table, ledger_, 2, stage::joined);
  for (const auto& [request, one] : early_)
    if (!ledger_.waits(request))
      view.show(decode_leader_table, subject_of(request), 1);
}

void decode_member_machine::show_states(state_view& view) const {
  view.follow<room_id>(decode_member_table);
  for (const auto& [id, room] : rooms_)
    view.show(decode_member_table, subject_of(id), room.missing.empty() ? 2 : 1);
}

void step_machine::show_states(state_view& view) const {
  view.show(step_table, {}, static_cast<std::size_t>(at_));
}

} // namespace troupe::protocols
