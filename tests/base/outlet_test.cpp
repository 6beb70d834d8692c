#include "runtime/base/outlet.hpp"

#include <doctest/doctest.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <string>
#include <thread>

#include "runtime/base/clock.hpp"
#include "runtime/base/line_writer.hpp"
#include "runtime/base/unique_fd.hpp"

using namespace troupe::base;
using namespace std::chrono_literals;

namespace {

constexpr auto generous = 30s;

struct small_pipe {
  unique_fd read;
  unique_fd write;
  small_pipe() {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    read = unique_fd{ends[0]};
    write = unique_fd{ends[1]};
    REQUIRE(::fcntl(write.get(), F_SETPIPE_SZ, 4096) == 4096);
  }
  /// What is there, waiting for the first of it; empty where none comes in `generous` time.
  std::string take() const {
    pollfd first{read.get(), POLLIN, 0};
    if (::poll(&first, 1, static_cast<int>(std::chrono::milliseconds{generous}.count())) != 1)
      return {};
    std::array<char, 64 * 1024> buffer;
    const auto got = ::read(read.get(), buffer.data(), buffer.size());
    return {buffer.data(), got > 0 ? static_cast<std::size_t>(got) : 0};
  }
  /// Reads until `wanted` has come.
  std::string take_until(std::string_view wanted) const {
    std::string text;
    while (text.find(wanted) == text.npos) {
      const auto more = take();
      if (more.empty())
        break;
      text += more;
    }
    return text;
  }
};

std::string line_of(int number) {
  return "line " + std::to_string(number) + ' ' + std::string(80, 'x') + '\n';
}

} // namespace

TEST_CASE(
    "K6: a supervisor's line to a pipe that nobody reads returns at once, and what was lost is said when it goes") {
  const small_pipe pipe;
  outlet out{pipe.write.get(), "troupe: "};
  out.become(outlet::manner::thread);

  int offered = 0;
  for (std::size_t bytes = 0; bytes < 4 * outlet::queue_bytes_max; bytes += line_of(offered).size())
    out.offer(line_of(offered++));
  CHECK_FALSE(out.flush(now()));
  CHECK(out.problem() == 0);

  // The thread may take the queue while lines are still offered, so losses may be said more than once.
  unsigned long written = 0;
  unsigned long lost = 0;
  std::string text;
  while (written + lost < static_cast<unsigned long>(offered)) {
    const auto more = pipe.take();
    REQUIRE_FALSE(more.empty());
    text += more;
    for (auto end = text.find('\n'); end != text.npos; end = text.find('\n')) {
      const auto line = text.substr(0, end + 1);
      text.erase(0, end + 1);
      if (line.starts_with("troupe: "))
        lost += std::stoul(line.substr(8));
      else
        REQUIRE(line == line_of(static_cast<int>(written++ + lost)));
    }
  }
  CHECK(lost > 0);
  CHECK(written + lost == static_cast<unsigned long>(offered));
  CHECK(out.flush(now() + generous));

  out.offer("after\n");
  CHECK(pipe.take_until("after\n") == "after\n"); // the loss is said once
}

TEST_CASE("K6: an answer waits for its reader, and for nobody once a person has interrupted") {
  small_pipe pipe;
  outlet out{pipe.write.get()};
  out.become(outlet::manner::thread);
  const std::string page(outlet::queue_bytes_max, 'a');

  std::thread asking{[&] {
    for (int i = 0; i < 4; ++i)
      out.put(page);
  }};
  SUBCASE("read") {
    std::size_t got = 0;
    while (got < 4 * page.size()) {
      const auto more = pipe.take();
      got += more.size();
      if (more.empty()) {
        out.give_up(); // so that the thread ends
        break;
      }
    }
    asking.join();
    CHECK(got == 4 * page.size());
    CHECK(out.flush(now() + generous));
    CHECK(out.problem() == 0);
  }
  SUBCASE("interrupted") {
    out.give_up();
    asking.join();
    (void)pipe.write.release(); // the outlet's thread stays in its write, and no other file gets that number
  }
}

TEST_CASE("K6: an answer that a full disk or a reader that left does not take is remembered, by thread and without") {
  for (const auto how : {outlet::manner::waits, outlet::manner::thread}) {
    const unique_fd full{::open("/dev/full", O_WRONLY | O_CLOEXEC)};
    REQUIRE(full);
    outlet out{full.get()};
    out.become(how);
    out.put("an answer\n");
    CHECK(out.flush(now() + generous));
    CHECK(out.problem() == ENOSPC);
    out.offer("a line\n"); // and ends nobody
    CHECK(out.flush(now() + generous));
  }
  ::signal(SIGPIPE, SIG_IGN);
  small_pipe pipe;
  pipe.read.reset();
  outlet out{pipe.write.get()};
  out.put("an answer\n");
  CHECK(out.problem() == EPIPE);
}

TEST_CASE("K6: a rank's line to a pipe that is full is lost at once, and no line is glued to another") {
  const small_pipe pipe;
  ::fcntl(pipe.write.get(), F_SETFL, O_NONBLOCK);
  outlet out{pipe.write.get()};
  out.become(outlet::manner::drops);

  const std::string whole(4095, 'w');
  out.offer(whole + '\n'); // the pipe is full
  out.offer("lost\n");
  out.offer("lost\nlost\n");
  CHECK(pipe.take() == whole + '\n');
  out.offer("goes\n");
  CHECK(pipe.take() == "3 lines could not be written: Resource temporarily unavailable\ngoes\n");

  out.offer(std::string(6000, 'c') + '\n'); // of which a part has room
  CHECK(pipe.take() == std::string(4096, 'c'));
  out.offer("goes\n");
  CHECK(pipe.take() == "\n1 line could not be written: Resource temporarily unavailable\ngoes\n");
}

TEST_CASE("K6: descriptors that are closed at the start are held, so that no socket gets their numbers") {
  const auto child = ::fork();
  if (child == 0) {
    for (const int fd : {0, 1, 2})
      ::close(fd);
    hold_standard_descriptors();
    char byte = 0;
    const bool held = ::open("/dev/null", O_RDONLY) > 2 && ::read(0, &byte, 1) == 0 && ::write(1, "x", 1) < 0 &&
                      errno == EBADF && ::write(2, "x", 1) < 0;
    ::_exit(held ? 0 : 1);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}
