#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <tuple>

#include "protocols/serve/decode_machine.hpp"
#include "protocols/serve/encode_machine.hpp"
#include "protocols/serve/front_machine.hpp"
#include "protocols/serve/prefill_machine.hpp"
#include "protocols/serve/prompt_digest.hpp"
#include "protocols/serve/roles.hpp"
#include "protocols/serve/validate_message.hpp"
#include "serve_fixture.hpp"

namespace troupe::protocols {

using namespace std::chrono_literals;

/// All machines of a cluster, joined by the judge as ranks are: what one sends is judged and handed to the machines of
/// the roles that take it. Executors and transfers are played: each does or fails, in an order drawn from a seed.
class serve_world {
public:
  /// Who said what to whom: type, role and place of the sender, of the receiver, and whether both are of one cell.
  using passed = std::tuple<message_type, role_kind, bool, role_kind, bool, bool>;

  serve_world(cluster_plan plan, std::uint64_t seed) : plan_(std::move(plan)), random_(seed) {
    for (const auto& cell : plan_.cells)
      make(cell);
    for (auto& [cell, one] : encode_)
      perform(cell, one->start());
  }

  /// Asks questions, cancels some, lets things fail and time pass, until all have ended.
  void run(std::uint64_t questions) {
    for (std::uint64_t id = 1; id <= questions; ++id) {
      ask(request_id{id});
      for (auto steps = draw(60); steps > 0; --steps)
        step();
      if (draw(4) == 0)
        perform(front_cell(), front_->on_cancel(request_id{draw(id) + 1}, now_));
      if (draw(8) == 0)
        tick(200ms);
    }
    for (int rounds = 0; rounds < 200 && !settled(); ++rounds) {
      for (int steps = 0; !due_.empty(); ++steps, step())
        REQUIRE(steps < 1'000'000); // else machines answer each other for ever
      tick(400ms);
    }
  }

  bool settled() const { return due_.empty() && front_->in_flight() + front_->waiting() == 0; }
  const cluster_plan& plan() const noexcept { return plan_; }
  const std::set<passed>& heard() const noexcept { return heard_; }
  const std::vector<std::string>& refusals() const noexcept { return refusals_; }
  std::size_t answered() const noexcept { return answered_; }

  static passed as_passed(message_type type, const cell_plan& sender, rank_id from, const cell_plan& taker,
                          rank_id to) {
    return {type, sender.role, sender.leader() == from, taker.role, taker.leader() == to, sender.id == taker.id};
  }

private:
  using duration_ms = std::chrono::milliseconds;
  std::uint64_t draw(std::uint64_t below) { return random_() % below; }
  bool fails() { return draw(24) == 0; }
  result<void> outcome() { return fails() ? result<void>{fail(fault::transfer_failed, "drawn")} : result<void>{}; }
  /// Something that happens a little later, in no certain order.
  void later(std::function<void()> what) { due_.push_back(std::move(what)); }

  void step() {
    if (due_.empty())
      return;
    std::swap(due_[draw(std::min<std::uint64_t>(due_.size(), 8))], due_.front());
    const auto next = std::move(due_.front());
    due_.pop_front();
    next();
  }

  const cell_plan& cell_of(role_kind role, rank_id rank) const {
    return *std::ranges::find_if(
        plan_.cells, [&](const cell_plan& cell) { return cell.role == role && cell.place_of(rank).has_value(); });
  }
  cell_id front_cell() const { return plan_.cells_of(serve_role::front).front(); }

