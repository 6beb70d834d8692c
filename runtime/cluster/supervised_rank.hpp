#pragma once

#include <signal.h>

#include <optional>
#include <string>

#include "protocols/cluster/cluster_plan.hpp"
#include "runtime/cluster/control_link.hpp"
#include "runtime/cluster/job_directory.hpp"
#include "runtime/cluster/log_file.hpp"
#include "runtime/cluster/output_lines.hpp"
#include "runtime/cluster/process.hpp"

namespace troupe::cluster {

/// What the supervisor holds of one rank: its process, its control socket, its output. Only carries; what an event
/// means is the life machine's.
class supervised_rank {
public:
  supervised_rank(const protocols::rank_plan& plan, child_process process, control_link link,
                  const std::filesystem::path& log_path, std::string prefix);

  const protocols::rank_plan& plan() const noexcept { return plan_; }
  pid_t pid() const noexcept { return process_.pid(); }
  /// As it has said of itself; empty: nothing yet, or on none.
  const std::string& device() const noexcept { return device_; }
  void computes_on(std::string device) { device_ = std::move(device); }
  const std::string& http() const noexcept { return http_; } ///< where its door listens
  void listens_at(std::string http) { http_ = std::move(http); }
  bool running() const noexcept { return !end_; }
  const std::optional<protocols::rank_end>& end() const noexcept { return end_; }
  bool was_killed() const noexcept { return killed_; }
  bool control_lost() const noexcept { return control_lost_; }

  template <class Message>
  protocols::result<void> send(const Message& message) {
    return link_.send(message);
  }
  void kill() noexcept {
    killed_ = true;
    process_.signal(SIGKILL);
  }

  /// The next frame, valid until the next call; nothing once the socket has ended, which is noted.
  /// Errors: those of a frame that is not as it should be, once.
  protocols::result<std::optional<protocols::frame_view>> next_frame();

  /// Output so far, line by line with the prefix; everything when the rank has ended.
  void read_output(const line_cutter::sink& on_line);

  /// Sees the process's end, once.
  bool reap();

  /// Adds what to poll for. False: do not sleep, a frame is there already.
  bool arm(std::vector<pollfd>& fds);
  void disarm();

private:
  const protocols::rank_plan& plan_;
  child_process process_;
  std::string device_;
  std::string http_;
  control_link link_;
  line_cutter lines_;
  log_file log_;
  std::string prefix_; ///< "host:rank:label "
  std::optional<protocols::rank_end> end_;
  bool control_lost_ = false;
  bool output_ended_ = false;
  bool killed_ = false;
};

} // namespace troupe::cluster
