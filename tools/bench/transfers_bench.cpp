/// One-sided write bandwidth and the time of one write, beside what they are made of: memcpy for shared memory, a bare
/// libfabric write loop on the same provider for the fabric engine. Everything in one run, since the machine is shared
/// and only ratios of one run say something.
///
/// Reader and writer are two processes. A write counts when it is delivered; `depth` of them are under way.
/// Usage: transfers_bench [MEBIBYTES], of a size and round; at least 8 writes, at most 4,000.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fabric/ofi/fabric_session.hpp"
#include "fabric/socket_address.hpp"
#include "fabric/transfers/transfer.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/unique_fd.hpp"
#include "tools/bench/must.hpp"

namespace {

using namespace troupe;
using bench::must;
using namespace std::chrono_literals;
using fabric::bulk_kind;

constexpr std::size_t region_bytes = 64 << 20;
constexpr std::array<std::size_t, 8> sizes{4 << 10, 16 << 10, 64 << 10, 256 << 10,
                                           1 << 20, 4 << 20,  16 << 20, 64 << 20};
constexpr std::size_t depth_max = 8;
constexpr int rounds = 5;
const fabric::fabric_options fabric_defaults{};

/// Sends and takes plain values between parent and child.
class pipe_end {
public:
  explicit pipe_end(int fd) : fd_(fd) {}
  template <class Value>
  void put(const Value& value) {
    if (::send(fd_.get(), &value, sizeof value, MSG_NOSIGNAL) != static_cast<ssize_t>(sizeof value))
      std::exit(1);
  }
  template <class Value>
  Value take() {
    Value value{};
    if (::recv(fd_.get(), &value, sizeof value, MSG_WAITALL) != static_cast<ssize_t>(sizeof value))
      std::exit(1);
    return value;
  }

private:
  base::unique_fd fd_;
};

std::string path_of(std::uint32_t rank) {
  return "/tmp/troupe-bench-" + std::to_string(::getpgrp()) + "-" + std::to_string(rank) + ".sock";
}

/// A child that runs `other` until it is killed.
class beside {
public:
  explicit beside(const std::function<void(pipe_end&)>& other) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
      std::exit(1);
    child_ = ::fork();
    if (child_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::close(ends[0]);
      pipe_end parent{ends[1]};
      other(parent);
      ::_exit(0);
    }
    ::close(ends[1]);
    talks = std::make_unique<pipe_end>(ends[0]);
  }
  ~beside() {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    ::unlink(path_of(2).c_str());
  }
  std::unique_ptr<pipe_end> talks;

private:
  pid_t child_ = -1;
};

struct offer {
  std::array<std::byte, 64> address{};
  std::size_t address_bytes = 0;
  std::uint64_t region = 0, base = 0, key = 0;

  std::vector<std::byte> name() const {
    return {address.begin(), address.begin() + static_cast<std::ptrdiff_t>(address_bytes)};
  }
  void set_name(const std::vector<std::byte>& bytes) {
    std::copy(bytes.begin(), bytes.end(), address.begin());
    address_bytes = bytes.size();
  }
};

std::unique_ptr<fabric::transfer_engine> make(bulk_kind kind, std::uint32_t rank) {
  if (kind == bulk_kind::fabric)
    return must(fabric::make_fabric_engine({.self = protocols::rank_id{rank}, .born = {}}));
  return must(fabric::make_shared_memory_engine(
      {.self = protocols::rank_id{rank}, .born = {}, .job_token = {}, .unix_path = path_of(rank)}));
}

protocols::endpoint endpoint_of(std::uint32_t rank, const offer& from) {
  protocols::endpoint there;
  there.rank = protocols::rank_id{rank};
  there.unix_path = path_of(rank);
  there.fabric_address = from.name();
  return there;
}

/// By size.
struct figures {
  std::array<double, sizes.size()> gigabytes{}; ///< a second, best of `rounds`: what others did to the machine is out
  std::array<double, sizes.size()> microseconds{}; ///< of one write alone, median
};

