#include "lent_company.hpp"
#include "protocols/serve/roles.hpp"

namespace troupe::protocols::testing {

request_id company::ask(const question& what) {
  const request_id id{next_++};
  auto& one = asked_[id];
  one.what = what;
  one.kv = room_id{next_room_++};
  one.picture = room_id{next_room_++};
  waiting_.push_back(id);
  admit();
  return id;
}

void company::cancel(request_id id) {
  auto& one = asked_.at(id);
  if (one.end != ending::none)
    return;
  one.end = ending::cancelled;
  std::erase(waiting_, id);
  if (one.started)
    leave(id, one);
}

void company::kill(cell_id id, duration back) {
  const auto next = generation{++generations_};
  const auto& cell = plan.cell(id);
  for (const auto rank : cell.ranks)
    renew(rank);
  std::erase_if(writes_, [&](const auto& each) { return cell.place_of(each.from).has_value(); });
  std::erase_if(works_, [&](const auto& each) { return cell.place_of(each.on).has_value(); });
  for (auto& [pair, way] : lanes_)
    if (cell.place_of(pair.first) || cell.place_of(pair.second))
      way.frames.clear();
  const lost news{.ranks = cell.ranks, .next = next, .cause = "killed"};
  for (const auto& rank : plan.ranks)
    if (!cell.place_of(rank.id))
      local(rank.id, 1ms, [this, news, self = rank.id] { on_lost(self, news); });
  later_.emplace(now + back, [this, cell_ranks = cell.ranks, next] {
    for (const auto rank : cell_ranks) {
      born_[rank] = next;
      start(rank);
    }
    for (const auto& rank : plan.ranks)
      if (std::find(cell_ranks.begin(), cell_ranks.end(), rank.id) == cell_ranks.end())
        local(rank.id, 1ms, [this, cell_ranks, self = rank.id] { on_gone(self, cell_ranks); });
  });
}

bool company::run_until(const std::function<bool()>& holds, duration at_most) {
  for (const auto until = now + at_most; now < until && !holds(); now += 1ms)
    step();
  return holds();
}

void company::admit() {
  std::erase_if(waiting_, [&](request_id id) {
    auto& one = asked_.at(id);
    const auto encode_cell = plan.cells_of(serve_role::encode)[one.what.encode];
    auto& credits = credits_[encode_cell];
    if (one.what.picture && credits.empty())
      return false;
    const auto prefill_cell = plan.cells_of(serve_role::prefill)[one.what.prefill];
    const auto decode_cell = plan.cells_of(serve_role::decode)[0];
    submit prompt{.request = id,
                  .prompt = std::vector<token_id>(20, 1),
                  .pictures = {},
                  .sampling = {},
                  .kv_room = one.kv,
                  .decode_cell = decode_cell,
                  .deadline_ms = one.what.deadline_ms};
    send(plan.front(), plan.cell(decode_cell).leader(),
         reserve_kv{.request = id,
                    .room = one.kv,
                    .prompt_tokens = 20,
                    .max_tokens = 12,
                    .sampling = {},
                    .end_tokens = {9},
                    .prefill_cell = prefill_cell,
                    .deadline_ms = one.what.deadline_ms,
                    .prompt_digest = 0});
    if (one.what.picture) {
      prompt.pictures = {{.room = one.picture,
                          .first_token = 2,
                          .tokens = 4,
                          .grid = {1, 4, 4},
                          .content_hash = 0,
                          .encode_cell = encode_cell}};
      one.pixels = credits.front().first;
      const auto born = credits.front().second;
      credits.pop_front();
      tenant_[{memory::pixels, plan.cell(encode_cell).leader(), one.pixels->slot.value}] = id;
      for (const auto rank : plan.cell(encode_cell).ranks) {
        ++one.pixel_writes;
        writes_.push_back({memory::pixels,
                           plan.front(),
                           rank,
                           one.picture,
                           id,
                           0,
                           {one.pixels->slot.value},
                           {born, now + 4s},
                           now + 1ms});
      }
      send(plan.front(), plan.cell(encode_cell).leader(),
           encode{.request = id,
                  .room = one.picture,
                  .pixels = *one.pixels,
                  .height = 32,
                  .width = 32,
                  .tokens = 4,
                  .content_hash = 0,
                  .prefill_cell = prefill_cell,
                  .deadline_ms = one.what.deadline_ms});
    }
    send(plan.front(), plan.cell(prefill_cell).leader(), prompt);
    one.started = true;
    return true;
  });
}

void company::leave(request_id id, asked_question& one) {
  one.left = true;
  const auto tell = [&](cell_id cell) { send(plan.front(), plan.cell(cell).leader(), protocols::cancel{id, {}}); };
  tell(plan.cells_of(serve_role::decode)[0]);
  tell(plan.cells_of(serve_role::prefill)[one.what.prefill]);
  if (one.what.picture) {
    tell(plan.cells_of(serve_role::encode)[one.what.encode]);
    return_pixels(id, one);
  }
}

void company::return_pixels(request_id id, const asked_question& one) {
  if (one.left && one.pixel_writes == 0)
    send(plan.front(), plan.cell(plan.cells_of(serve_role::encode)[one.what.encode]).leader(),
         pixels_returned{id, one.picture, one.pixels_settled});
}

void company::finish(request_id id, ending how) {
  auto& one = asked_.at(id);
  if (one.end != ending::none)
    return;
  one.end = how;
  if (how == ending::failed && one.started)
    leave(id, one);
}

void company::start(rank_id rank) {
  auto& self = renew(rank);
  const auto born = born_.contains(rank) ? born_.at(rank) : generation{1};
  born_[rank] = born;
  for (const auto id : plan.cells_on(rank)) {
    const auto& cell = plan.cell(id);
    const bool leads = cell.leader() == rank;
    if (cell.role == serve_role::encode && leads) {
      self.encode.emplace(plan, id,
                          encode_machine::options{.front = plan.front(),
                                                  .born = born,
                                                  .pixel_slots = sizes_.pixel_slots,
                                                  .row_slots = 1,
                                                  .row_elements = 6,
                                                  .row_slot_tokens = 8,
                                                  .room_deadline = 30s,
                                                  .rooms_max = 64});
      perform(rank, self.encode->start());
    }
    if (cell.role == serve_role::prefill) {
      std::map<cell_id, std::vector<std::uint32_t>> overlap;
      for (const auto decode : plan.cells_of(serve_role::decode))
        overlap[decode] = {0, 1};
      self.prefill_member.emplace(plan, id, rank,
                                  prefill_member_machine::options{.born = born,
                                                                  .row_elements = 6,
                                                                  .room_deadline = 30s,
                                                                  .rooms_max = 64,
                                                                  .kv_dtype = element_type::f32,
                                                                  .overlap = overlap});
      if (leads)
        self.prefill.emplace(plan, id,
                             prefill_leader_machine::options{.front = plan.front(),
                                                             .kv_blocks = sizes_.prefill_blocks,
                                                             .row_slots = sizes_.row_slots,
                                                             .requests_max = 64});
    }
    if (cell.role == serve_role::decode) {
      std::map<cell_id, std::vector<std::uint32_t>> overlap;
      for (const auto prefill : plan.cells_of(serve_role::prefill))
        overlap[prefill] = {0, 1};
      self.decode_member.emplace(plan, id, rank,
                                 decode_member_machine::options{
                                     .born = born, .rooms_max = 64, .kv_dtype = element_type::f32, .overlap = overlap});
      if (leads)
        self.decode.emplace(
            plan, id,
            decode_leader_machine::options{
                .front = plan.front(), .kv_blocks = sizes_.decode_blocks, .room_deadline = 30s, .requests_max = 64});
    }
  }
}

void company::send(rank_id from, rank_id to, serve_message what) {
  auto& way = lanes_[{from, to}];
  auto due = now + (from == to ? duration{1ms} : way.time);
  if (!way.frames.empty())
    due = std::max(due, way.frames.back().first);
  way.frames.emplace_back(due, std::move(what));
}

void company::step() {
  for (auto due = later_.begin(); due != later_.end() && due->first <= now; due = later_.begin()) {
    auto what = std::move(due->second);
    later_.erase(due);
    what();
  }
  for (const auto& rank : plan.ranks) {
    auto& self = ranks_.at(rank.id);
    if (now < self.paused_until)
      continue;
    for (auto& [pair, way] : lanes_)
      if (pair.second == rank.id)
        while (!way.frames.empty() && way.frames.front().first <= now) {
          const auto message = std::move(way.frames.front().second);
          way.frames.pop_front();
          take(rank.id, pair.first, message);
        }
    for (std::size_t left = self.inbox.size(); left > 0 && !self.inbox.empty(); --left) {
      auto next = std::move(self.inbox.front());
      self.inbox.pop_front();
      if (next.first <= now)
        next.second();
      else
        self.inbox.push_back(std::move(next));
    }
    work_on(rank.id);
    copy(rank.id);
    if (now - self.ticked >= 100ms) {
      self.ticked = now;
      tick(rank.id);
    }
  }
  admit();
}

void company::work_on(rank_id rank) {
  if (now < ranks_.at(rank).executor_stopped_until)
    return;
  std::vector<std::function<void()>> done;
  std::erase_if(works_, [&](work& one) {
    if (one.on != rank || one.until > now)
      return false;
    done.push_back(std::move(one.then));
    return true;
  });
  for (const auto& each : done)
    each();
}

void company::copy(rank_id rank) {
  if (now < ranks_.at(rank).engine_stopped_until)
    return;
  std::vector<write> due;
  std::erase_if(writes_, [&](write& one) {
    if (one.from != rank || one.begins > now)
      return false;
    due.push_back(std::move(one));
    return true;
  });
  for (auto& one : due) {
    auto outcome = check_lease(one.under, born_.at(one.to), now);
    if (outcome) {
      ++written_;
      const auto lender = plan.cell(plan.cells_on(one.to).front()).leader();
      for (const auto place : one.places)
        if (const auto tenant = tenant_.at({one.what, lender, place}); tenant != one.request)
          strays_.push_back("request " + std::to_string(one.request.value) + " wrote to " +
                            std::to_string(static_cast<int>(one.what)) + "/" + std::to_string(place) + " of rank " +
                            std::to_string(one.to.value) + ", which is lent to " + std::to_string(tenant.value) +
                            " at " + std::to_string(now.time_since_epoch() / 1ms) + " ms");
      local(one.to, 1ms, [this, one] { arrived_at(one); });
    } else {
      ++refused_;
    }
    local(rank, 1ms, [this, one, outcome] { delivered(one, outcome); });
  }
}

void company::arrived_at(const write& one) {
  auto& self = ranks_.at(one.to);
  if (one.what == memory::pixels) {
    const auto& cell = plan.cell(plan.cells_on(one.to).front());
    if (self.encode)
      perform(one.to, self.encode->on_pixels(one.room, *cell.place_of(one.to), now));
    else
      send(one.to, cell.leader(), arrived{request_id{}, one.room});
  } else if (one.what == memory::rows) {
    if (self.prefill_member)
      perform(one.to, self.prefill_member->on_rows_arrived(one.room, one.from, now));
  } else if (self.decode_member) {
    perform(one.to, self.decode_member->on_kv_arrived(one.room, one.from, now));
  }
}

void company::delivered(const write& one, const result<void>& outcome) {
  auto& self = ranks_.at(one.from);
  if (one.what == memory::pixels) {
    auto& of = asked_.at(one.request);
    --of.pixel_writes;
    return_pixels(one.request, of);
    if (!outcome)
      finish(one.request, ending::failed);
  } else if (one.what == memory::rows) {
    if (self.encode)
      perform(one.from, self.encode->on_written(one.room, one.part, outcome, now));
  } else if (self.prefill_member) {
    perform(one.from, self.prefill_member->on_written(one.room, one.part, outcome, now));
  }
}

void company::tick(rank_id rank) {
  auto& self = ranks_.at(rank);
  if (self.encode)
    perform(rank, self.encode->on_tick(now));
  if (self.prefill)
    perform(rank, self.prefill->on_tick(now));
  if (self.prefill_member)
    perform(rank, self.prefill_member->on_tick(now));
  if (self.decode)
    perform(rank, self.decode->on_tick(now));
  if (self.decode_member)
    perform(rank, self.decode_member->on_tick(now));
}

void company::on_lost(rank_id self, const lost& news) {
  auto& rank = ranks_.at(self);
  if (rank.encode)
    perform(self, rank.encode->on_lost(news));
  if (rank.prefill_member)
    perform(self, rank.prefill_member->on_lost(news));
  if (rank.decode_member)
    rank.decode_member->on_lost(news);
  if (self != plan.front())
    return;
  for (auto& [cell, credits] : credits_)
    if (plan.cell(cell).leader() == news.ranks.front())
      credits.clear();
  for (auto& [id, one] : asked_) {
    if (one.end != ending::none || !one.started)
      continue;
    for (const auto lost_rank : news.ranks) {
      const auto cell = plan.cells_on(lost_rank).front();
      if (cell == plan.cells_of(serve_role::decode)[0] ||
          cell == plan.cells_of(serve_role::prefill)[one.what.prefill] ||
          (one.what.picture && cell == plan.cells_of(serve_role::encode)[one.what.encode]))
        finish(id, ending::failed);
    }
  }
}

void company::on_gone(rank_id self, const std::vector<rank_id>& ranks) {
  auto& rank = ranks_.at(self);
  if (rank.prefill_member)
    perform(self, rank.prefill_member->on_writers_gone(ranks, false));
  if (rank.decode_member)
    perform(self, rank.decode_member->on_writers_gone(ranks, false));
}

void company::take(rank_id self, rank_id from, const serve_message& message) {
  auto& rank = ranks_.at(self);
  const auto place = [&] { return *plan.cell(plan.cells_on(from).front()).place_of(from); };
  std::visit(
      [&]<class Message>(const Message& m) {
        if constexpr (std::is_same_v<Message, submit>) {
          if (rank.prefill)
            perform(self, rank.prefill->on_submit(m, now));
        } else if constexpr (std::is_same_v<Message, encode>) {
          if (rank.encode)
            perform(self, rank.encode->on_encode(m, now));
        } else if constexpr (std::is_same_v<Message, reserve_kv>) {
          if (rank.decode)
            perform(self, rank.decode->on_reserve(m, now));
        } else if constexpr (std::is_same_v<Message, reserve_rows>) {
          if (rank.prefill_member)
            perform(self, rank.prefill_member->on_reserve_rows(m, now));
        } else if constexpr (std::is_same_v<Message, reserve_blocks>) {
          if (rank.decode_member)
            perform(self, rank.decode_member->on_reserve_blocks(m, now));
        } else if constexpr (std::is_same_v<Message, grant_rows>) {
          if (rank.encode)
            perform(self, rank.encode->on_grant(from, m, now));
        } else if constexpr (std::is_same_v<Message, grant_blocks>) {
          if (rank.prefill_member)
            perform(self, rank.prefill_member->on_grant(from, m, now));
        } else if constexpr (std::is_same_v<Message, grant_pixels>) {
          for (const auto& slot : m.slots)
            credits_[plan.cells_on(from).front()].emplace_back(slot, m.born);
        } else if constexpr (std::is_same_v<Message, arrived>) {
          if (rank.encode)
            perform(self, rank.encode->on_pixels(m.room, place(), now));
          else if (rank.prefill)
            perform(self, rank.prefill->on_arrived(m, place(), now));
          else if (rank.decode)
            perform(self, rank.decode->on_arrived(m, place(), now));
        } else if constexpr (std::is_same_v<Message, kv_sent>) {
          if (rank.prefill)
            perform(self, rank.prefill->on_kv_sent(m, place(), now));
        } else if constexpr (std::is_same_v<Message, handover>) {
          if (rank.decode)
            perform(self, rank.decode->on_handover(m, now));
        } else if constexpr (std::is_same_v<Message, release>) {
          if (rank.prefill_member)
            perform(self, rank.prefill_member->on_release(m.request, now));
          if (rank.decode_member)
            perform(self, rank.decode_member->on_release(m.request, now));
        } else if constexpr (std::is_same_v<Message, revoke_rows>) {
          if (rank.encode)
            perform(self, rank.encode->on_revoke(from, m));
        } else if constexpr (std::is_same_v<Message, revoke_blocks>) {
          if (rank.prefill_member)
            perform(self, rank.prefill_member->on_revoke(from, m));
        } else if constexpr (std::is_same_v<Message, pixels_returned>) {
          if (rank.encode)
            perform(self, rank.encode->on_pixels_returned(m));
        } else if constexpr (std::is_same_v<Message, rows_returned>) {
          if (rank.prefill_member)
            perform(self, rank.prefill_member->on_rows_returned(from, m));
        } else if constexpr (std::is_same_v<Message, blocks_returned>) {
          if (rank.decode_member)
            perform(self, rank.decode_member->on_returned(from, m));
        } else if constexpr (std::is_same_v<Message, rows_quiet>) {
          if (rank.prefill)
            perform(self, rank.prefill->on_quiet(m, place(), now));
        } else if constexpr (std::is_same_v<Message, blocks_quiet>) {
          if (rank.decode)
            perform(self, rank.decode->on_quiet(m, place(), now));
        } else if constexpr (std::is_same_v<Message, error>) {
          if (asked_.contains(m.request))
            finish(m.request, ending::failed);
        } else if constexpr (std::is_same_v<Message, protocols::cancel>) {
          if (rank.encode)
            perform(self, rank.encode->on_cancel(m.request, now));
          if (rank.prefill)
            perform(self, rank.prefill->on_cancel(m.request, now));
          if (rank.decode)
            perform(self, rank.decode->on_cancel(m.request, now));
        }
      },
      message);
}

void company::note_tenant(rank_id self, const send_message& what) {
  if (const auto* const rows = std::get_if<reserve_rows>(&what.body))
    tenant_[{memory::rows, self, rows->slot.slot.value}] = rows->request;
  if (const auto* const blocks = std::get_if<reserve_blocks>(&what.body))
    for (const auto block : blocks->blocks)
      tenant_[{memory::blocks, self, block.value}] = blocks->request;
}

void company::carry_out(rank_id self, const encode_machine::run_tower& what) {
  const auto room = what.item.room;
  works_.push_back({self, now + sizes_.tower, [this, self, room] {
                      if (auto& machine = ranks_.at(self).encode)
                        perform(self, machine->on_encoded(room, now));
                    }});
}

void company::carry_out(rank_id self, const encode_machine::write_rows& what) {
  const auto request =
      std::find_if(asked_.begin(), asked_.end(), [&](const auto& each) { return each.second.picture == what.room; });
  writes_.push_back({memory::rows,
                     self,
                     what.to,
                     what.room,
                     request->first,
                     what.part,
                     {what.target.slot.value},
                     what.under,
                     now + 1ms});
}

void company::carry_out(rank_id self, const room_vote& what) {
  local(self, 2ms, [this, self, what] {
    std::vector<admission> minimum;
    const auto& cell = plan.cell(plan.cells_on(self).front());
    for (const auto room : what.rooms) {
      auto least = admission::done;
      for (const auto rank : cell.ranks) {
        const auto& board = ranks_.at(rank).board;
        const auto said = board.find(room);
        least = std::min(least, said == board.end() ? admission::failed : said->second);
      }
      minimum.push_back(least);
    }
    auto& rank = ranks_.at(self);
    if (rank.prefill)
      perform(self, rank.prefill->on_vote(what.request, minimum, now));
    else if (rank.decode)
      perform(self, rank.decode->on_vote(what.request, minimum, now));
  });
}

void company::carry_out(rank_id self, const prefill_leader_machine::run_prefill& what) {
  works_.push_back({self, now + sizes_.forward, [this, self, what] {
                      for (const auto rank : plan.cell(plan.cells_on(self).front()).ranks)
                        local(rank, 1ms, [this, rank, what] {
                          auto& member = ranks_.at(rank).prefill_member;
                          if (member)
                            perform(rank, member->on_prefilled(what.work.request, what.work.kv_room,
                                                               what.work.decode_cell, what.blocks, now));
                        });
                      local(self, 1ms, [this, self, what] {
                        if (auto& leader = ranks_.at(self).prefill)
                          perform(self, leader->on_prefilled(what.work.request, 42, 0, 0, now));
                      });
                    }});
}

void company::carry_out(rank_id self, const prefill_member_machine::write_blocks& what) {
  std::vector<std::uint32_t> places;
  for (const auto block : what.target)
    places.push_back(block.value);
  const auto request =
      std::find_if(asked_.begin(), asked_.end(), [&](const auto& each) { return each.second.kv == what.room; });
  writes_.push_back({memory::blocks, self, plan.cell(what.decode_cell).ranks[what.part], what.room, request->first,
                     what.part, places, what.under, now + 1ms});
}

void company::carry_out(rank_id self, const decode_leader_machine::join_batch& what) {
  works_.push_back({self, now + sizes_.answer, [this, self, id = what.sequence.request] {
                      if (auto& machine = ranks_.at(self).decode)
                        perform(self, machine->on_left(id, now));
                      finish(id, ending::answered);
                    }});
}

void company::carry_out(rank_id self, const decode_leader_machine::leave_batch& what) {
  local(self, 1ms, [this, self, id = what.request] {
    if (auto& machine = ranks_.at(self).decode)
      perform(self, machine->on_left(id, now));
  });
}

} // namespace troupe::protocols::testing
