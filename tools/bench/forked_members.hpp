#pragma once

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <span>
#include <vector>

#include "protocols/fault.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::bench {

/// Processes of one program, one for each GPU: a GPU's memory cannot be opened by the process that made it. They meet
/// on a page that all of them share. One that waits a minute for another ends the lot.
class forked_members {
public:
  /// Before anything has touched a GPU. Runs `play(self, all)` in `count` processes; the first exit code that is not 0.
  static int run(std::uint32_t count, const std::function<int(std::uint32_t, forked_members&)>& play) {
    forked_members all{count};
    std::vector<pid_t> made;
    for (std::uint32_t self = 0; self < count; ++self) {
      const auto child = ::fork();
      if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        const int code = play(self, all);
        std::fflush(nullptr);
        ::_exit(code); // what a GPU still does is not waited for
      }
      made.push_back(child);
    }
    int code = 0;
    for (std::size_t i = 0; i < made.size(); ++i) {
      int status = 0;
      ::wait(&status);
      const int ended = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
      if (ended != 0 && code == 0) {
        code = ended;
        for (const auto other : made)
          ::kill(other, SIGKILL);
      }
    }
    return code;
  }

  std::uint32_t count() const noexcept { return count_; }

  void meet() {
    const auto turn = board_->turn.load();
    if (board_->arrived.fetch_add(1) + 1 == count_) {
      board_->arrived = 0;
      board_->turn = turn + 1;
      return;
    }
    const auto until = base::now() + std::chrono::minutes{1};
    while (board_->turn.load() == turn) {
      ::sched_yield();
      if (base::now() > until) {
        std::fprintf(stderr, "another member does not come\n");
        std::exit(1);
      }
    }
  }

  /// As gpu::group_member wants it.
  protocols::result<void> exchange(std::uint32_t self, std::span<const std::byte> mine, std::span<std::byte> all) {
    std::ranges::copy(mine, board_->pieces.at(self).begin());
    meet();
    for (std::uint32_t member = 0; member < count_; ++member)
      std::copy_n(board_->pieces[member].begin(), mine.size(),
                  all.begin() + static_cast<std::ptrdiff_t>(member * mine.size()));
    meet();
    return {};
  }

private:
  struct board {
    std::atomic<std::uint32_t> arrived;
    std::atomic<std::uint32_t> turn;
    std::array<std::array<std::byte, 256>, 8> pieces;
  };

  explicit forked_members(std::uint32_t count) : count_(count) {
    void* const page =
        ::mmap(nullptr, sizeof(board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); // zeros
    if (page == MAP_FAILED)
      std::exit(1);
    board_ = static_cast<board*>(page);
  }

  std::uint32_t count_;
  board* board_ = nullptr; ///< until the process ends
};

} // namespace troupe::bench
