#include "tests/sim/batch.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <string_view>
#include <utility>

#include "protocols/invariant.hpp"
#include "tests/sim/draw.hpp"
#include "tests/sim/reach.hpp"
#include "tests/sim/weather.hpp"

namespace troupe::sim {

namespace {

using clock = std::chrono::steady_clock;

constexpr auto schedule_deadline = std::chrono::seconds{60}; ///< a schedule takes milliseconds
constexpr int look_ms = 100;

struct failure_note {
  std::atomic<bool> whole;
  std::uint64_t seed;
  std::uint64_t course;
  std::array<char, 64> check;
  std::array<char, 600> breach;
};

struct worker_note {
  std::atomic<std::uint64_t> begun; ///< schedules
  std::atomic<std::uint64_t> seed;  ///< of the schedule under way
  std::atomic<std::uint64_t> course;
  std::atomic<std::uint64_t> schedules;
  std::atomic<std::uint64_t> steps;
  std::atomic<std::uint64_t> questions;
  std::atomic<std::uint64_t> answered;
  std::atomic<std::uint64_t> virtual_ms;
  std::atomic<std::uint64_t> slowest_seed;
  std::atomic<std::uint64_t> slowest_us;
};

constexpr std::size_t reach_max = 4096;
constexpr std::size_t kept_max = 65'536;

struct kept_note {
  std::atomic<bool> whole;
  kept_schedule what;
};

/// What all of the processes share.
struct shared_notes {
  std::atomic<std::uint64_t> next; ///< schedule
  std::array<std::atomic<std::uint64_t>, reach_max> reach;
  std::array<std::atomic<std::uint32_t>, reach_max> magnitudes; ///< of counts in one schedule, as bits
  std::atomic<std::uint64_t> kept_end;
  std::array<kept_note, kept_max> kept;
  std::atomic<bool> stop;
  std::atomic<std::uint64_t> failed;
  std::array<failure_note, failures_max> failures;
  std::array<worker_note, 64> workers;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

shared_notes* notes = nullptr;
worker_note* mine = nullptr; ///< in a worker

template <std::size_t Size>
void write(std::array<char, Size>& to, std::string_view text) noexcept {
  const auto length = std::min(text.size(), Size - 1);
  std::memcpy(to.data(), text.data(), length);
  to[length] = '\0';
}

void note_failure(const worker_note& by, std::string_view check, std::string_view breach) noexcept {
  const auto place = notes->failed.fetch_add(1);
  if (place >= failures_max)
    return;
  auto& one = notes->failures[place];
  one.seed = by.seed;
  one.course = by.course;
  write(one.check, check);
  write(one.breach, breach);
  one.whole = true;
}

void end_by_invariant(const char* label, const char* condition, const char* file, int line) noexcept {
  std::array<char, 64> check{};
  std::array<char, 600> breach{};
  std::snprintf(check.data(), check.size(), "invariant %s", label);
  std::snprintf(breach.data(), breach.size(), "%s (%s:%d)", condition, file, line);
  note_failure(*mine, check.data(), breach.data());
  ::_exit(0);
}

/// None once, some, many: a schedule that does something ten times is another one than that which does it once.
std::uint32_t magnitude(std::uint64_t count) noexcept {
  return count == 0 ? 0 : 1u << std::min<std::uint64_t>(std::bit_width(count) / 2, 4);
}

/// True: something that no schedule before has reached, or so often.
bool note_reach(const std::vector<std::uint64_t>& counts) noexcept {
  bool news = false;
  for (std::size_t place = 0; place < std::min(counts.size(), reach_max); ++place) {
    if (counts[place] == 0)
      continue;
    notes->reach[place] += counts[place];
    const auto bit = magnitude(counts[place]);
    news = (notes->magnitudes[place].fetch_or(bit) & bit) == 0 || news;
  }
  return news;
}

void keep(const schedule_options& one) noexcept {
  if (const auto place = notes->kept_end.fetch_add(1); place < kept_max) {
    notes->kept[place].what = {one.seed, one.course};
    notes->kept[place].whole = true;
  }
}

/// What the corpus keeps comes first. Then fresh seeds, and with a corpus another course of a kept one after each.
void choose(schedule_options& each, std::uint64_t number, const batch_options& options) noexcept {
  if (options.from == nullptr) {
    each.seed += number;
    return;
  }
  const auto& before = options.from->kept();
  if (number < before.size()) {
    each.seed = before[number].seed;
    each.course = before[number].course;
    return;
  }
  number -= before.size();
  const auto kept = std::min<std::uint64_t>(notes->kept_end, kept_max);
  const auto chosen = mix(each.seed + number, 0xC0) % std::max<std::uint64_t>(kept, 1);
  if (number % 2 == 1 && kept > 0 && notes->kept[chosen].whole) {
    each.course = mix(each.seed + number, 0xC1);
    each.seed = notes->kept[chosen].what.seed;
  } else
    each.seed += number / 2;
}

void work(const batch_options& options, std::uint64_t end) {
  protocols::end_broken_invariants_by(end_by_invariant);
  while (!notes->stop) {
    auto each = options.each;
    const auto number = notes->next.fetch_add(1);
    if (number >= end)
      return;
    choose(each, number, options);
    mine->seed = each.seed;
    mine->course = each.course;
    ++mine->begun;
    const auto began = clock::now();
    const auto outcome = run_schedule(each);
    const auto us =
        static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(clock::now() - began).count());
    if (us > mine->slowest_us) {
      mine->slowest_us = us;
      mine->slowest_seed = each.seed;
    }
    ++mine->schedules;
    mine->steps += outcome.steps;
    mine->questions += outcome.questions;
    mine->answered += outcome.answered;
    mine->virtual_ms += static_cast<std::uint64_t>(outcome.lasted.count() / 1'000'000);
    if (note_reach(outcome.reach))
      keep(each);
    if (!outcome.good())
      note_failure(*mine, outcome.check, outcome.breach);
  }
}

struct process_of_worker {
  pid_t pid = -1;
  std::uint64_t begun = 0; ///< last seen
  clock::time_point since;
};

void start(process_of_worker& one, std::size_t place, const batch_options& options, std::uint64_t end) {
  one.pid = ::fork();
  one.since = clock::now();
  if (one.pid != 0)
    return;
  mine = &notes->workers[place];
  work(options, end);
  ::_exit(1); // by itself: there is nothing left to do
}

/// False: it has nothing left to do.
bool look_after(process_of_worker& one, std::size_t place, const batch_options& options, std::uint64_t end) {
  const auto& note = notes->workers[place];
  if (one.begun != note.begun) {
    one.begun = note.begun;
    one.since = clock::now();
  } else if (clock::now() - one.since > schedule_deadline) {
    note_failure(note, "an end", "the schedule does not end");
    ::kill(one.pid, SIGKILL);
    one.since = clock::now();
  }
  int status = 0;
  if (::waitpid(one.pid, &status, WNOHANG) != one.pid)
    return true;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
    return false;
  if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
    note_failure(note, "no crash", std::string{"signal "} + std::to_string(WTERMSIG(status)));
  start(one, place, options, end);
  return true;
}

/// What was kept before and has not been run again stays.
void count_kept(batch_totals& all, const batch_options& options, std::uint64_t end) {
  for (std::size_t place = 0; place < std::min<std::size_t>(notes->kept_end, kept_max); ++place)
    if (notes->kept[place].whole)
      all.kept.push_back(notes->kept[place].what);
  const auto begun = std::min<std::uint64_t>(notes->next, end);
  if (options.from == nullptr) {
    all.fresh = begun;
    return;
  }
  const auto& before = options.from->kept();
  const auto again = std::min<std::uint64_t>(begun, before.size());
  all.kept.insert(all.kept.end(), before.begin() + static_cast<std::ptrdiff_t>(again), before.end());
  all.fresh = (begun - again + 1) / 2;
}

batch_totals totals(std::size_t workers, clock::time_point began) {
  batch_totals all;
  for (std::size_t i = 0; i < workers; ++i) {
    const auto& one = notes->workers[i];
    all.schedules += one.schedules;
    all.steps += one.steps;
    all.questions += one.questions;
    all.answered += one.answered;
    all.virtual_seconds += static_cast<double>(one.virtual_ms) / 1e3;
    if (const auto slowest = static_cast<double>(one.slowest_us) / 1e6; slowest > all.slowest_seconds) {
      all.slowest_seconds = slowest;
      all.slowest_seed = one.slowest_seed;
    }
  }
  all.seconds = std::chrono::duration<double>(clock::now() - began).count();
  all.failed = notes->failed;
  for (const auto& each : notes->failures)
    if (each.whole)
      all.failures.push_back({each.seed, each.course, each.check.data(), each.breach.data()});
  for (std::size_t place = 0; place < reachable().size(); ++place)
    all.reach.push_back(notes->reach[place]);
  return all;
}

} // namespace

batch_totals run_batch(const batch_options& options, const std::function<void(const batch_totals&)>& tell) {
  void* const memory = ::mmap(nullptr, sizeof(shared_notes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  TROUPE_ASSERT("memory", memory != MAP_FAILED);
  notes = new (memory) shared_notes{};
  TROUPE_ASSERT("reach", reachable().size() <= reach_max);
  const auto end = options.schedules.value_or(UINT64_MAX);
  const auto began = clock::now();

  std::vector<process_of_worker> workers(std::clamp<std::size_t>(options.workers, 1, notes->workers.size()));
  for (std::size_t i = 0; i < workers.size(); ++i)
    start(workers[i], i, options, end);
  const auto count = workers.size();
  std::vector<bool> done(count);
  while (std::ranges::find(done, false) != done.end()) {
    ::poll(nullptr, 0, look_ms);
    for (std::size_t i = 0; i < count; ++i)
      done[i] = done[i] || !look_after(workers[i], i, options, end);
    if ((options.lasts && clock::now() - began >= *options.lasts) || notes->failed >= failures_max)
      notes->stop = true;
    auto so_far = totals(count, began);
    count_kept(so_far, options, end);
    tell(so_far);
  }
  auto all = totals(count, began);
  count_kept(all, options, end);
  ::munmap(memory, sizeof(shared_notes));
  return all;
}

namespace {

/// The check that a schedule breaks; empty: none.
std::string check_that_fails(const schedule_options& one) {
  const auto all = run_batch({.each = one, .schedules = 1, .lasts = {}, .workers = 1}, [](const batch_totals&) {});
  return all.failures.empty() ? std::string{} : all.failures.front().check;
}

/// The first of `candidates` with which it fails still.
template <class Values, class Set>
void lower(schedule_options& failing, const std::string& check, const Values& candidates, Set set) {
  for (const auto value : candidates) {
    auto smaller = failing;
    if (!set(smaller, value))
      continue;
    if (check_that_fails(smaller) == check) {
      failing = smaller;
      return;
    }
  }
}

} // namespace

schedule_options shrink(schedule_options failing) {
  const auto check = check_that_fails(failing);
  if (check.empty())
    return failing;
  lower(failing, check, std::array{1u, 2u, 3u, 5u, 8u, 13u}, [](schedule_options& one, std::uint32_t questions) {
    return questions < std::exchange(one.questions_max, questions);
  });
  if (!failing.spec)
    lower(failing, check, std::array{3u, 4u, 5u, 6u, 8u, 10u},
          [](schedule_options& one, std::uint32_t ranks) { return ranks < std::exchange(one.ranks_max, ranks); });
  for (std::size_t i = 0; i < mischiefs().size(); ++i)
    lower(failing, check, std::array{std::uint32_t{1} << i}, [](schedule_options& one, std::uint32_t bit) {
      one.without |= bit;
      return true;
    });
  lower(failing, check, std::array{0, 50, 100, 200, 400, 800, 1600, 3200, 6400},
        [](schedule_options& one, int milliseconds) {
          one.storm_max = std::chrono::milliseconds{milliseconds};
          return true;
        });
  return failing;
}

} // namespace troupe::sim
