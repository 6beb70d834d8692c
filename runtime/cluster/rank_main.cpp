// Decides outside protocols: ends the process, which has no machine to come back to

#include "runtime/cluster/rank_main.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <exception>
#include <mutex>

#include "protocols/cluster/life_machine.hpp"
#include "protocols/cluster/rank_life_machine.hpp"
#include "protocols/wire/decode_frame.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/doorbell.hpp"
#include "runtime/base/exit_code.hpp"
#include "runtime/base/fault_point.hpp"
#include "runtime/base/flight_files.hpp"
#include "runtime/base/log.hpp"
#include "runtime/base/outlet.hpp"
#include "runtime/base/plugin.hpp"
#include "runtime/base/uncaught.hpp"
#include "runtime/cluster/control_link.hpp"
#include "runtime/cluster/job_directory.hpp"
#include "runtime/cluster/process.hpp"
#include "runtime/cluster/rank_drills.hpp"
#include "runtime/cluster/rank_report.hpp"
#include "runtime/cluster/rank_runtime.hpp"
#include "runtime/cluster/spec_file.hpp"
#include "runtime/cluster/supervisor_pulse.hpp"

namespace troupe::cluster {

using namespace protocols;

namespace {

base::exit_code exit_code_of(fault code) noexcept {
  if (code == fault::config_invalid || code == fault::no_memory)
    return base::exit_code::config;
  if (code == fault::parity_mismatch)
    return base::exit_code::parity;
  if (code == fault::peer_gone || code == fault::cell_gone)
    return base::exit_code::peer_gone;
  return base::exit_code::executor;
}

/// A rank whose record cannot be kept serves without.
void open_record(const launch& start, const cluster_plan& plan, rank_id self) {
  base::flight_recorder::identity who{self, start.born, plan.rank(self).label, {}};
  for (const auto& group : plan.groups)
    if (std::ranges::find(group.members, self) != group.members.end())
      who.groups.emplace_back(group.id, group.name);
  if (const auto opened = base::open_flight(job_paths{start.run_directory}.flight_folder(), who); !opened)
    base::log_warning("no flight record: {}", to_string(opened.error()));
}

/// A step of the rank's life, from the order to its end.
flight_record step_to(life_state next) noexcept {
  return {.operation = static_cast<std::uint16_t>(next), .action = flight_action::life, .phase = flight_phase::start};
}

/// Contract: K18. Errors: config_invalid.
result<void> take_plugins(const std::vector<std::string>& plugins) {
  for (const auto& each : plugins) {
    const auto cut = each.find('=');
    int file = -1;
    const auto* const end = each.data() + each.size();
    if (cut == each.npos || std::from_chars(each.data() + cut + 1, end, file).ptr != end || file < first_given_fd)
      return fail(fault::config_invalid, "a plug-in is given as NAME=DESCRIPTOR, not '" + each + "'");
    base::give_plugin(each.substr(0, cut), file);
  }
  return {};
}

/// What must hold from a rank's first instruction on, long before it knows its job: it ends with its supervisor, and
/// what it is started from is of the job's build. Errors: as the exit codes.
result<void> begin(const rank_arguments& arguments) {
  ::prctl(PR_SET_NAME, "troupe"); // the kernel names a process after the file that was executed: a descriptor's number
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN); // a file that has reached its limit is a write that fails
  return bind_to_supervisor(arguments.death_fd, arguments.supervisor_pid)
      .and_then([&] {
        return leave_with_supervisor(arguments.death_fd, arguments.pulse_fd,
                                     std::chrono::milliseconds{arguments.supervisor_ms});
      })
      .and_then([&] { return take_plugins(arguments.plugins); });
}

/// The rank's inbox, as its threads share it.
class mail {
public:
  mail() : doorbell_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  /// Any thread. `put` changes the inbox.
  template <class Put>
  void post(const Put& put) {
    {
      const std::lock_guard lock{mutex_};
      put(posted_);
    }
    base::ring(doorbell_);
  }
  rank_inbox take() {
    const std::lock_guard lock{mutex_};
    return std::exchange(posted_, {});
  }
  int fd() const noexcept { return doorbell_.get(); }
  void hush() noexcept { base::hush(doorbell_); }

private:
  std::mutex mutex_;
  rank_inbox posted_;
  base::unique_fd doorbell_;
};

/// Carries out what the supervisor orders and what `rank_life_machine` makes of it.
class rank_life {
public:
  rank_life(control_link link, rank_id self) : link_(std::move(link)), self_(self), life_(self) {}

