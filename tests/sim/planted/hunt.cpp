#include "tests/sim/planted/hunt.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string_view>

#include "protocols/invariant.hpp"
#include "runtime/base/unique_fd.hpp"
#include "tests/sim/schedule.hpp"

namespace troupe::sim {

namespace {

using clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

/// A schedule takes some 10 ms; one that takes so long on a loaded machine does not end.
constexpr auto schedule_deadline = 60s;
constexpr rlim_t memory_max = rlim_t{4} << 30;

/// What a worker has to say, also when it ends in the middle of a schedule.
struct notes {
  std::atomic<std::uint64_t> seed; ///< of the schedule under way, or the last
  std::atomic<bool> done;          ///< it has ended by itself
  std::atomic<bool> found;
  std::uint64_t tried; ///< schedules before that seed
  std::uint64_t unfit;
  double seconds;
  std::array<char, 64> check;
  std::array<char, 400> breach;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

notes* mine = nullptr; ///< in a worker

template <std::size_t Size>
void write(std::array<char, Size>& to, std::string_view text) noexcept {
  const auto length = std::min(text.size(), Size - 1);
  std::memcpy(to.data(), text.data(), length);
  to[length] = '\0';
}

double seconds_of(const timeval& time) noexcept {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

void end_by_invariant(const char* label, const char* condition, const char*, int) noexcept {
  write(mine->check, std::string_view{"invariant "});
  write(mine->breach, condition);
  std::strncat(mine->check.data(), label, mine->check.size() - 1 - std::strlen(mine->check.data()));
  mine->found = true;
  ::_exit(0);
}

schedule_result run(int bug, std::uint64_t seed) {
  planted_bug = bug;
  return run_schedule({.seed = seed, .ranks_max = 12, .questions_max = 24, .calm = false, .tells = false, .spec = {}});
}

/// Weighs finds by checks that the product fails too.
class doubt {
public:
  explicit doubt(const failing_checks& of_product) : of_product_(of_product) {}

  /// After `tried` schedules. True: `check` fails more often than by chance.
  bool ends(const std::string& check, std::uint64_t tried) {
    const auto rate = of_product_.find(check);
    if (rate == of_product_.end())
      return true;
    const auto expected = rate->second * static_cast<double>(tried);
    return ++seen_[check] > expected + deviations * std::sqrt(expected) + finds_min;
  }

private:
  static constexpr double deviations = 4;
  static constexpr double finds_min = 3;

  const failing_checks& of_product_;
  std::map<std::string, double> seen_;
};

/// `schedules`: at most so many, from `seed` on.
void work(int bug, std::uint64_t seed, std::uint64_t schedules, const failing_checks& of_product) {
  doubt doubts{of_product};
  for (; schedules > 0; --schedules, ++seed) {
    mine->seed = seed;
    const auto outcome = run(bug, seed);
    if (!outcome.good()) {
      if (bug == 0 || (run(0, seed).good() && doubts.ends(outcome.check, mine->tried + 1))) {
        write(mine->check, outcome.check);
        write(mine->breach, outcome.breach);
        mine->found = true;
        break;
      }
      ++mine->unfit;
    }
    ++mine->tried;
  }
  mine->done = true;
}

/// A process that works on one trial.
class worker {
public:
  worker(trial& of, int bug, std::uint64_t seed, std::uint64_t schedules, const failing_checks& of_product)
      : of_(&of), checks_(bug == 0) {
    auto* const memory = ::mmap(nullptr, sizeof(notes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
      throw std::runtime_error{"no memory to share with a worker"};
    notes_ = new (memory) notes{};
    notes_->seed = seed;
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0)
      throw std::runtime_error{"no pipe for a worker"};
    pid_ = ::fork();
    if (pid_ < 0)
      throw std::runtime_error{"no process for a worker"};
    if (pid_ == 0) {
      mine = notes_;
      protocols::end_broken_invariants_by(end_by_invariant);
      const rlimit memory_limit{memory_max, memory_max};
      const rlimit no_core{0, 0};
      ::setrlimit(RLIMIT_AS, &memory_limit);
      ::setrlimit(RLIMIT_CORE, &no_core);
      work(bug, seed, schedules, of_product);
      ::_exit(0);
    }
    end_ = base::unique_fd{ends[0]};
    ::close(ends[1]);
  }
  ~worker() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::munmap(notes_, sizeof(notes));
  }
  worker(const worker&) = delete;
  worker& operator=(const worker&) = delete;

  int end() const noexcept { return end_.get(); } ///< readable once it has ended
  trial& of() const noexcept { return *of_; }
  bool checks() const noexcept { return checks_; } ///< whether a seed fails without the bug
  const notes& said() const noexcept { return *notes_; }

  /// Ends a worker whose schedule does not end.
  void look(clock::time_point now) {
    if (const auto seed = notes_->seed.load(); seed != seen_)
      seen_ = seed, since_ = now;
    if (now - since_ < schedule_deadline)
      return;
    ::kill(pid_, SIGKILL);
    stuck_ = true;
  }

  /// Ends it as far as it has come.
  void stop() {
    ::kill(pid_, SIGKILL);
    int status = 0;
    rusage used{};
    ::wait4(pid_, &status, 0, &used);
    pid_ = 0;
    notes_->seconds = seconds_of(used.ru_utime) + seconds_of(used.ru_stime);
  }

  /// Once `end` is readable.
  void reap() {
    int status = 0;
    rusage used{};
    ::wait4(pid_, &status, 0, &used);
    pid_ = 0;
    notes_->seconds = seconds_of(used.ru_utime) + seconds_of(used.ru_stime);
    if (notes_->done || notes_->found)
      return;
    const auto number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    write(notes_->check, stuck_ ? std::string{"it ends"} : std::string{"crash "} + ::strsignal(number));
    notes_->found = true;
  }

private:
  trial* of_;
  bool checks_;
  notes* notes_ = nullptr;
  pid_t pid_ = 0;
  base::unique_fd end_;
  std::uint64_t seen_ = 0;
  clock::time_point since_ = clock::now();
  bool stuck_ = false;
};

/// Whether the worker's word for a find is not enough: it could not run the seed without the bug any more.
bool ended_in_the_middle(const worker& one) {
  return one.said().found && !one.said().done;
}

void take(trial& to, const notes& of) {
  to.tried += of.tried;
  to.unfit += of.unfit;
  to.seconds += of.seconds;
  if (!of.found)
    return;
  ++to.tried;
  to.found = of.seed.load();
  to.check = of.check.data();
  to.breach = of.breach.data();
}

std::unique_ptr<worker> set_to_work(trial& of, const hunt_options& how) {
  return std::make_unique<worker>(of, of.bug, of.from + of.tried, how.schedules_max - of.tried, how.of_product);
}

void await_any(std::vector<std::unique_ptr<worker>>& busy) {
  std::vector<pollfd> ends;
  for (const auto& one : busy)
    ends.push_back({.fd = one->end(), .events = POLLIN, .revents = 0});
  ::poll(ends.data(), ends.size(), 500);
  for (const auto& one : busy)
    one->look(clock::now());
}

bool has_ended(const worker& one) {
  pollfd end{.fd = one.end(), .events = POLLIN, .revents = 0};
  return ::poll(&end, 1, 0) > 0;
}

} // namespace

failing_checks look_at_product(std::uint64_t seed, std::uint64_t schedules) {
  failing_checks out;
  for (auto one = seed; one < seed + schedules; ++one)
    if (const auto outcome = run(0, one); !outcome.good())
      out[outcome.check] += 1.0 / static_cast<double>(schedules);
  return out;
}

void hunt(std::vector<trial>& trials, const hunt_options& how, const std::function<void(const trial&)>& tell) {
  std::vector<std::unique_ptr<worker>> busy;
  auto next = trials.begin();
  const auto began = clock::now();
  const auto is_over = [&] { return how.lasts && clock::now() - began >= *how.lasts; };
  while ((next != trials.end() || !busy.empty()) && !is_over()) {
    for (; next != trials.end() && busy.size() < how.workers; ++next)
      if (!next->found && next->tried < how.schedules_max)
        busy.push_back(set_to_work(*next, how));
    if (busy.empty())
      continue;
    await_any(busy);
    for (auto& one : busy) {
      if (!has_ended(*one))
        continue;
      one->reap();
      auto& of = one->of();
      if (one->checks()) { // the seed without the bug
        if (one->said().found) {
          of.found.reset();
          ++of.unfit;
        }
      } else {
        take(of, one->said());
        if (ended_in_the_middle(*one)) {
          one = std::make_unique<worker>(of, 0, *of.found, 1, how.of_product);
          continue;
        }
      }
      if (!of.found && of.tried < how.schedules_max) {
        one = set_to_work(of, how);
        continue;
      }
      tell(of);
      one.reset();
    }
    std::erase(busy, nullptr);
  }
  for (const auto& one : busy) {
    one->stop();
    if (!one->checks())
      take(one->of(), one->said());
    tell(one->of());
  }
}

} // namespace troupe::sim
