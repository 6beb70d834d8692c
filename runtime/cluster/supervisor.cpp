// Decides outside protocols: there is no machine yet, or it shows and nothing depends on it

#include "runtime/cluster/supervisor.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include <fmt/format.h>

#include "protocols/cluster/life_machine.hpp"
#include "protocols/metrics/view_machine.hpp"
#include "protocols/wire/decode_frame.hpp"
#include "runtime/base/assert.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/flight_files.hpp"
#include "runtime/base/overloaded.hpp"
#include "runtime/cluster/job_journal.hpp"
#include "runtime/cluster/job_status.hpp"
#include "runtime/cluster/rank_poll.hpp"
#include "runtime/cluster/rank_processes.hpp"
#include "runtime/cluster/stop_requests.hpp"
#include "runtime/cluster/supervisor_drills.hpp"
#include "runtime/cluster/supervisor_view.hpp"

namespace troupe::cluster {
namespace {

using protocols::fault;
using protocols::flight_action;
using protocols::life_machine;
using protocols::result;
using protocols::time_point;
using protocols::view_machine;

/// How often the machine is asked about its deadlines.
constexpr int tick_ms = 50;
static_assert(std::chrono::milliseconds{2 * tick_ms} < protocols::limits::first_cause_grace);
/// Of one rank in one turn, so that none keeps the others waiting.
constexpr int frames_per_turn = 64;

std::string host_name() {
  std::array<char, 256> name{};
  TROUPE_ASSERT("host name", ::gethostname(name.data(), name.size() - 1) == 0);
  return name.data();
}

class running_supervisor final : public supervisor {
public:
  running_supervisor(supervisor_options options, protocols::cluster_plan plan, job_directory directory)
      : options_(std::move(options)), plan_(std::move(plan)), directory_(std::move(directory)), host_(host_name()),
        journal_(paths().log_of_all(), host_ + ":supervisor ", options_.on_progress, options_.on_log) {
    if (const auto opened = base::open_flight(
            paths().flight_folder(),
            {.rank = protocols::supervisor_rank, .born = {}, .label = "supervisor", .groups = {}}, record_);
        !opened)
      journal_.note("no flight record: " + opened.error().what);
  }

  const job_paths& paths() const noexcept override { return directory_.paths(); }
  const protocols::cluster_plan& plan() const noexcept override { return plan_; }

  void request_stop(std::string reason, life_machine::stop_asker by) override {
    stops_.request({by, std::move(reason)});
  }

  result<void> inject(const protocols::inject& order) override { return drills_.inject(order); }

  cluster_outcome run() override {
    if (options_.take_signals)
      stops_.take_signals();
    if (const auto opened = drills_.open(paths(), options_.rules); !opened)
      return give_up(opened.error());
    if (const auto started = ranks_.start_all({.command = options_.rank_command,
                                               .job = options_.job,
                                               .host = host_,
                                               .paths = paths(),
                                               .spec_json = options_.spec.effective_json,
                                               .supervisor_ms = options_.spec.spec.timeouts.supervisor_ms,
                                               .drills = options_.spec.spec.drills,
                                               .rules = options_.rules});
        !started)
      return give_up(started.error());

    life_.emplace(plan_, std::vector<std::string>(plan_.ranks.size(), host_), options_.spec.spec.timeouts,
                  options_.spec.spec.restart, base::now());
    views_.emplace(plan_, std::vector<std::string>(plan_.ranks.size(), host_),
                   view_machine::bounds{.every = protocols::view_period(options_.spec.spec.timeouts),
                                        .still = protocols::still_after(options_.spec.spec.timeouts)},
                   base::now());
    journal_.entered(seen_, base::now());
    while (!outcome_) {
      write_status();
      const auto due = wait();
      take_stops();
      drills_.step([this](const protocols::inject& order) { send(order.rank, order); });
      for (const auto index : due)
        serve(*ranks_.all()[index]);
      watch_time();
    }
    status_due_ = {};
    write_status();
    return conclude();
  }

private:
  // ---- beginning and end ----

  /// Not all ranks could be started: those that were leave at once.
  cluster_outcome give_up(const protocols::failure& cause) {
    for (const auto& rank : ranks_.all())
      rank->kill();
    const auto deadline = base::now() + std::chrono::milliseconds{options_.spec.spec.timeouts.kill_ms};
    while (base::now() < deadline && std::ranges::any_of(ranks_.all(), &supervised_rank::running)) {
      wait();
      ranks_.beat();
      for (const auto& rank : ranks_.all())
        rank->reap();
    }
    outcome_ = cluster_outcome{base::exit_code::config, cause.what, {}};
    return conclude();
  }

  cluster_outcome conclude() {
    for (const auto& rank : ranks_.all())
      outcome_->ranks.push_back({rank->plan().id, rank->plan().label, rank->pid(),
                                 rank->end().value_or(protocols::rank_end{}), rank->was_killed(), !rank->running()});
    stops_.let_signals_go();
    return std::move(*outcome_);
  }

