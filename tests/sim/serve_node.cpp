#include "tests/sim/serve_node.hpp"

#include "actors/periods.hpp"
#include "gpu/models/kv_writes.hpp"
#include "protocols/cluster/validate_epoch.hpp"
#include "protocols/serve/machine_options.hpp"
#include "protocols/serve/message_partners.hpp"
#include "protocols/serve/roles.hpp"
#include "protocols/serve/serve_message.hpp"
#include "protocols/serve/validate_message.hpp"
#include "runtime/base/overloaded.hpp"
#include "tests/sim/front_desk.hpp"
#include "tests/sim/links.hpp"
#include "tests/sim/reach.hpp"
#include "tests/sim/transfers.hpp"
#include "tests/sim/world.hpp"

namespace troupe::sim {

using namespace protocols;

namespace {

template <class Effects, class... Takers>
void carry_out(Effects& what, Takers... takers) {
  reach_count::mine().on_effects(what);
  const base::overloaded each{std::move(takers)...};
  for (auto& effect : what)
    std::visit(each, effect);
}

/// Follows whom slots are granted to, for the check of what lands there.
void note_holders(process& rank, const serve_message& body) {
  auto& memory = *rank.memory;
  if (const auto* const rows = std::get_if<grant_rows>(&body))
    memory.at(area::rows).holders.at(rows->slot.slot.value) = rows->room;
  if (const auto* const blocks = std::get_if<grant_blocks>(&body))
    for (const auto block : blocks->blocks)
      memory.at(area::kv_decode).holders.at(block.value) = blocks->room;
}

} // namespace

thread thread_of(role_kind role) {
  if (role == serve_role::front)
    return thread::front;
  if (role == serve_role::encode)
    return thread::encode;
  return role == serve_role::prefill ? thread::prefill : thread::decode;
}

serve_node::serve_node(process& of) : rank(of) {
  for (const auto id : rank.all.plan().cells_on(rank.self)) {
    const auto& cell = rank.all.plan().cell(id);
    if (cell.role == serve_role::front)
      front = std::make_unique<front_desk>(rank);
    else {
      const bool on_device = rank.all.cluster.spec.limits.batch_max % 2 == 0; // half of the runs
      executors[cell.role] = std::make_unique<executor>(rank, cell, on_device ? 1 : 0);
      if (cell.role == serve_role::encode)
        make_encode(cell);
      else if (cell.role == serve_role::prefill)
        make_prefill(cell);
      else
        make_decode(cell);
    }
  }
}

serve_node::~serve_node() = default;

void serve_node::make_encode(const cell_plan& cell) {
  auto& made = encode_.emplace();
  made.cell = &cell;
  if (cell.leader() == rank.self)
    made.leader.emplace(rank.all.plan(), cell.id,
                        encode_options(rank.all.plan(), rank.all.spec(), rank.all.cluster.facts.bounds(), rank.born));
  else
    made.member.emplace(cell);
}

void serve_node::make_prefill(const cell_plan& cell) {
  const auto& [spec, facts, plan] = rank.all.cluster;
  auto& made = prefill_.emplace();
  made.cell = &cell;
  made.layout = layout_in(rank.all.cluster, cell, *cell.place_of(rank.self));
  made.member.emplace(
      plan, cell.id, rank.self,
      prefill_member_options(spec, facts.bounds(), rank.born,
                             gpu::models::overlapping_cells(facts, made.layout, plan, serve_role::decode)));
  if (cell.leader() == rank.self)
    made.leader.emplace(plan, cell.id, prefill_leader_options(plan, spec, made.layout.blocks));
}

void serve_node::make_decode(const cell_plan& cell) {
  const auto& [spec, facts, plan] = rank.all.cluster;
  auto& made = decode_.emplace();
  made.cell = &cell;
  const auto layout = layout_in(rank.all.cluster, cell, *cell.place_of(rank.self));
  made.member.emplace(
      plan, cell.id, rank.self,
      decode_member_options(spec, rank.born, gpu::models::overlapping_cells(facts, layout, plan, serve_role::prefill)));
  if (cell.leader() == rank.self)
    made.leader.emplace(plan, cell.id, decode_leader_options(plan, spec, layout.blocks));
}

void serve_node::start() {
  if (front)
    front->start();
  if (encode_ && encode_->leader)
    rank.hand(thread::encode, [this] { perform(encode_->leader->start()); });
  for (auto& [role, steps] : executors)
    rank.hand(thread_of(role), [&of = *steps] { of.run(); });
  for (const auto role : {serve_role::encode, serve_role::prefill, serve_role::decode})
    if (executors.contains(role))
      rank.wake(actors::tick_period, [this, role] { tick(role); });
}

void serve_node::tick(role_kind role) {
  rank.hand(thread_of(role), [this, role] {
    const auto now = rank.now();
    if (role == serve_role::encode && encode_->leader)
      perform(encode_->leader->on_tick(now));
    if (role == serve_role::prefill) {
      perform(prefill_->member->on_tick(now));
      if (prefill_->leader)
        perform(prefill_->leader->on_tick(now));
    }
    if (role == serve_role::decode) {
      perform(decode_->member->on_tick(now));
      if (decode_->leader)
        perform(decode_->leader->on_tick(now));
    }
  });
  rank.wake(actors::tick_period, [this, role] { tick(role); });
}

// ---- messages -----------------------------------------------------------------------------------------------------

void serve_node::deliver(role_kind as, send_message what) {
  note_holders(rank, what.body);
  if (const auto* const sent = std::get_if<kv_sent>(&what.body); sent != nullptr && sent->code == 0)
    rank.all.judge.on_sent_word(rank, sent->room);
  if (what.to == rank.self)
    return take(rank.self, fence_of(as).current(), std::move(what.body), as);
  send(rank, what.to, fence_of(as).current(), what.body, false);
}

epoch_fence& serve_node::fence_of(role_kind role) {
  return fences_.try_emplace(role, rank.epoch).first->second;
}

void serve_node::take(rank_id from, cache_epoch sent_in, serve_message body, std::optional<role_kind> as) {
  auto& all = rank.all;
  auto takers = validate_message(all.plan(), rank.self, from, body, as);
  if (!takers) {
    all.judge.on_refused(rank, from, body, takers.error());
    return;
  }
  while (!takers->empty()) {
    const auto role = takers->take_first();
    reach_count::mine().on_message(all.plan(), std::visit([](const auto& message) { return message.type; }, body), from,
                                   rank.self, role);
    rank.hand(thread_of(role), [this, role, from, sent_in, copy = body]() mutable {
      std::visit(
          [&](auto& message) {
            const auto holds = validate_epoch(fence_of(role), rank.all.plan(), from, sent_in, message);
            if (holds)
              return hear(role, from, message);
            rank.all.past.note(
                [&] {
                  return rank.label + " drops " + std::string{name(message.type)} + " of " +
                         rank.all.plan().rank(from).label + ": " + to_string(holds.error());
                },
                13, rank.self.value, from.value);
          },
          copy);
    });
  }
}

/// As the handlers of the actors: which event of which machine a message is.
template <class Message>
void serve_node::hear(role_kind at, rank_id from, Message& body) {
  const auto now = rank.now();
  if (at == serve_role::front)
    return front->hear(from, serve_message{std::move(body)});
  if constexpr (std::is_same_v<Message, encode>)
    perform(encode_->leader->on_encode(body, now));
  else if constexpr (std::is_same_v<Message, grant_rows>)
    perform(encode_->leader->on_grant(from, body, now));
  else if constexpr (std::is_same_v<Message, pixels_returned>)
    perform(encode_->leader->on_pixels_returned(body));
  else if constexpr (std::is_same_v<Message, revoke_rows>)
    perform(encode_->leader->on_revoke(from, body));
  else if constexpr (std::is_same_v<Message, submit>)
    perform(prefill_->leader->on_submit(body, now));
  else if constexpr (std::is_same_v<Message, reserve_rows>)
    perform(prefill_->member->on_reserve_rows(body, now));
  else if constexpr (std::is_same_v<Message, rows_returned>)
    perform(prefill_->member->on_rows_returned(from, body));
  else if constexpr (std::is_same_v<Message, revoke_blocks>)
    perform(prefill_->member->on_revoke(from, body));
  else if constexpr (std::is_same_v<Message, grant_blocks>)
    perform(prefill_->member->on_grant(from, body, now));
  else if constexpr (std::is_same_v<Message, rows_quiet>) {
    if (const auto place = prefill_->cell->place_of(from))
      perform(prefill_->leader->on_quiet(body, *place, now));
  } else if constexpr (std::is_same_v<Message, kv_sent>) {
    if (const auto place = prefill_->cell->place_of(from))
      perform(prefill_->leader->on_kv_sent(body, *place, now));
  } else if constexpr (std::is_same_v<Message, reserve_kv>)
    perform(decode_->leader->on_reserve(body, now));
  else if constexpr (std::is_same_v<Message, handover>) {
    rank.all.service.on_handover(body.request);
    perform(decode_->leader->on_handover(body, now));
  } else if constexpr (std::is_same_v<Message, reserve_blocks>)
    perform(decode_->member->on_reserve_blocks(body, now));
  else if constexpr (std::is_same_v<Message, blocks_returned>)
    perform(decode_->member->on_returned(from, body));
  else if constexpr (std::is_same_v<Message, blocks_quiet>) {
    if (const auto place = decode_->cell->place_of(from))
      perform(decode_->leader->on_quiet(body, *place, now));
  } else if constexpr (std::is_same_v<Message, arrived>) {
    if (at == serve_role::encode && encode_->cell->place_of(from))
      perform(encode_->leader->on_pixels(body.room, *encode_->cell->place_of(from), now));
    else if (at == serve_role::prefill && prefill_->cell->place_of(from))
      perform(prefill_->leader->on_arrived(body, *prefill_->cell->place_of(from), now));
    else if (at == serve_role::decode && decode_->cell->place_of(from)) {
      rank.all.service.on_arrived(body.request, *decode_->cell->place_of(from));
      perform(decode_->leader->on_arrived(body, *decode_->cell->place_of(from), now));
    }
  } else if constexpr (std::is_same_v<Message, release>) {
    if (at == serve_role::prefill)
      perform(prefill_->member->on_release(body.request, now));
    else
      perform(decode_->member->on_release(body.request, now));
  } else if constexpr (std::is_same_v<Message, cancel>) {
    if (at == serve_role::encode)
      perform(encode_->leader->on_cancel(body.request, now));
    else if (at == serve_role::prefill)
      perform(prefill_->leader->on_cancel(body.request, now));
    else
      perform(decode_->leader->on_cancel(body.request, now));
  } else
    rank.all.judge.on_unheard(rank, from, name(Message::type));
}

void serve_node::lose(const lost& news) {
  for (const auto id : rank.all.plan().cells_on(rank.self)) {
    const auto role = rank.all.plan().cell(id).role;
    rank.hand(thread_of(role), [this, role, news] { tell_lost(role, news); });
  }
}

void serve_node::tell_lost(role_kind role, const lost& news) {
  fence_of(role).on_lost(news);
  if (role == serve_role::front)
    front->lose(news);
  if (role == serve_role::encode && encode_->leader)
    perform(encode_->leader->on_lost(news));
  if (role == serve_role::prefill)
    perform(prefill_->member->on_lost(news));
  if (role == serve_role::decode)
    decode_->member->on_lost(news);
}

void serve_node::writers_gone(const std::vector<rank_id>& ranks, bool bytes_may_arrive) {
  if (prefill_)
    rank.hand(thread::prefill, [=, this] { perform(prefill_->member->on_writers_gone(ranks, bytes_may_arrive)); });
  if (decode_)
    rank.hand(thread::decode, [=, this] { perform(decode_->member->on_writers_gone(ranks, bytes_may_arrive)); });
}

// ---- transfers ----------------------------------------------------------------------------------------------------

void serve_node::written(transfer_kind kind, room_id room, std::uint32_t part, result<void> outcome) {
  if (kind == serve_transfer::pixels)
    return rank.hand(thread::front, [=, this] { front->written(room, outcome); });
  if (kind == serve_transfer::rows)
    return rank.hand(thread::encode,
                     [=, this] { perform(encode_->leader->on_written(room, part, outcome, rank.now())); });
  rank.hand(thread::prefill, [=, this] { perform(prefill_->member->on_written(room, part, outcome, rank.now())); });
}

void serve_node::arrived_write(transfer_kind kind, rank_id from, room_id room) {
  reach_count::mine().on_write(from, rank.self, kind);
  if (kind == serve_transfer::pixels)
    return rank.hand(thread::encode, [=, this] {
      if (encode_->leader)
        perform(encode_->leader->on_pixels(room, 0, rank.now()));
      else
        perform(encode_->member->on_pixels(room));
    });
  if (kind == serve_transfer::rows)
    return rank.hand(thread::prefill,
                     [=, this] { perform(prefill_->member->on_rows_arrived(room, from, rank.now())); });
  rank.hand(thread::decode, [=, this] { perform(decode_->member->on_kv_arrived(room, from, rank.now())); });
}

void serve_node::write(const encode_machine::write_rows& what) {
  auto& rows = rank.memory->at(area::tower);
  auto posted = post(rank, {.kind = serve_transfer::rows,
                            .room = what.room,
                            .part = what.part,
                            .to = what.to,
                            .source = area::tower,
                            .target = area::rows,
                            .pieces = {{.source_offset = what.rows_at.value * rows.slot_bytes,
                                        .target_offset = what.target.slot.value * rows.slot_bytes,
                                        .bytes = what.rows * rows.unit_bytes}},
                            .lease = what.under,
                            .deadline = rank.now() + rank.all.ms(rank.all.spec().timeouts.transfer_ms)});
  if (!posted)
    written(serve_transfer::rows, what.room, what.part, std::move(posted));
}

void serve_node::write(const prefill_member_machine::write_blocks& what) {
  const auto& receivers = rank.all.plan().cell(what.decode_cell);
  const auto target = layout_in(rank.all.cluster, receivers, what.part);
  auto posted = post(rank, {.kind = serve_transfer::kv,
                            .room = what.room,
                            .part = what.part,
                            .to = receivers.ranks[what.part],
                            .source = area::kv_prefill,
                            .target = area::kv_decode,
                            .pieces = gpu::models::kv_pieces(prefill_->layout, what.blocks, target, what.target),
                            .lease = what.under,
                            .deadline = rank.now() + rank.all.ms(rank.all.spec().timeouts.transfer_ms)});
  if (!posted)
    written(serve_transfer::kv, what.room, what.part, std::move(posted));
}

// ---- effects ------------------------------------------------------------------------------------------------------

void serve_node::perform(encode_machine::effects what) {
  carry_out(
      what, [this](send_message& message) { deliver(serve_role::encode, std::move(message)); },
      [this](const encode_machine::run_tower& tower) {
        rank.all.service.on_work(rank, tower.request, "a picture");
        executors.at(serve_role::encode)->order(tower);
      },
      [this](const encode_machine::write_rows& rows) { write(rows); });
}

void serve_node::perform(encode_member_machine::effects what) {
  carry_out(what, [this](send_message& message) { deliver(serve_role::encode, std::move(message)); });
}

void serve_node::perform(prefill_leader_machine::effects what) {
  carry_out(
      what, [this](send_message& message) { deliver(serve_role::prefill, std::move(message)); },
      [this](auto& order) { executors.at(serve_role::prefill)->order(std::move(order)); });
}

void serve_node::perform(prefill_member_machine::effects what) {
  carry_out(
      what, [this](send_message& message) { deliver(serve_role::prefill, std::move(message)); },
      [this](const room_admission& known) { executors.at(serve_role::prefill)->set(known); },
      [this](const room_forgotten& gone) { executors.at(serve_role::prefill)->forget(gone); },
      [this](const prefill_member_machine::write_blocks& blocks) { write(blocks); });
}

void serve_node::perform(decode_leader_machine::effects what) {
  carry_out(
      what, [this](send_message& message) { deliver(serve_role::decode, std::move(message)); },
      [this](auto& order) { executors.at(serve_role::decode)->order(std::move(order)); });
}

void serve_node::perform(decode_member_machine::effects what) {
  carry_out(
      what, [this](send_message& message) { deliver(serve_role::decode, std::move(message)); },
      [this](const room_admission& known) { executors.at(serve_role::decode)->set(known); },
      [this](const room_forgotten& gone) { executors.at(serve_role::decode)->forget(gone); });
}

// ---- what executors tell ------------------------------------------------------------------------------------------

void serve_node::encoded(room_id room) {
  rank.hand(thread::encode, [=, this] {
    if (encode_->leader)
      perform(encode_->leader->on_encoded(room, rank.now()));
  });
}

void serve_node::prefilled(const prefill_step& step) {
  rank.hand(thread::prefill, [=, this] {
    perform(prefill_->member->on_prefilled(step.request, step.kv_room, step.decode_cell, step.blocks, rank.now()));
  });
}

void serve_node::stepped(role_kind role, step_machine::effects what) {
  reach_count::mine().on_effects(what);
  for (auto& effect : what)
    rank.hand(thread_of(role), [this, role, effect = std::move(effect)] { hear_step(role, effect); });
}

/// Once in a while that of a prompt that nobody has asked for.
std::uint64_t serve_node::digest_of(const step_machine::first_token& of) {
  if (!rank.all.dice.chance(rank.all.sky.wrong))
    return of.digest;
  rank.all.service.on_wrong_prompt(of.request);
  rank.all.past.note([&] { return rank.label + " has prefilled another prompt"; }, 26, of.request.value);
  return of.digest ^ 1;
}

void serve_node::hear_step(role_kind role, const step_machine::effect& effect) {
  const auto now = rank.now();
  const bool prefills = role == serve_role::prefill;
  if (const auto* const voted = std::get_if<step_machine::voted>(&effect)) {
    if (prefills)
      perform(prefill_->leader->on_vote(voted->request, voted->minimum, now));
    else
      perform(decode_->leader->on_vote(voted->request, voted->minimum, now));
  } else if (const auto* const first = std::get_if<step_machine::first_token>(&effect))
    perform(prefill_->leader->on_prefilled(first->request, first->id, first->position_delta, digest_of(*first),
                                           first->ended, first->logprobs));
  else if (const auto* const left = std::get_if<step_machine::left_batch>(&effect))
    perform(decode_->leader->on_left(left->request, now));
  else if (const auto* const given_up = std::get_if<step_machine::given_up>(&effect)) {
    if (prefills)
      perform(prefill_->leader->on_given_up(given_up->request, given_up->cause, given_up->ran_whole, now));
    else
      perform(decode_->leader->on_given_up(given_up->request, given_up->cause));
  }
}

void serve_node::hand_tokens(const tokens& step) {
  for (const auto& event : step.events)
    rank.all.service.on_token(event.request);
  auto batch = step;
  if (rank.all.plan().front() == rank.self)
    return take(rank.self, cache_epoch{}, std::move(batch), serve_role::decode);
  send(rank, rank.all.plan().front(), cache_epoch{}, std::move(batch), true);
}

std::string serve_node::held() const {
  std::string words;
  const auto add = [&](std::size_t count, const char* what) {
    if (count > 0)
      words += (words.empty() ? "" : ", ") + std::to_string(count) + " " + what;
  };
  if (front)
    front->count_held(add);
  if (encode_ && encode_->leader)
    add(encode_->leader->rooms(), "rooms of encode");
  if (prefill_ && prefill_->leader)
    add(prefill_->leader->requests(), "requests of prefill");
  if (decode_ && decode_->leader)
    add(decode_->leader->requests(), "requests of decode");
  for (const auto& [role, steps] : executors)
    add(steps->idle() ? 0 : 1, "executor at work");
  add(encode_ && encode_->leader && !encode_->leader->at_rest() ? 1 : 0, "encode leader that keeps memory");
  add(prefill_ && prefill_->leader && !prefill_->leader->at_rest() ? 1 : 0, "prefill leader that keeps memory");
  add(prefill_ && !prefill_->member->at_rest() ? 1 : 0, "prefill member that keeps rooms");
  add(decode_ && decode_->leader && !decode_->leader->at_rest() ? 1 : 0, "decode leader that keeps memory");
  add(decode_ && !decode_->member->at_rest() ? 1 : 0, "decode member that keeps rooms");
  return words;
}

} // namespace troupe::sim