  void make(const cell_plan& cell) {
    const auto places_of = [&](role_kind role) {
      std::map<cell_id, std::vector<std::uint32_t>> places;
      for (const auto id : plan_.cells_of(role))
        for (std::uint32_t place = 0; place < plan_.cell(id).ranks.size(); ++place)
          places[id].push_back(place);
      return places;
    };
    if (cell.role == serve_role::front) {
      front_ = std::make_unique<front_machine>(plan_, front_machine::options{.in_flight_max = 8,
                                                                             .context_max = 64,
                                                                             .kv_tokens_max = 128,
                                                                             .row_slots = 4,
                                                                             .pixel_slots = 2,
                                                                             .staging_slots = 4,
                                                                             .picture_tokens_max = 16,
                                                                             .end_tokens = {9},
                                                                             .request_deadline = 10s,
                                                                             .ack_deadline = 2s,
                                                                             .quiet_after = 1s,
                                                                             .drain_deadline = 3s});
    } else if (cell.role == serve_role::encode) {
      encode_[cell.id] = std::make_unique<encode_machine>(plan_, cell.id,
                                                          encode_machine::options{.front = plan_.front(),
                                                                                  .pixel_slots = 2,
                                                                                  .row_slots = 2,
                                                                                  .row_elements = 8,
                                                                                  .row_slot_tokens = 16,
                                                                                  .room_deadline = 1s,
                                                                                  .rooms_max = 64});
    } else if (cell.role == serve_role::prefill) {
      prefill_[cell.id] = std::make_unique<prefill_leader_machine>(
          plan_, cell.id,
          prefill_leader_machine::options{.front = plan_.front(), .kv_blocks = 8, .row_slots = 4, .requests_max = 64});
      for (const auto rank : cell.ranks)
        prefill_members_[rank] = std::make_unique<prefill_member_machine>(
            plan_, cell.id, rank,
            prefill_member_machine::options{
                .row_elements = 8, .room_deadline = 1s, .rooms_max = 64, .overlap = places_of(serve_role::decode)});
    } else if (cell.role == serve_role::decode) {
      decode_[cell.id] = std::make_unique<decode_leader_machine>(
          plan_, cell.id,
          decode_leader_machine::options{
              .front = plan_.front(), .kv_blocks = 8, .room_deadline = 1s, .requests_max = 64});
      for (const auto rank : cell.ranks)
        decode_members_[rank] = std::make_unique<decode_member_machine>(
            plan_, cell.id, rank,
            decode_member_machine::options{.rooms_max = 64, .overlap = places_of(serve_role::prefill)});
    }
  }

  void ask(request_id id) {
    front_machine::request wanted{
        .id = id, .prompt = {1, 2, 3}, .pictures = {}, .sampling = {}, .max_tokens = 4, .asked = now_};
    if (!encode_.empty())
      for (auto pictures = draw(3); pictures > 0; --pictures) {
        wanted.pictures.push_back({.height = 32,
                                   .width = 64,
                                   .tokens = 4,
                                   .first_token = static_cast<std::uint32_t>(wanted.prompt.size()),
                                   .grid = {1, 2, 4}});
        wanted.prompt.insert(wanted.prompt.end(), {7, 7, 7, 7, 2});
      }
    if (auto taken = front_->on_request(std::move(wanted), now_))
      perform(front_cell(), *std::move(taken));
  }

  void tick(duration_ms by) {
    now_ += by;
    perform(front_cell(), front_->on_tick(now_));
    for (auto& [cell, one] : encode_)
      perform(cell, one->on_tick(now_));
    for (auto& [cell, one] : prefill_)
      perform(cell, one->on_tick(now_));
    for (auto& [cell, one] : decode_)
      perform(cell, one->on_tick(now_));
    for (auto& [rank, one] : prefill_members_)
      perform_at(rank, one->on_tick(now_));
    for (auto& [rank, one] : decode_members_)
      perform_at(rank, one->on_tick(now_));
  }

  // ---- messages ----

  void send(role_kind role, rank_id from, send_message what) {
    later([this, role, from, what = std::move(what)] { arrive(role, from, what); });
  }