  void finish(const life_machine::cluster_ended& ended) {
    outcome_ = cluster_outcome{exit_code_of(ended.how, stops_.interrupted()), ended.cause, {}};
    if (!ended.cause.empty())
      record_.say(ended.cause);
  }

  // ---- the loop ----

  std::span<const std::size_t> wait() {
    TROUPE_FAULT_POINT("supervisor.idle");
    polled_at_ = base::now();
    auto others = drills_.waitables();
    const auto stops = stops_.waitables();
    others.insert(others.end(), stops.begin(), stops.end());
    return poll_.wait(ranks_.all(), others, tick_ms);
  }

  void take_stops() {
    for (const auto& asked : stops_.take())
      perform(life_->on_stop(asked.by, asked.reason, base::now()));
  }

  void serve(supervised_rank& rank) {
    read_output(rank);
    for (int i = 0; i < frames_per_turn && take_frame(rank); ++i) {
    }
    if (!rank.reap())
      return;
    if (!rank.end()->is_orderly())
      drills_.notice(rank.plan().id);
    while (take_frame(rank)) { // its last words; the socket's buffer bounds them
    }
    read_output(rank);
    ranks_.note_end(rank);
    auto end = *rank.end();
    end.last = ranks_.last_words(rank, life_->born(rank.plan().id));
    perform(life_->on_end(rank.plan().id, end, base::now()));
  }

  void read_output(supervised_rank& rank) {
    rank.read_output([this](std::string_view line) { journal_.rank_line(line); });
  }

  bool take_frame(supervised_rank& rank) {
    const bool was_lost = rank.control_lost();
    const auto frame = rank.next_frame();
    if (rank.control_lost() && !was_lost)
      life_->on_control_lost(rank.plan().id, base::now());
    if (!frame) {
      blame(rank, frame.error());
      return false;
    }
    if (!*frame)
      return false;
    if (const auto good = on_frame(rank, **frame); !good)
      blame(rank, good.error());
    return true;
  }

  void blame(const supervised_rank& rank, const protocols::failure& problem) {
    drills_.notice(rank.plan().id);
    perform(life_->on_bad_frame(rank.plan().id, problem, base::now()));
  }

  template <class Message, class Step>
  result<void> decode(const protocols::frame_view& frame, Step step) {
    Message message;
    if (auto good = protocols::decode_frame(frame, message); !good)
      return good;
    return step(message).map([this](const life_machine::effects& effects) { perform(effects); });
  }

  result<void> on_frame(const supervised_rank& rank, const protocols::frame_view& frame) {
    using protocols::message_type;
    const auto id = rank.plan().id;
    const auto type = frame.header.type;
    if (type == message_type::joined)
      return decode<protocols::joined>(frame, [&](const auto& said) {
        ranks_.at(id).computes_on(said.device);
        ranks_.at(id).listens_at(said.http);
        return life_->on_joined(id, said);
      });
    if (type == message_type::agree)
      return decode<protocols::agree>(frame, [&](const auto& said) { return life_->on_agree(id, said, base::now()); });
    if (type == message_type::progress)
      return decode<protocols::progress>(frame,
                                         [&](const auto& said) { return life_->on_progress(id, said, base::now()); });
    if (type == message_type::counters)
      return decode<protocols::counters>(frame, [&](auto& said) {
        return views_->on_counters(id, std::move(said), base::now()).map([] { return life_machine::effects{}; });
      });
    if (type == message_type::rejoined)
      return decode<protocols::rejoined>(frame,
                                         [&](const auto& said) { return life_->on_rejoined(id, said, base::now()); });
    if (type == message_type::error)
      return decode<protocols::error>(frame, [&](const auto& said) {
        drills_.notice(id);
        return result<life_machine::effects>{life_->on_error(id, said, base::now())};
      });
    if (type == message_type::leave) // how it ended is what the kernel says
      return decode<protocols::leave>(frame, [&](const auto& said) {
        return result<life_machine::effects>{
            life_machine::effects{life_machine::report{rank.plan().label + " leaves: " + said.reason}}};
      });
    return protocols::fail(fault::bad_value,
                           fmt::format("a {} frame is not for the supervisor", protocols::name(type)));
  }

  void watch_time() {
    const auto now = base::now();
    ranks_.beat();
    for (const auto& rank : plan_.ranks)
      check_pulse(rank, now);
    perform(life_->on_tick(polled_at_));               // who has died since may be why others complain
    for (const auto& page : views_->next(*life_, now)) // not in the flight record: they come again and again
      if (const auto sent = ranks_.at(plan_.front()).send(page); !sent)
        perform(life_->on_unsent(plan_.front(), sent.error(), now));

    if (seen_ != life_->current()) {
      seen_ = life_->current();
      journal_.entered(seen_, now);
    }
    if (journal_.is_overdue(now))
      journal_.note(waiting_line(plan_, *life_));
  }

