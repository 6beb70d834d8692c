#include "runtime/cluster/supervised_rank.hpp"

namespace troupe::cluster {
namespace {

/// Read in one turn, so that one rank that floods its log does not keep the others waiting.
constexpr std::size_t output_turn_bytes = 256 * 1024;

} // namespace

supervised_rank::supervised_rank(const protocols::rank_plan& plan, child_process process, control_link link,
                                 const std::filesystem::path& log_path, std::string prefix)
    : plan_(plan), process_(std::move(process)), link_(std::move(link)), log_(log_path), prefix_(std::move(prefix)) {}

protocols::result<std::optional<protocols::frame_view>> supervised_rank::next_frame() {
  if (control_lost_)
    return std::nullopt;
  auto frame = link_.next();
  if (frame)
    return frame;
  control_lost_ = true;
  if (frame.error().code == protocols::fault::peer_gone)
    return std::nullopt;
  return frame;
}

void supervised_rank::read_output(const line_cutter::sink& on_line) {
  if (output_ended_)
    return;
  const auto pass_on = [&](std::string_view line) {
    log_.line({line});
    on_line(prefix_ + std::string{line});
  };
  output_ended_ = !read_available(process_.output(), output_turn_bytes,
                                  [&](std::string_view bytes) { lines_.add(bytes, pass_on); });
  if (output_ended_ || end_)
    lines_.finish(pass_on);
  log_.flush();
}

bool supervised_rank::reap() {
  if (end_)
    return false;
  end_ = process_.reap();
  return end_.has_value();
}

bool supervised_rank::arm(std::vector<pollfd>& fds) {
  if (end_)
    return true;
  fds.push_back({process_.pidfd(), POLLIN, 0});
  if (!output_ended_)
    fds.push_back({process_.output(), POLLIN, 0});
  if (control_lost_)
    return true;
  const fabric::lane::interest wanted{.readable = true, .writable = false};
  const bool sleeps = link_.lane().arm(wanted);
  const auto set = link_.lane().waitables(wanted);
  fds.insert(fds.end(), set.fds.begin(), set.fds.begin() + static_cast<std::ptrdiff_t>(set.count));
  return sleeps;
}

void supervised_rank::disarm() {
  if (!end_ && !control_lost_)
    link_.lane().disarm();
}

} // namespace troupe::cluster
