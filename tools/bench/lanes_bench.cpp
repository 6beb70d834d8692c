/// What a lane costs, beside what the operating system and CAF cost, in one run on one machine.
///
/// Every measurement is a round trip between two processes. Usage: lanes_bench [ROUNDS] [pin]; `pin` gives each side a
/// core of its own, otherwise the scheduler places them, on a loaded machine often both on one core. Compare medians of
/// one run, not figures of two.
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>

#include "fabric/lanes/connect.hpp"
#include "gpu/group.hpp"
#include "runtime/base/clock.hpp"
#include "tools/bench/samples.hpp"
#ifdef TROUPE_BENCH_CAF
#include "tools/bench/caf_remote.hpp"
#endif

namespace {

using namespace troupe;
using namespace troupe::bench;
using namespace std::chrono_literals;

constexpr std::size_t message_bytes = 64;
constexpr std::size_t reduced_floats = 192;
constexpr fabric::lane_options options{};

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "lanes_bench: %s\n", why.c_str());
  std::exit(1);
}

bool pinned = false;

/// `side` 0 or 1 on a core of its own.
void place(std::size_t side) {
  if (!pinned)
    return;
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  CPU_SET(side, &allowed);
  if (::sched_setaffinity(0, sizeof allowed, &allowed) != 0)
    give_up("cannot pin to core " + std::to_string(side));
}

#ifdef TROUPE_BENCH_CAF
/// CAF has threads of its own on both sides: the scheduler places them.
void unplace() {
  cpu_set_t all;
  CPU_ZERO(&all);
  for (std::size_t core = 0; core < CPU_SETSIZE; ++core)
    CPU_SET(core, &all);
  if (pinned)
    ::sched_setaffinity(0, sizeof all, &all);
}
#endif

/// Runs `other` in a child until it is killed, `measured` here.
template <class Measured>
auto beside(const std::function<void()>& other, Measured measured) {
  const pid_t child = ::fork();
  if (child < 0)
    give_up("fork failed");
  if (child == 0) {
    place(1);
    other();
    ::_exit(0);
  }
  place(0);
  auto outcome = measured();
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  return outcome;
}

// ---- the operating system alone ----

struct two_sockets {
  int here = -1;
  int there = -1;
};