  void check_pulse(const protocols::rank_plan& rank, time_point now) {
    const auto seen = ranks_.read_pulse(rank.id, now);
    if (seen.sign)
      views_->on_sign(rank.id, *seen.sign, now);
    if (seen.newly_suspected)
      journal_.note(fmt::format("{} gives no sign of life", rank.label));
    if (seen.silent_peer)
      perform(
          life_->on_complaint(rank.id, *seen.silent_peer, seen.silent_born, ranks_.is_starved(*seen.silent_peer), now));
    if (seen.is == protocols::liveness_judge::liveness::silent)
      perform(life_->on_silent(rank.id, seen.silent_for, now));
  }

  // ---- effects ----

  void perform(const life_machine::effects& effects) {
    if (const auto blamed = life_->take_blamed()) {
      record_.note({.call = blamed->call, .peer = blamed->rank, .action = flight_action::verdict});
      record_.say(blamed->text);
      views_->on_blamed(*blamed);
    }
    for (const auto& effect : effects)
      std::visit(base::overloaded{
                     [&](const life_machine::to_all& order) {
                       std::visit([](const auto& message) { pass_fault_points(message); }, order.message);
                       std::visit([&](const auto& message) { send_all(message); }, order.message);
                     },
                     [&](const life_machine::to_ranks& order) {
                       std::visit([](const auto& message) { pass_fault_points(message); }, order.message);
                       std::visit([&](const auto& message) { send_some(order.to, message); }, order.message);
                     },
                     [&](const life_machine::report& report) { journal_.note(report.line); },
                     [&](const life_machine::news& news) { journal_.tell(news.line); },
                     [&](const life_machine::cluster_ready&) {
                       write_status();
                       if (options_.on_ready)
                         options_.on_ready();
                     },
                     [&](const life_machine::kill_ranks& late) {
                       for (const auto id : late.ranks)
                         ranks_.kill(id);
                     },
                     [&](const life_machine::restart_ranks& again) { restart(again); },
                     [&](const life_machine::cluster_ended& ended) { finish(ended); },
                 },
                 effect);
  }

  template <class Message>
  void send_all(const Message& message) {
    for (const auto& rank : ranks_.all()) {
      const auto id = rank->plan().id;
      if (rank->running() && life_->at(id) != protocols::life_state::spawned)
        send(id, message);
    }
  }

  template <class Message>
  void send_some(const std::vector<protocols::rank_id>& to, const Message& message) {
    for (const auto id : to)
      send(id, message);
  }

  void restart(const life_machine::restart_ranks& again) {
    for (const auto id : again.ranks) {
      if (const auto started = ranks_.start_again(id, again.born, life_->epoch()); !started)
        return perform(life_->on_unstartable(id, started.error().what, base::now()));
      views_->on_restarted(id, again.born, base::now());
    }
  }

  template <class Message>
  void send(protocols::rank_id to, const Message& message) {
    if (const auto sent = ranks_.send(to, message); !sent)
      perform(life_->on_unsent(to, sent.error(), base::now()));
  }

  // ---- what is seen from outside ----

  void write_status() {
    auto status = status_of(ranks_.all(), *life_, paths().front_socket().string());
    if (outcome_) {
      status.exit_code = static_cast<int>(outcome_->code);
      status.cause = outcome_->first_cause;
    }
    const auto now = base::now();
    if (status == written_ || now < status_due_)
      return;
    if (const auto done = directory_.write_status(to_json(status)); !done)
      return status_lost(done.error().what, now);
    written_ = std::move(status);
    status_lost_ = false;
  }

  /// A disk that is full now need not be so in a moment; until then readers see what was written last.
  void status_lost(const std::string& why, time_point now) {
    status_due_ = now + patience;
    if (!std::exchange(status_lost_, true))
      journal_.note(why);
  }

  supervisor_options options_;
  protocols::cluster_plan plan_;
  job_directory directory_;
  std::string host_;

  base::flight_recorder record_;
  stop_requests stops_;

  rank_processes ranks_{plan_, options_.spec.spec, directory_.paths(), record_};
  std::optional<life_machine> life_;
  std::optional<view_machine> views_; ///< what is told to the front; made with `life_`
  supervisor_drills drills_{options_.spec.spec, plan_};
  std::optional<cluster_outcome> outcome_;
  rank_poll poll_;
  time_point polled_at_; ///< what ranks had done by then has been served when this turn ends

  job_journal journal_;
  job_status written_;
  bool status_lost_ = false; ///< status.json is older than what is, which was said
  time_point status_due_;    ///< not before this is it tried again
  life_machine::state seen_ = life_machine::state::starting;
};

} // namespace

result<std::unique_ptr<supervisor>> supervisor::prepare(supervisor_options options) {
  auto plan = protocols::make_plan(options.spec.spec);
  if (!plan)
    return tl::unexpected{plan.error()};
  auto directory =
      job_directory::take(options.root, options.job, options.spec, static_cast<std::uint32_t>(plan->ranks.size()));
  if (!directory)
    return tl::unexpected{directory.error()};
  return std::make_unique<running_supervisor>(std::move(options), std::move(*plan), std::move(*directory));
}

} // namespace troupe::cluster
