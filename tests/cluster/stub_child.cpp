/// A process that plays a rank's part of the control protocol and misbehaves where it is told to:
/// `--do RANK:MOMENT:ACTION`. A moment is a life state that the rank has just reported, or "agreeing" or "rejoining".
/// `RANK+:MOMENT:ACTION` is for the generations after the first.
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocols/cluster/life_machine.hpp"
#include "protocols/metrics/view_messages.hpp"
#include "runtime/base/exit_code.hpp"
#include "runtime/cluster/control_link.hpp"
#include "runtime/cluster/process.hpp"
#include "runtime/cluster/spec_file.hpp"
#include "runtime/cluster/supervisor_pulse.hpp"

namespace {

using namespace troupe;
using protocols::life_state;

struct arguments {
  std::uint32_t rank = 0;
  int control_fd = -1;
  int death_fd = -1;
  int pulse_fd = -1;
  std::chrono::milliseconds supervisor_silent{};
  pid_t supervisor = 0;
  std::vector<std::string> orders;       ///< "MOMENT:ACTION" of this rank
  std::vector<std::string> later_orders; ///< of its generations after the first
  bool watches_pipe = true;
  bool watches_pulse = false;
  bool binds = true;
};

[[noreturn]] void leave(base::exit_code code) {
  ::_exit(static_cast<int>(code));
}

[[noreturn]] void hang() {
  for (;;)
    ::pause();
}

arguments parse(int count, char** words) {
  arguments read;
  std::vector<std::string> all_orders;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string_view name = words[i];
    const std::string value = words[i + 1];
    if (name == "--rank")
      read.rank = static_cast<std::uint32_t>(std::stoul(value));
    else if (name == "--control-fd")
      read.control_fd = std::stoi(value);
    else if (name == "--death-fd")
      read.death_fd = std::stoi(value);
    else if (name == "--pulse-fd")
      read.pulse_fd = std::stoi(value);
    else if (name == "--supervisor-ms")
      read.supervisor_silent = std::chrono::milliseconds{std::stoi(value)};
    else if (name == "--supervisor-pid")
      read.supervisor = std::stoi(value);
    else if (name == "--do")
      all_orders.push_back(value);
    else if (name == "--ends-by" && value == "pipe")
      read.binds = false;
    else if (name == "--ends-by" && value == "signal")
      read.watches_pipe = read.watches_pulse = false;
    else if (name == "--ends-by" && value == "pulse")
      read.watches_pulse = true;
  }
  const auto take = [&](const std::string& prefix, std::vector<std::string>& mine) {
    for (const auto& order : all_orders)
      if (order.starts_with(prefix))
        mine.push_back(order.substr(prefix.size()));
  };
  take(std::to_string(read.rank) + ":", read.orders);
  take(std::to_string(read.rank) + "+:", read.later_orders);
  return read;
}

class stub_rank {
public:
  explicit stub_rank(arguments given)
      : given_(std::move(given)),
        link_(cluster::control_link::at_rank(base::unique_fd{given_.control_fd}, protocols::rank_id{given_.rank})) {}

  [[noreturn]] void live() {
    reached("spawned");
    for (;;) {
      const auto frame = link_.next();
      if (!frame)
        leave(base::exit_code::supervisor_gone);
      if (*frame)
        on_frame(**frame);
      else
        wait();
    }
  }

private:
  void wait() {
    const fabric::lane::interest wanted{.readable = true, .writable = false};
    if (link_.lane().arm(wanted)) {
      const auto set = link_.lane().waitables(wanted);
      pollfd fds[] = {set.fds[0], {given_.watches_pipe ? given_.death_fd : -1, POLLIN, 0}};
      ::poll(fds, 2, -1); // the supervisor's end ends it
      if (fds[1].revents != 0)
        leave(base::exit_code::supervisor_gone);
    }
    link_.lane().disarm();
  }

  template <class Message>
  Message decoded(const protocols::frame_view& frame) {
    Message message;
    if (!protocols::decode_payload(frame.payload, message))
      leave(base::exit_code::invariant);
    return message;
  }

  void on_frame(const protocols::frame_view& frame) {
    using protocols::message_type;
    const auto type = frame.header.type;
    if (type == message_type::launch)
      join(decoded<protocols::launch>(frame));
    else if (type == message_type::roster)
      state_facts();
    else if (type == message_type::verdict)
      hear(decoded<protocols::verdict>(frame));
    else if (type == message_type::proceed)
      report(decoded<protocols::proceed>(frame).next);
    else if (type == message_type::lost)
      std::printf("lost: %s\n", decoded<protocols::lost>(frame).cause.c_str()), std::fflush(stdout);
    else if (type == message_type::rejoin)
      admit(decoded<protocols::rejoin>(frame));
    else if (type == message_type::recovered)
      std::printf("recovered %zu\n", decoded<protocols::recovered>(frame).ranks.size()), std::fflush(stdout);
    else if (type == message_type::cluster_view)
      take_view(decoded<protocols::cluster_view>(frame));
    else if (type == message_type::shutdown)
      end(decoded<protocols::shutdown>(frame));
  }

  void join(const protocols::launch& start) {
    const auto spec = cluster::parse_effective_spec(start.spec_json);
    if (!spec)
      leave(base::exit_code::config);
    if (start.born > protocols::generation{1})
      given_.orders.insert(given_.orders.end(), given_.later_orders.begin(), given_.later_orders.end());
    digest_ = cluster::digest_of(start.spec_json);
    protocols::joined said;
    said.at = {.rank = protocols::rank_id{given_.rank},
               .born = start.born,
               .unix_path = start.run_directory + "/r" + std::to_string(given_.rank) + ".sock",
               .tcp_address = {},
               .fabric_address = {}};
    said.pid = static_cast<std::uint32_t>(::getpid());
    send(said);
    reached("joined");
  }