  int run();

private:
  int live();
  result<launch> await_launch();
  result<void> build(const launch& start);
  result<void> serve_until_left();
  result<void> obey(const frame_view& frame);
  result<void> obey_roster(const roster& everybody);
  result<void> obey_proceed(const proceed& order);
  result<void> obey_rejoin(const rejoin& order);
  result<void> take_mail();
  void report();
  void note_state(life_state here);
  result<void> reached(life_state here);
  void wait();
  void at_work(bool working) noexcept;
  int leave_failed(const failure& cause, const std::string& where);
  void flush();

  template <class Message>
  static result<Message> read(const frame_view& frame) {
    Message out;
    if (auto done = decode_frame(frame, out); !done)
      return tl::unexpected<failure>{done.error()};
    return out;
  }

  control_link link_;
  rank_id self_;
  rank_life_machine life_;
  roster roster_;
  mail mail_;
  std::unique_ptr<rank_runtime> runtime_;
  std::optional<rank_report> report_;
  base::progress_counter sign_;
  duration start_deadline_{};
};

result<launch> rank_life::await_launch() {
  const auto deadline = base::now() + limits::launch_deadline;
  auto frame = fabric::receive(link_.lane(), deadline);
  if (!frame)
    return tl::unexpected<failure>{frame.error()};
  auto start = read<launch>(*frame);
  link_.lane().pop();
  return start;
}

result<void> rank_life::build(const launch& start) {
  auto spec = parse_effective_spec(start.spec_json);
  if (!spec)
    return tl::unexpected<failure>{spec.error()};
  auto plan = make_plan(*spec);
  if (!plan)
    return tl::unexpected<failure>{plan.error()};
  if (self_.value >= plan->ranks.size())
    return fail(fault::config_invalid,
                "rank " + std::to_string(self_.value) + " of " + std::to_string(plan->ranks.size()));
  base::open_log(plan->rank(self_).label);
  open_record(start, *plan, self_);
  base::flight_span joining{step_to(life_state::joined)};
  life_.on_launch(*plan);
  start_deadline_ = std::chrono::milliseconds{spec->timeouts.start_ms};
  runtime_ = std::make_unique<rank_runtime>(
      start, *std::move(spec), *std::move(plan), self_, digest_of(start.spec_json),
      rank_runtime::events{.on_failure =
                               [this](const failure& cause, const std::string& where) {
                                 base::flight().note_fault(cause, where);
                                 mail_.post([&](rank_inbox& to) { to.trouble.note({cause, where, base::now()}); });
                               },
                           .on_peer_gone =
                               [this](rank_id peer, const failure& cause) {
                                 mail_.post([&](rank_inbox& to) { to.gone.emplace_back(peer, cause); });
                               },
                           .on_drained = [this] { mail_.post([](rank_inbox& to) { to.drained = true; }); }});
  report_.emplace(runtime_->context());
  sign_ = runtime_->watch_main_thread();
  auto at = runtime_->open();
  if (!at)
    return joining.ends(result<void>{tl::unexpected<failure>{at.error()}});
  base::flight().reached(life_state::joined);
  if (auto said = life_.on_reached(life_state::joined); !said)
    return tl::unexpected<failure>{said.error()};
  return link_.send(joined{*at, static_cast<std::uint32_t>(::getpid()), runtime_->device(), runtime_->http_address()});
}

void rank_life::note_state(life_state here) {
  base::flight().reached(here);
  if (const auto& sight = runtime_->context().sight)
    sight->reached(here);
}

result<void> rank_life::reached(life_state here) {
  note_state(here);
  auto said = life_.on_reached(here);
  if (!said)
    return tl::unexpected<failure>{said.error()};
  return *said ? link_.send(**said) : result<void>{};
}

result<void> rank_life::obey_roster(const roster& everybody) {
  if (auto allowed = life_.on_roster(); !allowed)
    return allowed;
  roster_ = everybody;
  base::flight_span agreeing{step_to(life_state::agreed)};
  TROUPE_FAULT_POINT("rank.handshake");
  auto stated = runtime_->facts();
  if (!stated)
    return agreeing.ends(result<void>{tl::unexpected<failure>{stated.error()}});
  return link_.send(agree{*std::move(stated)});
}

result<void> rank_life::obey_proceed(const proceed& order) {
  if (auto allowed = life_.on_proceed(order); !allowed)
    return allowed;
  base::flight_span going{step_to(order.next)};
  result<void> done;
  if (order.next == life_state::grouped)
    done = runtime_->group(roster_, base::now() + start_deadline_);
  else if (order.next == life_state::warm)
    done = runtime_->warm();
  else if (order.next == life_state::ready)
    done = runtime_->serve();
  return going.ends(done ? reached(order.next) : done);
}

result<void> rank_life::obey(const frame_view& frame) {
  const auto with = [&]<class Message>(Message, auto act) -> result<void> {
    auto body = read<Message>(frame);
    return body ? act(*body) : tl::unexpected<failure>{body.error()};
  };
  const auto type = frame.header.type;
  if (type == roster::type)
    return with(roster{}, [&](const roster& everybody) { return obey_roster(everybody); });
  if (type == verdict::type)
    return with(verdict{}, [&](const verdict& judged) { return life_.on_verdict(judged); });
  if (type == proceed::type)
    return with(proceed{}, [&](const proceed& order) { return obey_proceed(order); });
  if (type == shutdown::type)
    return with(shutdown{}, [&](const shutdown& order) {
      note_state(life_state::draining);
      const auto has_served = life_.on_shutdown(order);
      TROUPE_FAULT_POINT("rank.draining");
      if (has_served && *has_served)
        runtime_->drain();
      return has_served ? result<void>{} : tl::unexpected<failure>{has_served.error()};
    });
  if (type == lost::type)
    return with(lost{}, [&](const lost& news) { return runtime_->lose(news); });
  if (type == rejoin::type)
    return with(rejoin{}, [&](const rejoin& order) { return obey_rejoin(order); });
  if (type == recovered::type)
    return with(recovered{}, [&](const recovered& news) -> result<void> {
      runtime_->on_recovered(news);
      return {};
    });
  if (type == cluster_view::type && runtime_->context().sight)
    return with(cluster_view{},
                [&](cluster_view& news) { return runtime_->context().sight->on_view(std::move(news), base::now()); });
  if (type == inject::type)
    return with(inject{}, [&](const inject& order) { return take_injection(order); });
  return fail(fault::unknown_type, std::string{name(type)} + " from the supervisor");
}

result<void> rank_life::obey_rejoin(const rejoin& order) {
  if (auto told = take_mail(); !told)
    return told;
  const auto begun = life_.on_rejoin(order);
  if (!begun)
    return tl::unexpected<failure>{begun.error()};
  if (auto said = link_.send(*begun); !said)
    return said;
  result<void> beside;
  const auto superseded = [&] {
    report();  // it may take as long as a start
    for (;;) { // ends with what the supervisor has said so far
      const auto next = link_.peek();
      if (!next || (*next && supersedes_rejoin((*next)->header.type)))
        return true;
      if (!*next)
        return false;
      beside = link_.next().and_then([this](const auto& taken) { return obey(*taken); });
      if (!beside)
        return true;
    }
  };
  at_work(false); // it waits for peers, and has deadlines
  auto done = runtime_->rejoin(order, superseded);
  // An edge that failed may have met the successor of its other end: the order that tells of it has come by then.
  if (!done && done.error().code != fault::cancelled && superseded())
    done = fail(fault::cancelled);
  at_work(true);
  if (!beside)
    return beside;
  const auto answer = life_.on_admitted(order, done, runtime_->unreached());
  if (!answer)
    return {};
  if (!done)
    base::log_warning("cannot admit generation {}: {}", order.ranks.front().born.value, to_string(done.error()));
  return std::visit([this](const auto& message) { return link_.send(message); }, *answer);
}

result<void> rank_life::take_mail() {
  for (const auto& of_peer : life_.on_inbox(mail_.take(), base::now()))
    if (auto told = link_.send(of_peer); !told)
      return told;
  return {};
}

/// Contract: J7. That the supervisor has gone is for the reader of its last orders to find.
void rank_life::report() {
  if (const auto* const said = report_->next(life_.current(), base::now()))
    (void)link_.send(*said); // the next one says it all again
}

/// Contract: C4, C12, K13. The naps of an idle rank count as work.
void rank_life::at_work(bool working) noexcept {
  sign_.set(working && life_.is_watched());
}

result<void> rank_life::serve_until_left() {
  while (true) {
    if (auto told = take_mail(); !told)
      return told;
    if (life_.may_leave())
      return {};
    at_work(true);
    report();
    if (auto trouble = life_.must_leave(base::now()))
      return tl::unexpected<failure>{*std::move(trouble)};

    auto frame = link_.next();
    if (!frame)
      return fail(fault::peer_gone, "the supervisor");
    if (!*frame)
      wait();
    else if (auto done = obey(**frame); !done)
      return done;
  }
}

/// Until the supervisor or another thread has something.
void rank_life::wait() {
  link_.lane().flush();
  const fabric::lane::interest wanted{.readable = true, .writable = false};
  if (!link_.lane().arm(wanted)) {
    link_.lane().disarm();
    return;
  }
  const auto set = link_.lane().waitables(wanted);
  std::array<pollfd, 3> fds{};
  std::copy_n(set.fds.begin(), set.count, fds.begin());
  fds[set.count] = {mail_.fd(), POLLIN, 0};
  const auto nap =
      std::chrono::ceil<std::chrono::milliseconds>(life_.nap(std::min<duration>(runtime_->nap(), report_->period())));
  TROUPE_FAULT_POINT("rank.idle");
  ::poll(fds.data(), set.count + 1, static_cast<int>(nap.count()));
  link_.lane().disarm();
  mail_.hush();
}

void rank_life::flush() {
  const auto deadline = base::now() + limits::wire_flush_deadline;
  std::vector<pollfd> scratch;
  while (!link_.lane().flush() && base::now() < deadline) {
    const fabric::waiting waits{&link_.lane(), {.readable = false, .writable = true}};
    if (!fabric::wait_any({&waits, 1}, deadline, scratch))
      return;
  }
}

/// Says why, then ends the process: what other threads are in the middle of is not waited for (C1, C6).
/// Contract: K14. Who cannot make an edge names its other end, and leaves as of another's fault.
int rank_life::leave_failed(const failure& cause, const std::string& where) {
  base::log_error("{}: {}", where, to_string(cause));
  base::flight().note_fault(cause, where);
  base::flight().reached(life_state::failed);
  const auto words = life_.on_failed(cause, where, runtime_ ? runtime_->unreached() : std::nullopt);
  (void)link_.send(words.said); // one that cannot be told sees the exit code
  flush();
  return static_cast<int>(words.of_another ? base::exit_code::peer_gone : exit_code_of(cause.code));
}

/// Libraries throw where memory or threads are used up: that is said as any other failure.
int rank_life::run() {
  try {
    return live();
  } catch (const std::exception& problem) {
    const auto cause = base::failure_of(problem);
    return leave_failed(cause, life_.where_of(cause));
  }
}

int rank_life::live() {
  auto start = await_launch();
  if (!start)
    return leave_failed(start.error(), "launch");
  if (auto armed = arm_drills(*start, self_); !armed)
    return leave_failed(armed.error(), "drills");
  TROUPE_FAULT_POINT("rank.spawned");
  if (auto built = build(*start); !built)
    return leave_failed(built.error(), "start");
  if (auto served = serve_until_left(); !served) {
    // It may say where; of peers that have gone nothing more is told.
    (void)life_.on_inbox(mail_.take(), base::now());
    return leave_failed(served.error(), life_.where_of(served.error()));
  }
  if (!life_.aborting()) {
    runtime_->stop();
    base::flight().reached(life_state::left);
    if (const auto left = life_.on_left(); !left)
      return leave_failed(left.error(), "leave");
    (void)link_.send(leave{"drained"}); // a supervisor that is not told sees the exit code
  }
  flush();
  return static_cast<int>(base::exit_code::done);
}

} // namespace

int rank_main(const rank_arguments& arguments) {
  base::hold_standard_descriptors();
  base::standard_error().become(base::outlet::manner::drops);
  base::name_uncaught_exceptions();
  if (auto begun = begin(arguments); !begun) {
    base::log_error("begin: {}", to_string(begun.error()));
    const bool orphan = begun.error().code == fault::peer_gone;
    ::_exit(static_cast<int>(orphan ? base::exit_code::supervisor_gone : exit_code_of(begun.error().code)));
  }
  const rank_id self{arguments.rank};
  auto* const life = new rank_life{control_link::at_rank(base::unique_fd{arguments.control_fd}, self), self};
  // Actors, executors and the wire may be in the middle of anything, and an actor system waits for all of its actors
  // without a bound: the process's end is the end of them (DESIGN decision 8).
  ::_exit(life->run());
}

} // namespace troupe::cluster
