#include "runtime/base/outlet.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "runtime/base/line_writer.hpp"

namespace troupe::base {

struct outlet::state {
  state(int to, std::string losses) : fd(to), writer(std::move(losses)) {}

  const int fd;
  std::mutex lock;
  std::condition_variable changed;
  line_writer writer; ///< the thread's alone while it writes
  manner how = manner::waits;
  bool served = false; ///< the thread was started
  std::string queue;
  bool writing = false;
  bool gave_up = false;
  std::uint64_t lost = 0; ///< lines that found no room since the queue was last taken
  bool has_put = false;   ///< the queue holds an answer
  int problem = 0;

  bool idle() const { return !writing && queue.empty() && lost == 0; }
  void fails(int error) { problem = problem == 0 ? error : problem; }
};

namespace {

/// With every signal blocked: they are for the threads that wait for them.
template <class Body>
bool start_thread(Body body) noexcept {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  bool started = true;
  try {
    std::thread{std::move(body)}.detach();
  } catch (const std::system_error&) { // the library's only way to say it
    started = false;
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return started;
}

} // namespace

outlet::outlet(int fd, std::string losses) : state_(std::make_shared<state>(fd, std::move(losses))) {}

void outlet::become(manner how) noexcept {
  const std::lock_guard guard{state_->lock};
  state_->how = how;
  if (how == manner::thread && !state_->served)
    state_->served = start_thread([mine = state_] { serve(mine); });
}

void outlet::serve(const std::shared_ptr<state>& of) noexcept {
  std::unique_lock guard{of->lock};
  for (;;) {
    of->changed.wait(guard, [&] { return !of->queue.empty() || of->lost > 0; });
    const auto text = std::exchange(of->queue, {});
    const auto lost = std::exchange(of->lost, 0);
    const bool answers = std::exchange(of->has_put, false);
    of->writing = true;
    of->changed.notify_all(); // there is room
    guard.unlock();
    bool whole = of->writer.write(of->fd, text, when_full::wait);
    if (lost > 0) { // after the text that had room
      of->writer.count_lost(lost, EAGAIN);
      whole = of->writer.write(of->fd, {}, when_full::wait) && whole;
    }
    guard.lock();
    of->writing = false;
    if (answers && !whole)
      of->fails(of->writer.error());
    of->changed.notify_all();
  }
}

void outlet::offer(std::string_view lines) noexcept {
  std::unique_lock guard{state_->lock};
  if (state_->how != manner::thread) {
    state_->writer.write(state_->fd, lines, state_->how == manner::waits ? when_full::briefly : when_full::stop);
    return;
  }
  if (!state_->served)
    return;
  if (state_->lost > 0 || state_->queue.size() + lines.size() > queue_bytes_max)
    state_->lost += lines_of(lines);
  else
    state_->queue += lines;
  state_->changed.notify_all();
}

void outlet::put(std::string_view text) noexcept {
  std::unique_lock guard{state_->lock};
  if (state_->problem != 0 || state_->gave_up || text.empty())
    return;
  if (state_->how != manner::thread) {
    if (const auto end = write_all(state_->fd, text, when_full::wait); end.error != 0)
      state_->fails(end.error);
    return;
  }
  if (!state_->served)
    return state_->fails(EAGAIN);
  state_->changed.wait(
      guard, [&] { return state_->queue.size() < queue_bytes_max || state_->problem != 0 || state_->gave_up; });
  if (state_->problem != 0 || state_->gave_up)
    return;
  state_->queue += text;
  state_->has_put = true;
  state_->changed.notify_all();
}

bool outlet::flush(std::optional<std::chrono::steady_clock::time_point> deadline) noexcept {
  std::unique_lock guard{state_->lock};
  if (state_->how != manner::thread || !state_->served)
    return true;
  const auto ended = [&] { return state_->idle() || state_->gave_up; };
  if (deadline)
    state_->changed.wait_until(guard, *deadline, ended);
  else
    state_->changed.wait(guard, ended);
  return state_->idle();
}

void outlet::give_up() noexcept {
  const std::lock_guard guard{state_->lock};
  state_->gave_up = true;
  state_->changed.notify_all();
}

int outlet::problem() const noexcept {
  const std::lock_guard guard{state_->lock};
  return state_->problem;
}

outlet& standard_output() noexcept {
  static outlet out{STDOUT_FILENO};
  return out;
}

outlet& standard_error() noexcept {
  static outlet err{STDERR_FILENO, "troupe: "};
  return err;
}

void write_last_words(std::string_view line) noexcept {
  constexpr int patience_ms = 100;
  pollfd output{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (::poll(&output, 1, patience_ms) > 0) {
    // There is nobody left to tell that they could not be written.
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
  }
}

void hold_standard_descriptors() noexcept {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(fd, F_GETFD) < 0 && errno == EBADF)
      (void)::open("/dev/null", O_RDONLY); // the lowest free number, which is this one
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

} // namespace troupe::base
