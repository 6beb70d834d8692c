#include "tests/sim/rank_main.hpp"

#include <algorithm>
#include <array>

#include "protocols/cluster/program.hpp"
#include "tests/sim/front_desk.hpp"
#include "tests/sim/links.hpp"
#include "tests/sim/serve_node.hpp"
#include "tests/sim/supervisor.hpp"
#include "tests/sim/transfers.hpp"
#include "tests/sim/world.hpp"

namespace troupe::sim {

using namespace protocols;

namespace {

constexpr int exit_parity = 73;
constexpr int exit_executor = 74;
constexpr int exit_watchdog = 75;

int exit_code_of(fault code) noexcept {
  if (code == fault::parity_mismatch)
    return exit_parity;
  return code == fault::peer_gone || code == fault::cell_gone ? exit_peer_gone : exit_executor;
}

message_type type_of(const life_order& order) {
  return std::visit([](const auto& each) { return each.type; }, order);
}

std::vector<rank_id> peers_of(const process& rank) {
  std::vector<rank_id> peers;
  for (const auto& edge : rank.all.plan().edges) {
    if (edge.connects == rank.self)
      peers.push_back(edge.accepts);
    if (edge.accepts == rank.self)
      peers.push_back(edge.connects);
  }
  return peers;
}

} // namespace

rank_main::rank_main(process& rank)
    : rank_(rank), life_(rank.self),
      edges_(rank.all.plan(), rank.self, rank.born, rank.epoch, recovery_deadlines{rank.all.spec().timeouts}) {}

void rank_main::start() {
  life_.on_launch(rank_.all.plan());
  const auto peers = peers_of(rank_);
  for (const auto peer : peers)
    seen_.push_back({.rank = peer, .linked = false, .born = {}, .heard = 0});
  watchdog_.emplace(rank_.all.spec().timeouts, 1, peers);
  if (!life_.on_reached(life_state::joined))
    return;
  send(joined{.at = {.rank = rank_.self,
                     .born = rank_.born,
                     .unix_path = "/simulated/" + std::to_string(rank_.self.value),
                     .tcp_address = {},
                     .fabric_address = {}},
              .pid = 1000 + rank_.self.value});
  beat();
}

void rank_main::send(life_report what) {
  rank_.all.boss->hear(rank_, std::move(what));
}

// ---- the loop -----------------------------------------------------------------------------------------------------

void rank_main::hear(life_order what) {
  orders_.push_back(std::move(what));
  turn();
}

void rank_main::on_peer_gone(rank_id peer, generation born, failure cause) {
  if (!edges_.is_news(peer, born))
    return;
  mail_.gone.emplace_back(peer, std::move(cause));
  rank_.hand(thread::main, [this] { turn(); });
}

void rank_main::on_trouble(const failure& cause, const std::string& where) {
  mail_.trouble.note({cause, where, rank_.now()});
  rank_.hand(thread::main, [this] { turn(); });
}

void rank_main::on_drained() {
  mail_.drained = true;
  rank_.hand(thread::main, [this] { turn(); });
}

void rank_main::take_mail() {
  for (auto& of_peer : life_.on_inbox(std::exchange(mail_, {}), rank_.now()))
    send(std::move(of_peer));
}

void rank_main::turn() {
  if (in_turn_)
    return;
  in_turn_ = true;
  while (rank_.running && !work_) {
    take_mail();
    if (life_.may_leave()) {
      if (life_.on_left())
        rank_.exit({.how = rank_end::kind::exited, .number = 0, .words = "done"});
      break;
    }
    if (const auto trouble = life_.must_leave(rank_.now())) {
      leave_failed(*trouble, life_.where_of(*trouble));
      break;
    }
    if (orders_.empty()) {
      if (const auto nap = life_.nap(1h); nap < 1h)
        rank_.wake(nap + 1ms, [this] { turn(); });
      break;
    }
    const auto next = std::move(orders_.front());
    orders_.pop_front();
    obey(next);
  }
  in_turn_ = false;
}

void rank_main::leave_failed(const failure& cause, const std::string& where) {
  auto words = life_.on_failed(cause, where, edges_.unreached());
  send(std::move(words.said));
  rank_.exit({.how = rank_end::kind::exited,
              .number = words.of_another ? exit_peer_gone : exit_code_of(cause.code),
              .words = "failed"});
}

// ---- orders -------------------------------------------------------------------------------------------------------

void rank_main::obey(const life_order& what) {
  const auto must = [this](const result<void>& done) {
    if (!done)
      leave_failed(done.error(), life_.where_of(done.error()));
    return done.has_value();
  };
  if (const auto* const everybody = std::get_if<roster>(&what)) {
    if (!must(life_.on_roster()))
      return;
    roster_ = *everybody;
    send(agree{{{"build", "simulated"}, {"model", rank_.all.torn == rank_.self ? "torn" : "whole"}}});
  } else if (const auto* const judged = std::get_if<verdict>(&what))
    must(life_.on_verdict(*judged));
  else if (const auto* const next = std::get_if<proceed>(&what)) {
    if (must(life_.on_proceed(*next)))
      obey_proceed(*next);
  } else if (const auto* const end = std::get_if<shutdown>(&what))
    obey_shutdown(*end);
  else if (const auto* const news = std::get_if<lost>(&what))
    lose(*news);
  else if (const auto* const order = std::get_if<rejoin>(&what))
    obey_rejoin(*order);
  else if (const auto* const again = std::get_if<recovered>(&what); rank_.serves && rank_.serves->front)
    rank_.hand(thread::front, [this, news = *again] { rank_.serves->front->recover(news); });
}

void rank_main::obey_shutdown(const shutdown& order) {
  const auto has_served = life_.on_shutdown(order);
  if (!has_served)
    return leave_failed(has_served.error(), life_.where_of(has_served.error()));
  if (*has_served && rank_.serves->front)
    rank_.hand(thread::front, [this] { rank_.serves->front->drain(); });
}

void rank_main::obey_proceed(const proceed& order) {
  if (order.next == life_state::grouped)
    return begin_grouping();
  if (order.next == life_state::ready)
    rank_.serves->start();
  reached(order.next);
}

void rank_main::reached(life_state here) {
  auto said = life_.on_reached(here);
  if (!said)
    return leave_failed(said.error(), life_.where_of(said.error()));
  rank_.all.past.note([&] { return rank_.label + " is " + std::string{name(here)}; }, 30, rank_.self.value,
                      static_cast<int>(here));
  if (*said)
    send(**said);
}

void rank_main::lose(const lost& news) {
  heard_of_ = std::max(heard_of_, news.next);
  if (const auto good = edges_.on_lost(news); !good)
    return leave_failed(good.error(), life_.where_of(good.error()));
  std::erase_if(lanes_, [&](const auto& each) { return edges_.is_dropped(each.first, news); });
  for (const auto rank : news.ranks)
    for (const bool tokens : {false, true})
      if (const auto found = rank_.edges.find({rank, tokens});
          found != rank_.edges.end() && (news.next == generation{} || found->second.ends.peer_born < news.next))
        rank_.edges.erase(found);
  if (rank_.serves)
    rank_.serves->lose(news);
}

void rank_main::obey_rejoin(const rejoin& order) {
  take_mail();
  rank_.all.judge.on_admits(rank_, order.ranks.front().born, heard_of_);
  const auto begun = life_.on_rejoin(order);
  if (!begun)
    return leave_failed(begun.error(), life_.where_of(begun.error()));
  send(*begun);
  auto admission = edges_.on_rejoin(order, rank_.now());
  if (!admission)
    return leave_failed(admission.error(), life_.where_of(admission.error()));
  for (const auto& peer : order.ranks)
    roster_.ranks[peer.rank.value] = peer;
  work_.emplace();
  work_->takes = admission->lanes;
  work_->attaches.assign(admission->ranks.begin(), admission->ranks.end());
  work_->newcomers = admission->ranks;
  work_->deadline = admission->by;
  work_->rejoins = order;
  ++works_;
  work_on_edges();
}

// ---- edges --------------------------------------------------------------------------------------------------------

void rank_main::begin_grouping() {
  if (const auto good = edges_.on_roster(roster_); !good)
    return leave_failed(good.error(), life_.where_of(good.error()));
  work_.emplace();
  for (const auto& which : edges_.planned()) {
    if (edges_.begins(which))
      work_->connects.push_back(which);
    if (which.channel != channel_kind::group)
      work_->takes.push_back(which);
  }
  for (const auto peer : peers_of(rank_))
    work_->attaches.push_back(peer);
  work_->deadline = rank_.now() + rank_.all.ms(rank_.all.spec().timeouts.start_ms);
  ++works_;
  work_on_edges();
}

/// Whether an order has come that ends a rejoin; others are obeyed beside it.
bool rank_main::superseded() {
  while (!orders_.empty() && rank_.running) {
    if (supersedes_rejoin(type_of(orders_.front())))
      return true;
    const auto next = std::move(orders_.front());
    orders_.pop_front();
    obey(next);
  }
  return false;
}

void rank_main::work_on_edges() {
  if (!work_ || !rank_.running)
    return;
  auto& work = *work_;
  if (work.rejoins && superseded())
    return finish_edges(protocols::fail(fault::cancelled));
  if (work.connected < work.connects.size()) {
    if (!std::exchange(work.asked, true))
      connect(work.connects[work.connected]);
    return;
  }
  while (work.taken < work.takes.size() && lanes_.contains(work.takes[work.taken]))
    adopt(work.takes[work.taken++]);
  if (work.taken < work.takes.size()) {
    if (rank_.now() >= work.deadline)
      return fail_edges(work.takes[work.taken].peer, {fault::timeout, "no edge"});
    return rank_.wake(10ms, [this, which = works_] {
      if (which == works_)
        work_on_edges();
    });
  }
  if (work.rejoins && !std::exchange(work.told_gone, true))
    rank_.serves->writers_gone({work.newcomers.begin(), work.newcomers.end()},
                               bytes_may_arrive(rank_.all.spec().lanes.bulk));
  if (work.attached < work.attaches.size()) {
    if (!std::exchange(work.asked, true))
      attach_to(work.attaches[work.attached]);
    return;
  }
  finish_edges({});
}

/// A hello and its answer; a listener answers in its own thread.
void rank_main::connect(const lane_name& which) {
  auto& all = rank_.all;
  const auto born = edges_.listed(which.peer);
  auto* const peer = all.at(which.peer);
  const auto answer = [this, work = works_, of = which.peer](std::function<void()> what) {
    const auto back = rank_.all.held_up(of, rank_.self) + rank_.all.delay(rank_.all.sky.frame);
    const auto when = rank_.all.time.now() + back;
    rank_.reach(when, [this, work, what = std::move(what)] {
      if (work == works_ && work_)
        what();
    });
    return when;
  };
  const auto refuse = [this, answer, which](failure why) {
    answer([this, which, why] { fail_edges(which.peer, why); });
  };
  if (peer == nullptr || !peer->running || peer->born != born)
    return refuse({fault::peer_gone, "nobody listens"});
  rank_.wake(edges_.deadline_with(which.peer, work_->deadline, rank_.now()) - rank_.now(),
             [this, which, work = works_, step = work_->connected] {
               if (work == works_ && work_ && work_->connected == step && work_->asked)
                 fail_edges(which.peer, {fault::timeout, "it does not answer"});
             });
  const hello said{
      .shown = {}, .nonce = {}, .channel = which.channel, .group = which.group, .build = {}, .capabilities = {}};
  const auto there = all.held_up(rank_.self, which.peer) + all.delay(all.sky.frame);
  peer->reach(all.time.now() + there, [this, which, peer, said, refuse, answer] {
    // What a process has said before its end is read all the same, or its end comes first.
    if (!rank_.running && rank_.all.dice.below(2) == 0)
      return;
    if (auto taken = peer->main->welcome(rank_, said); !taken)
      return refuse(taken.error());
    if (!rank_.running)
      return lane_ended(*peer, rank_.self, rank_.born, which.channel == channel_kind::tokens);
    // What the peer sends over the lane comes behind its answer.
    peer->main->lanes_[{rank_.self, which.channel, which.group}].last = answer([this, which, peer] {
      lanes_[which] = made_end(*peer, rank_.epoch, which.channel);
      const auto theirs = peer->edges.find({rank_.self, which.channel == channel_kind::tokens});
      const bool broken =
          theirs != peer->edges.end() && theirs->second.ends.peer_born == rank_.born && !theirs->second.open;
      if (!peer->running || broken) // meanwhile
        lanes_[which].open = false;
      ++work_->connected;
      work_->asked = false;
      work_on_edges();
    });
  });
}

edge_end rank_main::made_end(const process& peer, cache_epoch epoch, channel_kind channel) const {
  return {.ends = {.self = rank_.self,
                   .self_born = rank_.born,
                   .peer = peer.self,
                   .peer_born = peer.born,
                   .epoch = epoch,
                   .spans_epochs = channel == channel_kind::control},
          .last = rank_.all.time.now()};
}

result<void> rank_main::welcome(const process& from, const hello& said) {
  if (auto good = edges_.validate_hello(from.self, from.born, from.epoch, said); !good)
    return good;
  const lane_name which{from.self, said.channel, said.group};
  edges_.on_begun(which, from.born);
  lanes_[which] = made_end(from, from.epoch, which.channel);
  return {};
}

edge_end* rank_main::untaken(rank_id peer, bool for_tokens, generation born) {
  const auto found = lanes_.find({peer, for_tokens ? channel_kind::tokens : channel_kind::control, group_id{}});
  return found == lanes_.end() || found->second.ends.peer_born != born ? nullptr : &found->second;
}

/// From here on its frames are handled, those that waited first.
void rank_main::adopt(const lane_name& which) {
  auto end = std::move(lanes_.at(which));
  lanes_.erase(which);
  if (which.channel == channel_kind::group)
    return;
  const bool tokens = which.channel == channel_kind::tokens;
  const auto born = end.ends.peer_born;
  rank_.edges[{which.peer, tokens}] = std::move(end);
  take_waiting(rank_, which.peer, tokens, born);
}

/// Regions are told of and attached; a stopped peer answers when it goes on.
void rank_main::attach_to(rank_id id) {
  auto& all = rank_.all;
  auto* const peer = all.at(id);
  const auto born = edges_.listed(id);
  const auto next = [this, work = works_](result<void> done, rank_id of) {
    if (work != works_ || !work_)
      return;
    if (!done)
      return fail_edges(of, done.error());
    ++work_->attached;
    work_->asked = false;
    work_on_edges();
  };
  rank_.wake(edges_.deadline_with(id, work_->deadline, rank_.now()) - rank_.now(),
             [this, id, work = works_, step = work_->attached] {
               if (work == works_ && work_ && work_->attached == step && work_->asked)
                 fail_edges(id, {fault::timeout, "it does not hand over its memory"});
             });
  if (peer == nullptr || !peer->running || peer->born != born)
    return rank_.reach(all.time.now() + all.delay(all.sky.frame),
                       [next, id] { next(protocols::fail(fault::peer_gone, "its memory is gone"), id); });
  const auto there = all.held_up(rank_.self, id) + all.delay(all.sky.frame);
  peer->reach(all.time.now() + there, [this, peer, next, id] {
    const auto back = rank_.all.held_up(id, rank_.self) + rank_.all.delay(rank_.all.sky.frame);
    rank_.reach(rank_.all.time.now() + back, [this, peer, next, id] {
      attach(rank_, *peer);
      if (!peer->running && rank_.peers.at(id).born == peer->born)
        let_go(rank_, id, {fault::peer_gone, "it has ended"});
      next({}, id);
    });
  });
}

void rank_main::fail_edges(std::optional<rank_id> peer, failure cause) {
  if (peer)
    edges_.on_unmade(*peer, cause.code);
  if (peer)
    cause.what += " (" + rank_.all.plan().rank(*peer).label + ")";
  finish_edges(tl::unexpected<failure>{std::move(cause)});
}

void rank_main::finish_edges(result<void> done) {
  const auto work = std::move(*work_);
  work_.reset();
  ++works_;
  if (!work.rejoins) {
    if (!done)
      return leave_failed(done.error(), "grouped");
    load();
    reached(life_state::grouped);
    return turn();
  }
  // An edge that failed may have met the successor of its other end: the order that tells of it has come by then.
  if (!done && done.error().code != fault::cancelled && superseded())
    done = protocols::fail(fault::cancelled);
  if (auto answer = life_.on_admitted(*work.rejoins, done, edges_.unreached()))
    std::visit([this](auto& message) { send(std::move(message)); }, *answer);
  turn();
}

void rank_main::load() {
  rank_.serves = std::make_unique<serve_node>(rank_);
  for (auto& [role, steps] : rank_.serves->executors)
    steps->join(rank_.all.company_of(steps->cell, rank_.born));
  for (auto& [from, sent_in, body] : std::exchange(rank_.early, {}))
    rank_.serves->take(from, sent_in, std::move(body), std::nullopt);
}

// ---- watchdog -----------------------------------------------------------------------------------------------------

void rank_main::beat() {
  ++beats_;
  look();
  rank_.wake(rank_.all.ms(std::max(1u, rank_.all.spec().timeouts.heartbeat_ms / 2)), [this] { beat(); });
}

/// What the wire of a peer has sent is as many heartbeats as its own thread has turned, as long as the lane is open.
/// The watchdog looks first, and then the lanes' own thread reads: a rank that goes on after a pause does so.
void rank_main::look() {
  for (auto& peer : seen_) {
    const auto end = rank_.edges.find({peer.rank, false});
    peer.linked = life_.current() >= life_state::ready && end != rank_.edges.end() && end->second.open;
    if (end != rank_.edges.end())
      peer.born = end->second.ends.peer_born;
  }
  judge_peers();
  for (auto& peer : seen_) {
    if (!peer.linked)
      continue;
    const bool passes = rank_.all.held_up(peer.rank, rank_.self) == duration{};
    if (const auto* const other = rank_.all.at(peer.rank); passes && other != nullptr && other->born == peer.born)
      peer.heard = other->main->beats_;
  }
}

void rank_main::judge_peers() {
  const std::array steps{watchdog_machine::thread_view{.computes = rank_.hangs, .waits = false, .progress = 0}};
  const auto found = watchdog_->on_sample({.threads = steps, .peers = seen_, .wire_turns = beats_}, rank_.now());
  if (!found)
    return;
  if (found->what == watchdog_machine::trouble::peer_silent) {
    complaint_ = {rank_id{found->subject}, found->born};
    return;
  }
  rank_.exit({.how = rank_end::kind::exited, .number = exit_watchdog, .words = "watchdog"});
}

std::optional<std::pair<rank_id, generation>> rank_main::take_complaint() {
  return std::exchange(complaint_, std::nullopt);
}

} // namespace troupe::sim
