/// What the runtime adds between GPUs, each figure beside the call that it stands on, in the same run:
///   writes of keys and values from GPU 0 to GPU 1 through the transfer engine, beside cudaMemcpyPeer
/// Two processes, a GPU each. Needs two GPUs.
#include <cuda_runtime_api.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <vector>

#include "fabric/transfers/transfer.hpp"
#include "gpu/backend.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/flight_files.hpp"
#include "runtime/base/unique_fd.hpp"
#include "tools/bench/must_cuda.hpp"

namespace {

using namespace troupe;
using bench::must;
using namespace std::chrono_literals;

/// Plain values between the two.
class other_side {
public:
  explicit other_side(int fd) : fd_(fd) {}
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
  void meet() {
    put(char{});
    take<char>();
  }

private:
  base::unique_fd fd_;
};

double seconds_since(protocols::time_point begun) {
  return std::chrono::duration<double>(base::now() - begun).count();
}
double median(std::vector<double> of) {
  std::nth_element(of.begin(), of.begin() + static_cast<std::ptrdiff_t>(of.size() / 2), of.end());
  return of[of.size() / 2];
}

// ---- writes -------------------------------------------------------------------------------------------------------

constexpr std::size_t region_bytes = std::size_t{4} << 30;
struct hand_over {
  const char* name;
  std::size_t bytes;
  std::size_t piece; ///< of an 8B shape: 36 x 2 x 16 x 128 x 2 bytes a head of a block over all layers, whole blocks
                     ///< where both sides hold all 8 heads, all at once where the blocks follow each other
};
constexpr std::array hand_overs{hand_over{"20 MB, pieces of 288 KiB", 20'054'016, 294'912},
                                hand_over{"20 MB, pieces of 2.25 MiB", 20'054'016, 8 * 294'912},
                                hand_over{"20 MB, one piece", 20'054'016, 20'054'016},
                                hand_over{"4 GB, pieces of 288 KiB", 4'000'186'368, 294'912},
                                hand_over{"4 GB, pieces of 2.25 MiB", 4'000'186'368, 8 * 294'912},
                                hand_over{"4 GB, one piece", 4'000'186'368, 4'000'186'368}};

std::unique_ptr<fabric::transfer_engine> make_engine(std::uint32_t rank) {
  return must(fabric::make_shared_memory_engine(
      {.self = protocols::rank_id{rank},
       .born = protocols::generation{1},
       .unix_path = "/tmp/troupe-gpu-links-" + std::to_string(::getpgrp()) + "-" + std::to_string(rank),
       .devices = must(gpu::open_device_memory("cuda:" + std::to_string(rank)))}));
}
protocols::endpoint endpoint_of(std::uint32_t rank) {
  protocols::endpoint there;
  there.rank = protocols::rank_id{rank};
  there.born = protocols::generation{1};
  there.unix_path = "/tmp/troupe-gpu-links-" + std::to_string(::getpgrp()) + "-" + std::to_string(rank);
  return there;
}

void read_writes(other_side& writer) {
  auto engine = make_engine(1);
  const auto region = must(engine->register_region(region_bytes, fabric::memory_kind::device));
  must(engine->start({.on_delivered = [](std::uint64_t, const protocols::result<void>&) {},
                      .on_arrived = [](protocols::rank_id, std::uint64_t) {},
                      .on_peer_gone = [](protocols::rank_id, const protocols::failure&) {}}));
  writer.put(region.id);
  must(engine->attach_peer(endpoint_of(0), base::now() + 10s));
  writer.meet();
  writer.meet(); // until everything is written
  engine->stop();
}

void bench_writes(other_side& reader) {
  auto engine = make_engine(0);
  const auto region = must(engine->register_region(region_bytes, fabric::memory_kind::device));
  std::atomic<std::uint64_t> delivered{0};
  must(engine->start({.on_delivered =
                          [&](std::uint64_t, protocols::result<void> outcome) {
                            must(std::move(outcome));
                            delivered.fetch_add(1);
                            delivered.notify_one();
                          },
                      .on_arrived = [](protocols::rank_id, std::uint64_t) {},
                      .on_peer_gone = [](protocols::rank_id, const protocols::failure&) {}}));
  const auto target = reader.take<std::uint32_t>();
  must(engine->attach_peer(endpoint_of(1), base::now() + 10s));
  reader.meet();
  must(engine->attach_region(protocols::rank_id{1}, {.region = target, .bytes = region_bytes}, base::now() + 10s));

  std::printf("writes from cuda:0 to cuda:1     cudaMemcpyPeer         the engine   share\n");
  for (const auto& each : hand_overs) {
    must(cudaSetDevice(0));
    void* from = nullptr;
    void* to = nullptr;
    must(cudaMalloc(&from, each.bytes));
    must(cudaSetDevice(1));
    must(cudaMalloc(&to, each.bytes));
    must(cudaSetDevice(0));
    (void)cudaDeviceEnablePeerAccess(1, 0); // a second time it says that it is enabled
    (void)cudaGetLastError();               // clears that
    std::vector<fabric::write_piece> pieces;
    for (std::size_t at = 0; at < each.bytes; at += each.piece)
      pieces.push_back({at, at, std::min(each.piece, each.bytes - at)});
    std::vector<double> bare, ours;
    for (int round = 0; round < 12; ++round) {
      auto begun = base::now();
      must(cudaMemcpyPeerAsync(to, 1, from, 0, each.bytes, nullptr));
      must(cudaStreamSynchronize(nullptr));
      bare.push_back(seconds_since(begun));
      const auto before = delivered.load();
      begun = base::now();
      must(engine->post({.to = protocols::rank_id{1},
                         .source_region = region.id,
                         .target_region = target,
                         .pieces = pieces,
                         .completion_data = 1,
                         .lease = {protocols::generation{1}, base::now() + 10s},
                         .deadline = base::now() + 10s},
                        fabric::ready_event::already()));
      delivered.wait(before);
      ours.push_back(seconds_since(begun));
    }
    const double gigabytes = static_cast<double>(each.bytes) / 1e9;
    std::printf("%-28s %8.1f us %6.1f GB/s %8.1f us %6.1f GB/s  %4.0f %%\n", each.name, median(bare) * 1e6,
                gigabytes / median(bare), median(ours) * 1e6, gigabytes / median(ours),
                100 * median(bare) / median(ours));
    must(cudaFree(from));
    must(cudaFree(to));
  }
  reader.meet();
  engine->stop();
}

void play(std::uint32_t self, int socket) {
  other_side other{socket};
  const auto folder = std::filesystem::temp_directory_path() / ("troupe-gpu-links-" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  must(base::open_flight(folder, {.rank = protocols::rank_id{self},
                                  .born = protocols::generation{1},
                                  .label = "bench",
                                  .groups = {}})); // as in a rank: what is measured is recorded
  if (self == 0)
    bench_writes(other);
  else
    read_writes(other);
  std::filesystem::remove_all(folder);
}

} // namespace

int main() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return 1;
  const auto child = ::fork(); // before either touches a GPU
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::close(ends[0]);
    play(1, ends[1]);
    return 0;
  }
  ::close(ends[1]);
  play(0, ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