two_sockets tcp_sockets() {
  const int listening = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  const int on = 1;
  two_sockets made;
  if (::bind(listening, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(listening, 1) != 0 ||
      ::getsockname(listening, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    give_up("no loopback");
  made.here = ::socket(AF_INET, SOCK_STREAM, 0);
  if (::connect(made.here, reinterpret_cast<sockaddr*>(&address), size) != 0)
    give_up("no loopback");
  made.there = ::accept(listening, nullptr, nullptr);
  ::close(listening);
  for (const int fd : {made.here, made.there})
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return made;
}

void write_whole(int fd, const std::byte* bytes, std::size_t size) {
  while (size > 0) {
    const auto sent = ::send(fd, bytes, size, MSG_NOSIGNAL);
    if (sent <= 0)
      ::_exit(1);
    bytes += sent;
    size -= static_cast<std::size_t>(sent);
  }
}

void read_whole(int fd, std::byte* bytes, std::size_t size, int flags) {
  while (size > 0) {
    const auto got = ::recv(fd, bytes, size, flags);
    if (got == 0 || (got < 0 && errno != EAGAIN))
      ::_exit(1);
    if (got > 0) {
      bytes += got;
      size -= static_cast<std::size_t>(got);
    } else {
      fabric::relax();
    }
  }
}

/// `flags`: 0 blocks in the kernel, MSG_DONTWAIT spins over the system call.
samples raw_tcp(const std::string& name, std::size_t rounds, std::size_t bytes, int flags) {
  const auto sockets = tcp_sockets();
  std::vector<std::byte> message(bytes);
  auto taken = beside(
      [&] {
        for (;;) {
          read_whole(sockets.there, message.data(), bytes, flags);
          write_whole(sockets.there, message.data(), bytes);
        }
      },
      [&] {
        return measure(name, rounds, [&] {
          write_whole(sockets.here, message.data(), bytes);
          read_whole(sockets.here, message.data(), bytes, flags);
        });
      });
  ::close(sockets.here);
  ::close(sockets.there);
  return taken;
}

/// Two words in memory that both processes see.
struct shared_words {
  alignas(64) std::atomic<std::uint32_t> ping{0};
  alignas(64) std::atomic<std::uint32_t> pong{0};
};

shared_words& share_words() {
  void* memory = ::mmap(nullptr, sizeof(shared_words), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    give_up("no shared memory");
  return *new (memory) shared_words;
}

samples futex_wake(std::size_t rounds) {
  auto& words = share_words();
  const auto wake = [](std::atomic<std::uint32_t>& word) {
    word.fetch_add(1);
    ::syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
  };
  const auto wait = [](std::atomic<std::uint32_t>& word, std::uint32_t seen) {
    while (word.load() == seen)
      ::syscall(SYS_futex, &word, FUTEX_WAIT, seen, nullptr, nullptr, 0);
  };
  return beside(
      [&] {
        for (std::uint32_t turn = 0;; ++turn) {
          wait(words.ping, turn);
          wake(words.pong);
        }
      },
      [&] {
        std::uint32_t turn = 0;
        return measure("futex wake", rounds, [&] {
          wake(words.ping);
          wait(words.pong, turn++);
        });
      });
}

/// As a lane sleeps: one poll over the doorbell and the companion socket.
samples eventfd_wake(std::size_t rounds) {
  const int ping = ::eventfd(0, EFD_NONBLOCK);
  const int pong = ::eventfd(0, EFD_NONBLOCK);
  int companion[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, companion) != 0)
    give_up("no socketpair");
  const auto ring = [](int doorbell) {
    const std::uint64_t one = 1;
    if (::write(doorbell, &one, sizeof one) != sizeof one)
      ::_exit(1);
  };
  const auto wait = [](int doorbell, int socket) {
    pollfd fds[] = {{doorbell, POLLIN, 0}, {socket, POLLIN | POLLRDHUP, 0}};
    std::uint64_t rings = 0;
    ::poll(fds, 2, -1);
    if (::read(doorbell, &rings, sizeof rings) != sizeof rings)
      ::_exit(1);
  };
  return beside(
      [&] {
        for (;;) {
          wait(ping, companion[1]);
          ring(pong);
        }
      },
      [&] {
        return measure("eventfd + poll wake", rounds, [&] {
          ring(ping);
          wait(pong, companion[0]);
        });
      });
}

// ---- lanes ----

/// `here` gets one end of a lane of `kind`; a child runs `there` with the other.
samples over_lane(fabric::lane_kind kind, const std::function<void(std::unique_ptr<fabric::lane>)>& there,
                  const std::function<samples(std::unique_ptr<fabric::lane>)>& here) {
  const std::string path = "/tmp/troupe-lanes-bench-" + std::to_string(::getpid());
  const fabric::identity server{
      .rank = protocols::rank_id{0}, .born = protocols::generation{1}, .job_token = {}, .build = {}};
  const fabric::identity client{
      .rank = protocols::rank_id{1}, .born = protocols::generation{1}, .job_token = {}, .build = {}};
  auto listening = fabric::listener::open(path, "127.0.0.1", 0, server, options,
                                          [](auto, auto, const auto&) -> protocols::result<void> { return {}; });
  if (!listening)
    give_up(protocols::to_string(listening.error()));
  const protocols::endpoint to{.rank = server.rank,
                               .born = server.born,
                               .unix_path = path,
                               .tcp_address = "127.0.0.1",
                               .tcp_port = (*listening)->tcp_port(),
                               .fabric_address = {}};
  return beside(
      [&] {
        auto lane = fabric::connect(kind, to, client, {}, options, base::now() + 5s);
        if (!lane)
          give_up(protocols::to_string(lane.error()));
        there(std::move(*lane));
      },
      [&] {
        const auto deadline = base::now() + 5s;
        while (base::now() < deadline) {
          auto fds = (*listening)->waitables();
          ::poll(fds.data(), fds.size(), 10);
          if (auto arrived = (*listening)->step(base::now()); !arrived.empty())
            return here(std::move(arrived[0].with));
        }
        give_up("the child did not connect");
      });
}

void answer(fabric::lane& lane) {
  const auto got = fabric::receive(lane, base::now() + 5s);
  if (!got || !fabric::send(lane, {.type = protocols::message_type::heartbeat}, got->payload, base::now() + 5s))
    ::_exit(1);
  lane.pop();
}

samples lane_round_trips(const std::string& name, fabric::lane_kind kind, std::size_t rounds) {
  return over_lane(
      kind,
      [](std::unique_ptr<fabric::lane> lane) {
        for (;;)
          answer(*lane);
      },
      [&](std::unique_ptr<fabric::lane> lane) {
        const std::vector<std::byte> message(message_bytes);
        return measure(name, rounds, [&] {
          if (!fabric::send(*lane, {.type = protocols::message_type::heartbeat}, message, base::now() + 5s) ||
              !fabric::receive(*lane, base::now() + 5s))
            give_up("the lane broke");
          lane->pop();
        });
      });
}

std::unique_ptr<gpu::group> group_of_two(std::uint32_t self, std::unique_ptr<fabric::lane> lane) {
  auto lanes = std::make_shared<gpu::group_lanes>();
  lanes->plan = {.id = {}, .name = "bench", .members = {protocols::rank_id{0}, protocols::rank_id{1}}};
  lanes->self = self;
  lanes->to.resize(2);
  lanes->to[1 - self] = std::move(lane);
  return std::make_unique<gpu::group>(lanes->plan, self, gpu::make_host_backend(lanes), 5s);
}

samples all_reduces(const std::string& name, std::size_t rounds, std::size_t count) {
  const auto reduce = [](gpu::group& group, std::span<float> values) {
    return group.begin(protocols::call_id{1}, "bench", 1) && group.all_reduce_sum(values) && group.end();
  };
  return over_lane(
      fabric::lane_kind::shared_memory,
      [&](std::unique_ptr<fabric::lane> lane) {
        const auto group = group_of_two(1, std::move(lane));
        std::vector<float> values(count);
        while (reduce(*group, values))
          continue;
      },
      [&](std::unique_ptr<fabric::lane> lane) {
        const auto group = group_of_two(0, std::move(lane));
        std::vector<float> values(count);
        return measure(name, rounds, [&] {
          if (!reduce(*group, values))
            give_up("the group broke");
        });
      });
}

} // namespace

int main(int argc, char** argv) {
  const std::size_t rounds = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 20'000;
  if (rounds < 100)
    give_up("usage: lanes_bench [ROUNDS] [pin], at least 100 rounds");
  pinned = argc > 2 && std::string_view{argv[2]} == "pin";
  const std::size_t frame_bytes = message_bytes + protocols::limits::frame_header_bytes;

  print_heading();
  const auto shown = [](samples taken) {
    print(taken);
    return taken.percentile(0.5);
  };
  const double lane_shm =
      shown(lane_round_trips("lane, shared memory, 64 B payload", fabric::lane_kind::shared_memory, rounds));
  const double tcp_blocking = shown(raw_tcp("raw TCP, blocking, 128 B", rounds, frame_bytes, 0));
  const double tcp_spinning = shown(raw_tcp("raw TCP, spinning, 128 B", rounds, frame_bytes, MSG_DONTWAIT));
  const double lane_tcp = shown(lane_round_trips("lane, TCP, 64 B payload", fabric::lane_kind::tcp, rounds));
  const double futex = shown(futex_wake(rounds));
  const double eventfd = shown(eventfd_wake(rounds));
  shown(all_reduces("all_reduce_sum of 192 floats, 2 ranks", rounds, reduced_floats));
  shown(all_reduces("all_reduce_sum of 8192 floats, 2 ranks", rounds / 10, 8192));
  shown(all_reduces("all_reduce_sum of 1 Mi floats, 2 ranks", rounds / 200, 1 << 20));
#ifdef TROUPE_BENCH_CAF
  unplace();
  const double caf = shown(caf_round_trips(rounds / 4, message_bytes));
#endif

  std::printf("\nratios of medians\n");
  std::printf("  TCP lane / raw TCP, blocking          %6.2f\n", lane_tcp / tcp_blocking);
  std::printf("  TCP lane / raw TCP, spinning          %6.2f\n", lane_tcp / tcp_spinning);
  std::printf("  shared memory lane / raw TCP spinning %6.2f\n", lane_shm / tcp_spinning);
  std::printf("  eventfd + poll / futex                %6.2f\n", eventfd / futex);
#ifdef TROUPE_BENCH_CAF
  std::printf("  CAF middleman / TCP lane              %6.2f\n", caf / lane_tcp);
  std::printf("  CAF middleman / shared memory lane    %6.2f\n", caf / lane_shm);
#endif
  return 0;
}
