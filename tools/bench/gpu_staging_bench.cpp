/// What a write of keys and values costs by way of the host's memory, over libfabric: from a post to the word that the
/// bytes stand in the other GPU's memory, beside the same write between regions of the host, which is the lane alone,
/// and beside the copies from a GPU to pinned memory and back, which are the rest.
/// Needs a GPU; of several it takes the first and the last.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "fabric/ofi/fabric_engine.hpp"
#include "fabric/transfers/region_memory.hpp"
#include "fabric/transfers/staged_engine.hpp"
#include "gpu/backend.hpp"
#include "runtime/base/clock.hpp"
#include "tools/bench/must.hpp"

namespace {

using namespace troupe;
using bench::must;
using namespace std::chrono_literals;

constexpr std::size_t region_bytes = std::size_t{4} << 30;
constexpr std::uint64_t room = 1;

struct hand_over {
  const char* name;
  std::size_t bytes;
  std::size_t piece; ///< of an 8B shape, as in gpu_links_bench
  int rounds;
};
constexpr std::array hand_overs{hand_over{"20 MB, pieces of 288 KiB", 20'054'016, 294'912, 9},
                                hand_over{"20 MB, pieces of 2.25 MiB", 20'054'016, 8 * 294'912, 9},
                                hand_over{"4 GB, pieces of 288 KiB", 4'000'186'368, 294'912, 3},
                                hand_over{"4 GB, pieces of 2.25 MiB", 4'000'186'368, 8 * 294'912, 3}};

double median(std::vector<double> of) {
  std::nth_element(of.begin(), of.begin() + static_cast<std::ptrdiff_t>(of.size() / 2), of.end());
  return of[of.size() / 2];
}

/// One end.
struct side {
  std::shared_ptr<fabric::arrival_table> arrivals = std::make_shared<fabric::arrival_table>();
  std::unique_ptr<fabric::transfer_engine> engine;
  fabric::local_region of_device, of_host;
  std::atomic<std::uint64_t> arrived = 0;

  side(std::uint32_t rank, const std::string& device) {
    engine = std::make_unique<fabric::staged_engine>(
        must(fabric::fabric_engine::create({.self = protocols::rank_id{rank}, .born = protocols::generation{1}})),
        must(gpu::open_device_memory(device)), arrivals);
    const auto begun = base::now();
    of_device = must(engine->register_region(region_bytes, fabric::memory_kind::device));
    std::printf("%s: a region of 4 GiB with its mirror registered in %.2f s\n", device.c_str(),
                std::chrono::duration<double>(base::now() - begun).count());
    of_host = must(engine->register_region(region_bytes));
    must(engine->start({.on_delivered = [](std::uint64_t, protocols::result<void> end) { must(std::move(end)); },
                        .on_arrived =
                            [this](protocols::rank_id, std::uint64_t) {
                              arrived.fetch_add(1);
                              arrived.notify_one();
                            },
                        .on_peer_gone = [](protocols::rank_id, const protocols::failure&) {}}));
  }
  protocols::endpoint at(std::uint32_t rank) const {
    protocols::endpoint here;
    here.rank = protocols::rank_id{rank};
    here.born = protocols::generation{1};
    here.fabric_address = engine->address();
    return here;
  }
};

std::vector<fabric::write_piece> pieces_of(const hand_over& what) {
  std::vector<fabric::write_piece> pieces;
  for (std::size_t at = 0; at < what.bytes; at += what.piece)
    pieces.push_back({at, at, std::min(what.piece, what.bytes - at)});
  return pieces;
}

/// One GPU's copies, alone.
void bench_copies(const std::string& device) {
  const auto memory = must(gpu::open_device_memory(device));
  const auto region = must(memory->make(region_bytes));
  const auto host = must(fabric::region_memory::create(region_bytes, "troupe-region"));
  const auto pinned = must(memory->pin(host.bytes()));
  const auto copies = memory->make_copies();
  const auto copy = [&](const hand_over& what, const std::byte* from, std::byte* to) {
    const auto pieces = pieces_of(what);
    std::vector<double> taken;
    for (int round = 0; round < what.rounds; ++round) {
      const auto begun = base::now();
      must(copies->begin(pieces, from, to, fabric::device_reach::pinned, nullptr));
      while (!must(copies->finished())) {
      }
      taken.push_back(std::chrono::duration<double>(base::now() - begun).count());
    }
    return median(std::move(taken));
  };
  std::printf("copies of %-22s     to pinned memory              and back\n", device.c_str());
  for (const auto& each : hand_overs) {
    const double out = copy(each, region->bytes().data(), host.bytes().data());
    const double in = copy(each, host.bytes().data(), region->bytes().data());
    const double gigabytes = static_cast<double>(each.bytes) / 1e9;
    std::printf("%-28s %10.2f ms %5.1f GB/s %10.2f ms %5.1f GB/s\n", each.name, out * 1e3, gigabytes / out, in * 1e3,
                gigabytes / in);
  }
}

/// Seconds; the first round is left out.
double write(side& from, side& to, const hand_over& what, bool of_device) {
  const auto pieces = pieces_of(what);
  std::vector<double> taken;
  for (int round = 0; round <= what.rounds; ++round) {
    if (of_device)
      to.arrivals->expect(protocols::rank_id{0}, room, {to.of_device.id, pieces});
    const auto before = to.arrived.load();
    const auto begun = base::now();
    must(from.engine->post({.to = protocols::rank_id{1},
                            .source_region = of_device ? from.of_device.id : from.of_host.id,
                            .target_region = of_device ? to.of_device.id : to.of_host.id,
                            .pieces = pieces,
                            .completion_data = room,
                            .lease = {protocols::generation{1}, begun + 30s},
                            .deadline = begun + 30s},
                           fabric::ready_event::already()));
    to.arrived.wait(before);
    if (round > 0)
      taken.push_back(std::chrono::duration<double>(base::now() - begun).count());
  }
  return median(std::move(taken));
}

} // namespace

int main() {
  bench_copies("cuda:0");
  const auto gpus = must(gpu::count_devices("cuda"));
  side from{0, "cuda:0"};
  side to{1, "cuda:" + std::to_string(gpus == 0 ? 0 : gpus - 1)};
  must(from.engine->attach_peer(to.at(1), base::now() + 10s));
  must(to.engine->attach_peer(from.at(0), base::now() + 10s));
  for (const auto& card : {to.of_device.card, to.of_host.card})
    must(from.engine->attach_region(protocols::rank_id{1}, card, base::now() + 10s));

  std::printf("writes over libfabric (tcp, lo)   from host to host          from GPU to GPU    beside the lane\n");
  for (const auto& each : hand_overs) {
    const double alone = write(from, to, each, false);
    const double whole = write(from, to, each, true);
    const double gigabytes = static_cast<double>(each.bytes) / 1e9;
    std::printf("%-28s %10.1f ms %5.2f GB/s %10.1f ms %5.2f GB/s %10.2f ms\n", each.name, alone * 1e3,
                gigabytes / alone, whole * 1e3, gigabytes / whole, (whole - alone) * 1e3);
  }
  from.engine->stop();
  to.engine->stop();
}