/// `start` begins a write of that many bytes, `wait(n)` returns when n are delivered since the last call.
figures measure(std::size_t mebibytes, const std::function<void(std::size_t)>& start,
                const std::function<void(std::size_t)>& wait) {
  figures found;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const std::size_t bytes = sizes[i];
    const std::size_t count = std::clamp((mebibytes << 20) / bytes, std::size_t{8}, std::size_t{4000});
    std::vector<double> alone;
    for (std::size_t n = 0; n < std::min<std::size_t>(count, 500); ++n) {
      const auto begun = base::now();
      start(bytes);
      wait(1);
      alone.push_back(std::chrono::duration<double, std::micro>(base::now() - begun).count());
    }
    std::nth_element(alone.begin(), alone.begin() + static_cast<std::ptrdiff_t>(alone.size() / 2), alone.end());
    found.microseconds[i] = alone[alone.size() / 2];

    const std::size_t ahead = std::min(depth_max, count);
    for (int round = 0; round < rounds; ++round) {
      const auto begun = base::now();
      for (std::size_t n = 0; n < ahead; ++n)
        start(bytes);
      for (std::size_t n = ahead; n < count; ++n) {
        wait(1);
        start(bytes);
      }
      wait(ahead);
      const double seconds = std::chrono::duration<double>(base::now() - begun).count();
      found.gigabytes[i] = std::max(found.gigabytes[i], static_cast<double>(bytes * count) / seconds / 1e9);
    }
  }
  return found;
}

figures copies(std::size_t mebibytes) {
  std::vector<std::byte> from(region_bytes, std::byte{1});
  std::vector<std::byte> to(region_bytes, std::byte{2});
  return measure(
      mebibytes,
      [&](std::size_t bytes) {
        std::memcpy(to.data(), from.data(), bytes);
        asm volatile("" ::"r"(to.data()) : "memory");
      },
      [](std::size_t) {});
}

void engine_reader(bulk_kind kind, pipe_end& parent) {
  auto engine = make(kind, 2);
  const auto region = must(engine->register_region(region_bytes));
  must(engine->start({.on_delivered = [](std::uint64_t, protocols::result<void>) {},
                      .on_arrived = [](protocols::rank_id, std::uint64_t) {},
                      .on_peer_gone = [](protocols::rank_id, protocols::failure) {}}));
  offer own;
  own.set_name(engine->address());
  own.region = region.id;
  own.base = region.card.base;
  own.key = region.card.key;
  parent.put(own);
  must(engine->attach_peer(endpoint_of(1, parent.take<offer>()), base::now() + 10s));
  parent.put(char{1});
  parent.take<char>();
}

figures engine_writer(bulk_kind kind, std::size_t mebibytes) {
  beside reader{[kind](pipe_end& parent) { engine_reader(kind, parent); }};
  auto engine = make(kind, 1);
  const auto region = must(engine->register_region(region_bytes));
  std::atomic<std::size_t> delivered{0};
  must(engine->start({.on_delivered =
                          [&](std::uint64_t, protocols::result<void> outcome) {
                            must(std::move(outcome));
                            delivered.fetch_add(1);
                            delivered.notify_one();
                          },
                      .on_arrived = [](protocols::rank_id, std::uint64_t) {},
                      .on_peer_gone = [](protocols::rank_id, protocols::failure) {}}));
  const auto there = reader.talks->take<offer>();
  offer own;
  own.set_name(engine->address());
  reader.talks->put(own);
  must(engine->attach_peer(endpoint_of(2, there), base::now() + 10s));
  reader.talks->take<char>();
  must(engine->attach_region(protocols::rank_id{2},
                             {.region = static_cast<std::uint32_t>(there.region),
                              .bytes = region_bytes,
                              .slot_bytes = 0,
                              .base = there.base,
                              .key = there.key},
                             base::now() + 10s));
  std::size_t awaited = 0;
  const auto found = measure(
      mebibytes,
      [&](std::size_t bytes) {
        must(engine->post({.to = protocols::rank_id{2},
                           .source_region = region.id,
                           .target_region = static_cast<std::uint32_t>(there.region),
                           .pieces = {{0, 0, bytes}},
                           .completion_data = 1,
                           .lease = {{}, base::now() + 30s},
                           .deadline = base::now() + 30s,
                           .cookie = 0},
                          fabric::ready_event::already()));
      },
      [&](std::size_t count) {
        awaited += count;
        for (auto there_are = delivered.load(); there_are < awaited; there_are = delivered.load())
          delivered.wait(there_are);
      });
  engine->stop();
  return found;
}