  void arrive(role_kind role, rank_id from, const send_message& what) {
    const auto type = std::visit([](const auto& m) { return m.type; }, what.body);
    const bool same_rank = what.to == from;
    auto takers = validate_message(plan_, what.to, from, what.body, same_rank ? std::optional{role} : std::nullopt);
    if (!takers) {
      refusals_.push_back(to_string(takers.error()));
      return;
    }
    if (!same_rank && !joined(from, what.to))
      refusals_.push_back(std::string{name(type)} + ": no edge joins its ranks");
    while (!takers->empty()) {
      const auto& taker = cell_of(takers->take_first(), what.to);
      heard_.insert(as_passed(type, cell_of(role, from), from, taker, what.to));
      std::visit([&](const auto& m) { hear(taker, what.to, from, m); }, what.body);
    }
  }

  bool joined(rank_id a, rank_id b) const {
    return std::ranges::find(plan_.edges, edge_plan{std::min(a, b), std::max(a, b)}) != plan_.edges.end();
  }

  void hear(const cell_plan& at, rank_id, rank_id, const submit& m) {
    perform(at.id, prefill_.at(at.id)->on_submit(m, now_));
  }
  void hear(const cell_plan& at, rank_id, rank_id, const encode& m) {
    perform(at.id, encode_.at(at.id)->on_encode(m, now_));
  }
  void hear(const cell_plan& at, rank_id, rank_id, const reserve_kv& m) {
    perform(at.id, decode_.at(at.id)->on_reserve(m, now_));
  }
  void hear(const cell_plan& at, rank_id, rank_id from, const tokens& m) {
    perform(at.id, front_->on_tokens(from, m, now_));
  }
  void hear(const cell_plan&, rank_id, rank_id, const timing&) {}
  void hear(const cell_plan& at, rank_id, rank_id from, const error& m) {
    perform(at.id, front_->on_error(from, m, now_));
  }
  void hear(const cell_plan&, rank_id, rank_id from, const ack& m) { front_->on_ack(from, m); }
  void hear(const cell_plan& at, rank_id, rank_id from, const grant_pixels& m) {
    perform(at.id, front_->on_pixel_credits(from, m, now_));
  }
  void hear(const cell_plan&, rank_id self, rank_id, const reserve_rows& m) {
    perform_at(self, prefill_members_.at(self)->on_reserve_rows(m, now_));
  }
  void hear(const cell_plan&, rank_id self, rank_id, const reserve_blocks& m) {
    perform_at(self, decode_members_.at(self)->on_reserve_blocks(m, now_));
  }
  void hear(const cell_plan& at, rank_id, rank_id from, const grant_rows& m) {
    perform(at.id, encode_.at(at.id)->on_grant(from, m, now_));
  }
  void hear(const cell_plan&, rank_id self, rank_id from, const grant_blocks& m) {
    perform_at(self, prefill_members_.at(self)->on_grant(from, m, now_));
  }
  void hear(const cell_plan& at, rank_id, rank_id, const handover& m) {
    perform(at.id, decode_.at(at.id)->on_handover(m, now_));
  }
  void hear(const cell_plan& at, rank_id, rank_id from, const kv_sent& m) {
    perform(at.id, prefill_.at(at.id)->on_kv_sent(m, *at.place_of(from), now_));
  }
  void hear(const cell_plan& at, rank_id, rank_id from, const arrived& m) {
    const auto place = *at.place_of(from);
    if (at.role == serve_role::encode)
      perform(at.id, encode_.at(at.id)->on_pixels(m.room, place, now_));
    else if (at.role == serve_role::prefill)
      perform(at.id, prefill_.at(at.id)->on_arrived(m, place, now_));
    else
      perform(at.id, decode_.at(at.id)->on_arrived(m, place, now_));
  }
  void hear(const cell_plan& at, rank_id self, rank_id, const release& m) {
    if (at.role == serve_role::prefill)
      perform_at(self, prefill_members_.at(self)->on_release(m.request, now_));
    else
      perform_at(self, decode_members_.at(self)->on_release(m.request, now_));
  }
  void hear(const cell_plan& at, rank_id, rank_id from, const revoke_rows& m) {
    perform(at.id, encode_.at(at.id)->on_revoke(from, m));
  }
  void hear(const cell_plan&, rank_id self, rank_id from, const revoke_blocks& m) {
    perform_at(self, prefill_members_.at(self)->on_revoke(from, m));
  }
  void hear(const cell_plan& at, rank_id, rank_id, const pixels_returned& m) {
    perform(at.id, encode_.at(at.id)->on_pixels_returned(m));
  }
  void hear(const cell_plan&, rank_id self, rank_id from, const rows_returned& m) {
    perform_at(self, prefill_members_.at(self)->on_rows_returned(from, m));
  }
  void hear(const cell_plan&, rank_id self, rank_id from, const blocks_returned& m) {
    perform_at(self, decode_members_.at(self)->on_returned(from, m));
  }
  void hear(const cell_plan& at, rank_id, rank_id from, const rows_quiet& m) {
    perform(at.id, prefill_.at(at.id)->on_quiet(m, *at.place_of(from), now_));
  }
  void hear(const cell_plan& at, rank_id, rank_id from, const blocks_quiet& m) {
    perform(at.id, decode_.at(at.id)->on_quiet(m, *at.place_of(from), now_));
  }
  void hear(const cell_plan& at, rank_id, rank_id, const cancel& m) {
    if (at.role == serve_role::encode)
      perform(at.id, encode_.at(at.id)->on_cancel(m.request, now_));
    else if (at.role == serve_role::prefill)
      perform(at.id, prefill_.at(at.id)->on_cancel(m.request, now_));
    else
      perform(at.id, decode_.at(at.id)->on_cancel(m.request, now_));
  }