  void state_facts() {
    reached("agreeing");
    send(protocols::agree{{{"spec", differs_ ? "another" : digest_}}});
  }

  void hear(const protocols::verdict& judged) {
    if (!judged.agreed)
      leave(base::exit_code::parity);
    reached("agreed");
  }

  void report(life_state state) {
    send(protocols::progress{state, {}});
    reached(protocols::name(state));
  }

  void admit(const protocols::rejoin& order) {
    std::printf("admits generation %u\n", order.ranks.at(0).born.value), std::fflush(stdout);
    reached("rejoining");
    send(protocols::rejoined{order.ranks.at(0).born, 1});
    send(protocols::rejoined{order.ranks.at(0).born});
  }

  /// As a front does, and shows what has changed.
  void take_view(const protocols::cluster_view& news) {
    std::string shown;
    for (const auto& rank : news.ranks)
      shown += " " + std::to_string(rank.rank.value) + ":" + std::string{protocols::name(rank.state)} + ":" +
               std::to_string(rank.restarts) + ":" + std::to_string(rank.values.size());
    if (shown != std::exchange(seen_, shown))
      std::printf("view%s\n", shown.c_str()), std::fflush(stdout);
    send(protocols::counters{.state = life_state::ready, .view_taken = news.number});
  }

  void end(const protocols::shutdown& order) {
    std::printf("%s: %s\n", order.drain ? "drain" : "abort", order.reason.c_str());
    std::fflush(stdout);
    reached(order.drain ? "draining" : "aborting");
    if (stays_)
      return;
    send(protocols::leave{order.reason});
    leave(base::exit_code::done);
  }

  template <class Message>
  void send(const Message& message) {
    if (!link_.send(message))
      leave(base::exit_code::supervisor_gone);
  }

  void reached(std::string_view moment) {
    for (const auto& order : given_.orders)
      if (order.starts_with(std::string{moment} + ":"))
        act(order.substr(moment.size() + 1));
  }

  void act(const std::string& action) {
    if (action == "die")
      ::raise(SIGKILL);
    else if (action == "fail")
      fail();
    else if (action == "peer-gone")
      leave(base::exit_code::peer_gone);
    else if (action == "hang")
      hang();
    else if (action == "stay")
      stays_ = true;
    else if (action == "differ")
      differs_ = true;
    else if (action == "stop-supervisor")
      ::kill(given_.supervisor, SIGSTOP);
    else if (action == "kill-supervisor")
      ::kill(given_.supervisor, SIGKILL);
    else if (action == "term-supervisor")
      ::kill(given_.supervisor, SIGTERM);
    else if (action == "int-supervisor")
      ::kill(given_.supervisor, SIGINT);
    else if (action == "garbage")
      write_garbage();
    else if (action == "count")
      count(protocols::shared_metric::stale_dropped);
    else if (action == "count-what-is-none")
      count(protocols::metric_number{99});
    else if (action == "hang-up")
      ::close(given_.control_fd), hang();
    else if (action == "die-slowly")
      die_slowly();
    else if (action.starts_with("accuse:"))
      accuse(static_cast<std::uint32_t>(std::stoul(action.substr(7))));
    else if (action == "start-another")
      start_another();
    else if (action == "write")
      std::printf("first\nsecond "), std::fprintf(stderr, "line\n"), std::fflush(stdout);
  }

  [[noreturn]] void fail() {
    send(protocols::error{.code = static_cast<std::uint16_t>(protocols::fault::executor_failed),
                          .message = "out of paper",
                          .origin = protocols::rank_id{given_.rank},
                          .call = protocols::call_id{17},
                          .where = "step",
                          .request = {}});
    leave(base::exit_code::executor);
  }

  /// As a process of a busy machine does: its sockets are closed some time before its end can be seen.
  [[noreturn]] void die_slowly() const {
    ::close(given_.control_fd);
    ::poll(nullptr, 0, 350);
    ::raise(SIGKILL);
    hang();
  }

  /// Says that its lane to a peer has ended, and a line once the supervisor has had time to read that.
  void accuse(std::uint32_t peer) {
    send(protocols::error{.code = static_cast<std::uint16_t>(protocols::fault::peer_gone),
                          .message = "rank " + std::to_string(peer),
                          .origin = protocols::rank_id{peer},
                          .call = {},
                          .where = "edge",
                          .request = {}});
    ::poll(nullptr, 0, 120);
    std::printf("has accused\n"), std::fflush(stdout);
  }

  void count(protocols::metric_number what) {
    send(protocols::counters{.state = life_state::ready, .values = {{what, protocols::about_nobody, 3}}});
  }

  void write_garbage() const {
    const std::string bytes(100, 'x');
    [[maybe_unused]] const auto written = ::write(given_.control_fd, bytes.data(), bytes.size());
  }

  static void start_another() {
    if (::fork() == 0)
      hang();
  }

  arguments given_;
  cluster::control_link link_;
  std::string digest_;
  std::string seen_; ///< the last view, as it was shown
  bool stays_ = false;
  bool differs_ = false;
};

} // namespace

int main(int count, char** words) {
  const auto given = parse(count, words);
  if (given.binds && !cluster::bind_to_supervisor(given.death_fd, given.supervisor))
    leave(base::exit_code::supervisor_gone);
  if (given.watches_pulse && !cluster::leave_with_supervisor(given.death_fd, given.pulse_fd, given.supervisor_silent))
    leave(base::exit_code::config);
  stub_rank{given}.live();
}
