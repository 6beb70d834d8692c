#include "tests/sim/supervisor.hpp"

#include "protocols/wire/codec.hpp"
#include "tests/sim/reach.hpp"
#include "tests/sim/world.hpp"

namespace troupe::sim {

using namespace protocols;

namespace {

constexpr auto tick = 50ms;

liveness_judge judge_of(const cluster_spec::timeouts_section& t) {
  return liveness_judge{{.suspect = std::chrono::milliseconds{t.suspect_ms},
                         .silent = std::chrono::milliseconds{t.kill_ms},
                         .look = 2 * std::chrono::milliseconds{t.heartbeat_ms},
                         .starved = {}}};
}

/// What the far end makes of its bytes.
template <class Variant>
Variant over_the_wire(const Variant& what) {
  return std::visit(
      []<class Message>(const Message& message) {
        std::vector<std::byte> bytes;
        encode_payload(message, bytes);
        Message out;
        const auto read = decode_payload(bytes, out);
        TROUPE_ASSERT("A26", read.has_value());
        return Variant{std::move(out)};
      },
      what);
}

} // namespace

supervisor::supervisor(world& all)
    : all_(all), life_(all.plan(), std::vector<std::string>(all.plan().ranks.size(), "host"), all.spec().timeouts,
                       all.spec().restart, all.time.now()),
      to_rank_(all.plan().ranks.size()), from_rank_(all.plan().ranks.size()),
      pulses_(all.plan().ranks.size(), judge_of(all.spec().timeouts)), running_(all.plan().ranks.size()) {}

void supervisor::start() {
  for (const auto& rank : all_.plan().ranks)
    spawn(rank.id, generation{1});
  watch_time();
}

void supervisor::spawn(rank_id rank, generation born) {
  pulses_[rank.value] = judge_of(all_.spec().timeouts);
  running_[rank.value] = true;
  auto& made = all_.make_process(rank, born, life_.epoch());
  if (all_.dice.chance(all_.sky.stillborn)) {
    all_.judge.on_hurt(rank);
    return all_.past.note([&] { return made.label + " is started and does nothing"; }, 21, rank.value);
  }
  made.reach(all_.time.now() + all_.delay(all_.sky.compute), [&made] { made.main->start(); });
}

// ---- what ranks say and how they end ------------------------------------------------------------------------------

void supervisor::hear(process& from, life_report what) {
  auto& last = from_rank_[from.self.value];
  last = std::max(all_.time.now() + all_.delay(all_.sky.frame), last + duration{1});
  all_.time.at(last, [this, id = from.self, what = over_the_wire(what)] { take(id, what); });
}

void supervisor::take(rank_id from, const life_report& what) {
  if (ended_)
    return;
  const auto now = all_.time.now();
  auto done = [&]() -> result<life_machine::effects> {
    if (const auto* const said = std::get_if<joined>(&what))
      return life_.on_joined(from, *said);
    if (const auto* const said = std::get_if<agree>(&what))
      return life_.on_agree(from, *said, now);
    if (const auto* const said = std::get_if<progress>(&what))
      return life_.on_progress(from, *said, now);
    if (const auto* const said = std::get_if<rejoined>(&what))
      return life_.on_rejoined(from, *said, now);
    const auto& said = std::get<error>(what);
    reach_count::mine().on_failure(said.code);
    all_.past.note(
        [&] {
          return all_.plan().rank(from).label + " tells the supervisor: " + said.message + " (" + said.where + ")";
        },
        31, from.value, said.code);
    return life_.on_error(from, said, now);
  }();
  perform(done ? *done : life_.on_bad_frame(from, done.error(), now));
}

void supervisor::on_exit(process& rank, rank_end end) {
  // Its last words come first: the socket is read to its end before the process is reaped.
  auto& last = from_rank_[rank.self.value];
  last = std::max(all_.time.now() + all_.delay(all_.sky.frame), last + duration{1});
  all_.time.at(last, [this, id = rank.self] {
    if (!ended_)
      life_.on_control_lost(id, all_.time.now());
  });
  last += all_.delay(all_.sky.frame);
  all_.time.at(last, [this, id = rank.self, end = std::move(end)] {
    running_[id.value] = false;
    if (!ended_)
      perform(life_.on_end(id, end, all_.time.now()));
  });
}

void supervisor::stop(const std::string& reason) {
  perform(life_.on_stop(life_machine::stop_asker::program, reason, all_.time.now()));
}

void supervisor::watch_time() {
  if (ended_)
    return;
  const auto now = all_.time.now();
  for (const auto& rank : all_.plan().ranks) {
    auto* const process = all_.at(rank.id);
    if (process == nullptr || !running_[rank.id.value] || !process->running || process->main->beats() == 0)
      continue;
    auto& pulse = pulses_[rank.id.value];
    const auto seen = pulse.on_sample(process->main->beats(), now);
    if (const auto complaint = process->main->take_complaint())
      perform(life_.on_complaint(rank.id, complaint->first, complaint->second, false, now));
    if (seen == liveness_judge::liveness::silent)
      perform(life_.on_silent(rank.id, pulse.silent_for(), now));
  }
  perform(life_.on_tick(now));
  all_.time.after(tick, [this] { watch_time(); });
}

// ---- effects ------------------------------------------------------------------------------------------------------

void supervisor::send(rank_id to, life_order what) {
  auto* const rank = all_.at(to);
  if (rank == nullptr || !running_[to.value])
    return;
  auto& last = to_rank_[to.value];
  last = std::max(all_.time.now() + all_.delay(all_.sky.frame), last + duration{1});
  rank->reach(last, [rank, what = over_the_wire(what)] { rank->main->hear(what); });
}

void supervisor::perform(const life_machine::effects& what) {
  reach_count::mine().on_effects(what);
  if (const auto blamed = life_.take_blamed())
    all_.judge.on_blamed(*blamed);
  for (const auto& effect : what) {
    if (const auto* const order = std::get_if<life_machine::to_all>(&effect)) {
      for (const auto& rank : all_.plan().ranks)
        if (running_[rank.id.value] && life_.at(rank.id) != life_state::spawned)
          std::visit([&](const auto& message) { send(rank.id, message); }, order->message);
    } else if (const auto* const some = std::get_if<life_machine::to_ranks>(&effect)) {
      for (const auto rank : some->to)
        std::visit([&](const auto& message) { send(rank, message); }, some->message);
      if (const auto* const news = std::get_if<lost>(&some->message)) {
        ++recoveries_;
        all_.judge.on_lost(*news);
      }
    } else if (const auto* const line = std::get_if<life_machine::report>(&effect))
      all_.past.say("supervisor: " + line->line);
    else if (const auto* const shown = std::get_if<life_machine::news>(&effect))
      all_.past.note([&] { return "supervisor: " + shown->line; }, 32);
    else if (std::holds_alternative<life_machine::cluster_ready>(effect)) {
      was_ready_ = true;
      all_.past.note([] { return std::string{"the cluster is ready"}; }, 33);
      all_.on_ready();
    } else if (const auto* const late = std::get_if<life_machine::kill_ranks>(&effect)) {
      for (const auto rank : late->ranks)
        if (auto* const process = all_.at(rank))
          all_.time.after(all_.delay(all_.sky.hop), [process] {
            process->exit({.how = rank_end::kind::signalled, .number = 9, .words = "Killed"});
          });
    } else if (const auto* const again = std::get_if<life_machine::restart_ranks>(&effect)) {
      for (const auto rank : again->ranks) {
        all_.judge.on_restarted(rank);
        spawn(rank, again->born);
      }
    } else if (const auto* const end = std::get_if<life_machine::cluster_ended>(&effect)) {
      ended_ = *end;
      all_.past.note([&] { return "the cluster has ended" + (end->cause.empty() ? std::string{} : ": " + end->cause); },
                     34, static_cast<int>(end->how));
    }
  }
}

} // namespace troupe::sim