  // ---- effects ----

  template <class Effects>
  void perform(cell_id at, Effects what) {
    const auto& cell = plan_.cell(at);
    for (auto& effect : what)
      std::visit([&](auto& one) { act(cell, cell.leader(), one); }, effect);
  }
  void perform_at(rank_id self, prefill_member_machine::effects what) {
    for (auto& effect : what)
      std::visit([&](auto& one) { act(cell_of(serve_role::prefill, self), self, one); }, effect);
  }
  void perform_at(rank_id self, decode_member_machine::effects what) {
    for (auto& effect : what)
      std::visit([&](auto& one) { act(cell_of(serve_role::decode, self), self, one); }, effect);
  }

  void act(const cell_plan& cell, rank_id self, const send_message& what) { send(cell.role, self, what); }
  void act(const cell_plan&, rank_id, const front_machine::emit_token&) {}
  void act(const cell_plan&, rank_id, const front_machine::drained&) {}
  void act(const cell_plan&, rank_id, const front_machine::end_request& end) { answered_ += end.cause ? 0 : 1; }
  void act(const cell_plan&, rank_id, const room_admission&) {}
  void act(const cell_plan&, rank_id, const room_forgotten&) {}

  /// As `encode_actor` has it: the leader knows of its own pixels, a worker tells it.
  void act(const cell_plan&, rank_id, const front_machine::write_pixels& write) {
    const auto& cell = plan_.cell(write.encode_cell);
    for (std::uint32_t place = 0; place < cell.ranks.size(); ++place)
      later([this, &cell, place, room = write.room] {
        const auto how = fails() ? front_machine::write_end::failed : front_machine::write_end::delivered;
        if (how == front_machine::write_end::delivered && place == 0)
          perform(cell.id, encode_.at(cell.id)->on_pixels(room, 0, now_));
        else if (how == front_machine::write_end::delivered)
          send(serve_role::encode, cell.ranks[place], {cell.leader(), arrived{request_id{}, room}});
        perform(front_cell(), front_->on_pixels_written(room, how, {fault::transfer_failed, "drawn"}, now_));
      });
  }
  void act(const cell_plan& cell, rank_id self, const encode_machine::run_tower& tower) {
    later([this, &cell, self, tower] {
      perform(cell.id, encode_.at(cell.id)->on_encoded(tower.item.room, now_));
      send(cell.role, self, {plan_.front(), timing{tower.request, phase::encode, 0, 1}});
    });
  }
  void act(const cell_plan& cell, rank_id, const encode_machine::write_rows& write) {
    later([this, &cell, write] {
      const auto ended = outcome();
      if (ended)
        perform_at(write.to, prefill_members_.at(write.to)->on_rows_arrived(write.room, cell.leader(), now_));
      perform(cell.id, encode_.at(cell.id)->on_written(write.room, write.part, ended, now_));
    });
  }
  void act(const cell_plan& cell, rank_id, const room_vote& vote) {
    later([this, &cell, vote] {
      const std::vector<admission> minimum(vote.rooms.size(), fails() ? admission::failed : admission::done);
      if (cell.role == serve_role::prefill)
        perform(cell.id, prefill_.at(cell.id)->on_vote(vote.request, minimum, now_));
      else
        perform(cell.id, decode_.at(cell.id)->on_vote(vote.request, minimum, now_));
    });
  }
  void act(const cell_plan& cell, rank_id self, const prefill_leader_machine::run_prefill& run) {
    for (const auto rank : cell.ranks)
      later([this, rank, run] {
        perform_at(rank, prefill_members_.at(rank)->on_prefilled(run.work.request, run.work.kv_room,
                                                                 run.work.decode_cell, run.blocks, now_));
      });
    later([this, &cell, self, run] {
      const auto digest = prompt_digest(run.work.prompt);
      perform(cell.id, prefill_.at(cell.id)->on_prefilled(run.work.request, 5, 0, digest, now_));
      send(cell.role, self, {plan_.front(), timing{run.work.request, phase::prefill, 0, 1}});
    });
  }
  void act(const cell_plan&, rank_id, const prefill_leader_machine::stop_prefill&) {} // its last piece is under way
  void act(const cell_plan&, rank_id self, const prefill_member_machine::write_blocks& write) {
    later([this, self, write] {
      const auto to = plan_.cell(write.decode_cell).ranks[write.part];
      const auto ended = outcome();
      if (ended)
        perform_at(to, decode_members_.at(to)->on_kv_arrived(write.room, self, now_));
      perform_at(self, prefill_members_.at(self)->on_written(write.room, write.part, ended, now_));
    });
  }
  void act(const cell_plan& cell, rank_id self, const decode_leader_machine::join_batch& join) {
    later([this, &cell, self, join] {
      tokens answer;
      for (std::uint32_t index = 0; index < join.max_tokens; ++index)
        answer.events.push_back({join.sequence.request, index, 5,
                                 index + 1 == join.max_tokens ? finish_reason::length : finish_reason::none});
      send(cell.role, self, {plan_.front(), answer});
      later([this, &cell, join] { perform(cell.id, decode_.at(cell.id)->on_left(join.sequence.request, now_)); });
    });
  }
  void act(const cell_plan& cell, rank_id, const decode_leader_machine::leave_batch& leave) {
    later([this, &cell, leave] { perform(cell.id, decode_.at(cell.id)->on_left(leave.request, now_)); });
  }

  cluster_plan plan_;
  std::mt19937_64 random_;
  time_point now_ = at(1ms);
  std::unique_ptr<front_machine> front_;
  std::map<cell_id, std::unique_ptr<encode_machine>> encode_;
  std::map<cell_id, std::unique_ptr<prefill_leader_machine>> prefill_;
  std::map<rank_id, std::unique_ptr<prefill_member_machine>> prefill_members_;
  std::map<cell_id, std::unique_ptr<decode_leader_machine>> decode_;
  std::map<rank_id, std::unique_ptr<decode_member_machine>> decode_members_;
  std::deque<std::function<void()>> due_;
  std::set<passed> heard_;
  std::vector<std::string> refusals_;
  std::size_t answered_ = 0;
};

} // namespace troupe::protocols