/// What happens next to a connection.
fabric::fabric_session::event await_event(fabric::fabric_session& session) {
  for (fabric::fabric_session::completion none;; must(session.poll(none)))
    if (auto happened = session.next_event())
      return std::move(*happened);
}

/// A port of that host which nobody else has; an endpoint may be bound to it too.
base::unique_fd reserve_port(fabric::socket_address at) {
  base::unique_fd socket{::socket(at.family(), SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  fabric::set_port(at, 0);
  if (::bind(socket.get(), at.get(), at.size) != 0)
    std::exit(1);
  return socket;
}

/// The same writes with nothing around libfabric: one thread that spins on the completion queue on either side.
figures bare_writer(std::size_t mebibytes) {
  beside reader{[](pipe_end& parent) {
    auto session = must(fabric::fabric_session::open(fabric_defaults.provider, fabric_defaults.interface));
    std::vector<std::byte> memory(region_bytes);
    const auto registered = must(session->register_memory(memory));
    offer own;
    own.set_name(fabric::bytes_of(session->address()));
    own.base = registered.base;
    own.key = registered.key;
    parent.put(own);
    must(session->admit(std::array{must(fabric::network_address(parent.take<offer>().name()))}));
    parent.put(char{});
    const auto connection = must(session->accept(await_event(*session)));
    for (fabric::fabric_session::completion done;;)
      must(session->poll(done));
  }};
  auto session = must(fabric::fabric_session::open(fabric_defaults.provider, fabric_defaults.interface));
  std::vector<std::byte> memory(region_bytes, std::byte{1});
  const auto registered = must(session->register_memory(memory));
  const auto there = reader.talks->take<offer>();
  const auto reserved = reserve_port(session->address());
  const auto from = must(fabric::own_address(reserved.get()));
  offer own;
  own.set_name(fabric::bytes_of(from));
  reader.talks->put(own);
  reader.talks->take<char>();
  const auto connection = must(session->connect(from, must(fabric::network_address(there.name())), {}));
  await_event(*session);
  std::array<fi_context2, depth_max> contexts{};
  std::size_t next = 0;
  std::size_t delivered = 0, awaited = 0;
  fabric::fabric_session::completion done;
  const auto progress = [&] {
    if (must(session->poll(done)))
      ++delivered;
  };
  return measure(
      mebibytes,
      [&](std::size_t bytes) {
        const std::uint64_t word = 1;
        while (session->post({.from = memory.data(),
                              .bytes = bytes,
                              .descriptor = registered.descriptor(),
                              .over = connection.get(),
                              .remote_address = there.base,
                              .key = there.key,
                              .context = &contexts[next % depth_max],
                              .completion_data = &word}) == -FI_EAGAIN)
          progress();
        ++next;
      },
      [&](std::size_t count) {
        for (awaited += count; delivered < awaited;)
          progress();
      });
}

} // namespace

int main(int argc, char** argv) {
  const std::size_t mebibytes = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 256;
  const auto copy = copies(mebibytes);
  const auto shared = engine_writer(bulk_kind::shared_memory, mebibytes);
  const auto bare = bare_writer(mebibytes);
  const auto engine = engine_writer(bulk_kind::fabric, mebibytes);

  std::printf("GB/s with %zu writes under way; us: one write alone, median\n", depth_max);
  std::printf("%10s | %9s %9s %6s %9s | %9s %9s %6s %9s %9s\n", "bytes", "memcpy", "shared", "ratio", "us", "bare ofi",
              "fabric", "ratio", "bare us", "us");
  for (std::size_t i = 0; i < sizes.size(); ++i)
    std::printf("%10zu | %9.2f %9.2f %6.2f %9.1f | %9.2f %9.2f %6.2f %9.1f %9.1f\n", sizes[i], copy.gigabytes[i],
                shared.gigabytes[i], shared.gigabytes[i] / copy.gigabytes[i], shared.microseconds[i], bare.gigabytes[i],
                engine.gigabytes[i], engine.gigabytes[i] / bare.gigabytes[i], bare.microseconds[i],
                engine.microseconds[i]);
  return 0;
}
