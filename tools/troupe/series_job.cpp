#include "tools/troupe/series_job.hpp"

#include <poll.h>

#include <algorithm>

#include <fmt/format.h>

#include "runtime/base/clock.hpp"
#include "runtime/cluster/spec_file.hpp"
#include "tools/troupe/checked_spec.hpp"

namespace troupe::tools {

using namespace protocols;
using namespace std::chrono_literals;

namespace {

constexpr auto look_period = 5ms;
constexpr auto last_words = 1s; ///< of the front to those who asked
const std::string job = "series";

} // namespace

result<series_setup> read_series_setup(const std::filesystem::path& spec, const std::filesystem::path& pages) {
  auto loaded = cluster::read_spec(spec);
  if (!loaded)
    return tl::unexpected{loaded.error()};
  if (const auto serves = check_serves(loaded->spec, spec.string(), "a series of drills"); !serves)
    return tl::unexpected{serves.error()};
  auto plan = make_plan(loaded->spec);
  if (!plan)
    return tl::unexpected{plan.error()};
  auto read = cluster::read_drill_pages(pages);
  if (!read)
    return tl::unexpected{read.error()};
  return series_setup{std::filesystem::absolute(spec), std::move(loaded->spec), std::move(*plan), std::move(*read)};
}

series_job::series_job(const series_setup& setup, asking what, std::unique_ptr<drill_folder> folder,
                       drill_cluster running)
    : asked_(as_drill(std::move(what))), front_(setup.plan.front()), folder_(std::move(folder)), launched_(base::now()),
      running_(std::move(running)), load_(asked_) {}

cluster::drill series_job::as_drill(asking what) {
  cluster::drill out;
  out.pages = std::move(what.pages);
  out.load.repeat = what.repeat;
  out.load.concurrency = what.at_once;
  return out;
}

result<std::unique_ptr<series_job>> series_job::launch(const series_setup& setup, asking what) {
  auto folder = std::make_unique<drill_folder>();
  if (folder->path().empty())
    return fail(fault::config_invalid, "cannot make a folder under /tmp");
  auto running = drill_cluster::launch(setup.spec, job, folder->path(), {});
  if (!running)
    return tl::unexpected{running.error()};
  return std::unique_ptr<series_job>{new series_job{setup, std::move(what), std::move(folder), std::move(*running)}};
}

bool series_job::until(time_point deadline, const std::function<bool()>& what) {
  while (!what()) {
    const auto now = base::now();
    if (now >= deadline)
      return false;
    std::vector<pollfd> fds;
    for (const int fd : running_.waitables())
      fds.push_back({fd, POLLIN, 0});
    ::poll(fds.data(), fds.size(),
           static_cast<int>(
               std::chrono::ceil<std::chrono::milliseconds>(std::min<duration>(look_period, deadline - now)) / 1ms));
    running_.poll();
    load_.step(base::now());
  }
  return true;
}

void series_job::pass(time_point deadline) {
  (void)until(deadline, [] { return false; }); // it ends by the deadline alone
}

result<void> series_job::begin_to_ask() {
  return load_.is_connected() ? result<void>{} : load_.connect(running_.file("front.sock").string(), front_);
}

bool series_job::has_recovered() const {
  return tools::has_recovered(running_.status());
}

void series_job::see_all_leave(series_trial& trial, time_point since, std::string_view name) {
  const auto known = running_.alive();
  const auto gone = [&] {
    return running_.has_ended() && std::ranges::none_of(known, is_alive) && running_.alive().empty();
  };
  if (until(since + leave_deadline, gone))
    return trial.measured(name, base::now() - since);
  const auto left = running_.alive().size();
  trial.left_alive += left;
  trial.problem(fmt::format("{}: {} processes are left after {} s", name, left, leave_deadline / 1s));
}

void series_job::conclude(series_trial& trial) {
  if (running_.has_ended()) // a process that is ending lets its memory go before its sockets
    until(base::now() + last_words, [&] { return !load_.is_connected(); });
  trial.judge(load_);
  if (trial.passed())
    return;
  trial.kept = keep().string();
}

std::filesystem::path series_job::keep() {
  folder_->keep();
  return folder_->path() / job;
}

} // namespace troupe::tools
