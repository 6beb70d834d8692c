#include "runtime/cluster/rank_memory.hpp"

#include <algorithm>
#include <fstream>
#include <limits>

#include <fmt/format.h>

#include "fabric/transfers/device_memory.hpp"
#include "fabric/transfers/drilled_engine.hpp"
#include "fabric/transfers/recorded_transfers.hpp"
#include "fabric/transfers/staged_engine.hpp"
#include "protocols/cluster/program.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/base/log.hpp"

namespace troupe::cluster {

using namespace protocols;

namespace {

/// What the kernel would give without taking it from a process; without end, where it does not say.
std::uint64_t host_memory_left() {
  std::ifstream file{"/proc/meminfo"};
  std::string name;
  for (std::uint64_t kib = 0; file >> name >> kib; std::getline(file, name))
    if (name == "MemAvailable:")
      return kib * 1024;
  return std::numeric_limits<std::uint64_t>::max();
}

/// "15.3"
std::string in_gib(std::uint64_t bytes) {
  return fmt::format("{:.1f}", static_cast<double>(bytes) / (1 << 30));
}

/// What is needed, in all and in words.
struct sum_of_needs {
  std::uint64_t bytes = 0;
  std::string words;

  void add(const std::string& what, std::uint64_t more) {
    words += (words.empty() ? "" : ", ") + what + ' ' + in_gib(more);
    bytes += more;
  }
};

} // namespace

rank_memory::rank_memory(actors::rank_context& rank, const rank_device& device, rank_edges& edges, options how)
    : rank_(rank), device_(device), edges_(edges), how_(std::move(how)) {}

std::string rank_memory::socket_of(rank_id rank) const {
  return how_.run_directory + "/t" + std::to_string(rank.value) + ".sock";
}

result<std::vector<std::byte>> rank_memory::open(actors::rank_program& program) {
  const auto& lanes = rank_.spec.lanes;
  auto engine = lanes.bulk == bulk_lane::fabric ? fabric::make_fabric_engine({.self = rank_.self,
                                                                              .born = rank_.born,
                                                                              .job_token = how_.job_token,
                                                                              .provider = lanes.fabric_provider,
                                                                              .interface = lanes.interface})
                                                : fabric::make_shared_memory_engine({.self = rank_.self,
                                                                                     .born = rank_.born,
                                                                                     .job_token = how_.job_token,
                                                                                     .unix_path = socket_of(rank_.self),
                                                                                     .devices = device_.memory()});
  if (!engine)
    return tl::unexpected<failure>{engine.error()};
  if (rank_.by_way_of_host()) {
    rank_.arrivals = std::make_shared<fabric::arrival_table>();
    engine = std::make_unique<fabric::staged_engine>(*std::move(engine), device_.memory(), rank_.arrivals);
  }
  transfers_ = fabric::record_transfers(fabric::drilled(*std::move(engine)), actors::count_transfers(rank_));
  rank_.transfers = transfers_.get();
  transfers_->be_watched({rank_.turns.get(), how_.nap});
  {
    base::flight_span registering{record_of(start_part::memory)};
    if (auto done = registering.ends(register_regions(program)); !done)
      return tl::unexpected<failure>{done.error()};
  }
  auto address = transfers_->address();
  return transfers_->start(program.transfer_events()).map([&] { return std::move(address); });
}

void rank_memory::stop() {
  if (transfers_)
    transfers_->stop();
}

/// Said before anything is loaded, with the sum: what is needed beside it is small and the libraries' own.
result<void> rank_memory::check_device_room(const actors::rank_program& program,
                                            const std::vector<actors::wanted_region>& wanted) const {
  if (!rank_.on_device())
    return {};
  sum_of_needs needed;
  const auto weights = program.weights();
  if (!weights)
    return tl::unexpected<failure>{weights.error()};
  for (const auto& [what, bytes] : *weights)
    needed.add(what, bytes);
  for (const auto& region : wanted)
    if (region.kind == fabric::memory_kind::device)
      needed.add(region.purpose, region.slots * region.slot_bytes);
  const auto left = device_.memory()->left();
  if (!left)
    return tl::unexpected<failure>{left.error()};
  if (needed.bytes > left->unused)
    return fail(fault::no_memory, device_.name() + " has " + in_gib(left->unused) + " GiB free of " +
                                      in_gib(left->whole) + "; this rank needs " + in_gib(needed.bytes) +
                                      " GiB: " + needed.words);
  return {};
}

/// Mirrors are as large as what they mirror, and pinned: a host that has too little would end some process for it.
result<void> rank_memory::check_host_room(const std::vector<actors::wanted_region>& wanted) const {
  if (!rank_.by_way_of_host())
    return {};
  sum_of_needs needed;
  for (const auto& region : wanted)
    if (region.kind == fabric::memory_kind::device)
      needed.add(region.purpose, region.slots * region.slot_bytes);
  const auto left = host_memory_left();
  if (needed.bytes > left)
    return fail(fault::no_memory, fmt::format("the host has {} GiB free; libfabric reaches no GPU's memory, so this "
                                              "rank needs {} GiB of the host's beside it: {}",
                                              in_gib(left), in_gib(needed.bytes), needed.words));
  base::log_info("libfabric reaches no GPU's memory: it is written by way of {} GiB of the host's ({})",
                 in_gib(needed.bytes), needed.words);
  return {};
}

result<void> rank_memory::register_regions(const actors::rank_program& program) {
  const auto wanted = program.regions();
  if (auto fits = check_device_room(program, wanted).and_then([&] { return check_host_room(wanted); }); !fits)
    return fits;
  for (const auto& region : wanted) {
    auto made = transfers_->register_region(region.slots * region.slot_bytes, region.kind);
    if (!made)
      return fail(made.error().code, "memory for " + region.purpose + ": " + made.error().what);
    made->card.slot_bytes = region.slot_bytes;
    rank_.regions.emplace(region.purpose, *made);
  }
  return {};
}

std::vector<rank_memory::peer_region> rank_memory::writers_of_mine() const {
  std::vector<peer_region> out;
  for (const auto& row : rank_.plan.of->regions)
    if (rank_.regions.contains(std::string{row.purpose}))
      for (const auto rank : ranks_at(rank_.plan, row.writer))
        out.emplace_back(rank, row.purpose);
  return out;
}

std::vector<rank_memory::peer_region> rank_memory::written_by_me() const {
  std::vector<peer_region> out;
  for (const auto& row : rank_.plan.of->regions)
    if (rank_.regions.contains(std::string{row.source}))
      for (const auto rank : ranks_at(rank_.plan, row.owner))
        out.emplace_back(rank, row.purpose);
  return out;
}

bool rank_memory::writes(rank_id owner, const std::string& purpose) const {
  const auto all = written_by_me();
  return std::ranges::find(all, peer_region{owner, purpose}) != all.end();
}

result<void> rank_memory::attach(const std::set<rank_id>& with, time_point deadline,
                                 const std::function<bool()>& urgent) {
  if (!transfers_)
    return {};
  std::set<rank_id> peers;
  for (const auto& each : {written_by_me(), writers_of_mine()})
    for (const auto& [rank, purpose] : each)
      if (with.contains(rank))
        peers.insert(rank);
  for (const auto peer : peers)
    if (auto done = attach_transfers(peer, deadline); !done)
      return done;
  if (auto done = announce_regions(peers); !done)
    return done;
  return attach_regions(peers, deadline, urgent);
}

result<void> rank_memory::attach_transfers(rank_id peer, time_point deadline) {
  auto at = edges_.peer(peer);
  at.unix_path = socket_of(peer);
  if (auto done = transfers_->attach_peer(at, edges_.deadline_with(peer, deadline)); !done)
    return tl::unexpected<failure>{edges_.unmade(
        peer, {done.error().code, "transfers with " + rank_.plan.rank(peer).label + ": " + done.error().what})};
  return {};
}

result<void> rank_memory::announce_regions(const std::set<rank_id>& to) {
  for (const auto& [writer, purpose] : writers_of_mine())
    if (to.contains(writer))
      if (auto said = edges_.announce(writer, {purpose, rank_.regions.at(purpose).card}); !said)
        return said;
  return {};
}

result<void> rank_memory::attach_regions(const std::set<rank_id>& of, time_point deadline,
                                         const std::function<bool()>& urgent) {
  for (const auto& [owner, purpose] : written_by_me()) {
    if (!of.contains(owner))
      continue;
    const auto told = edges_.await_region(owner, purpose, deadline, urgent);
    if (!told)
      return tl::unexpected<failure>{told.error()};
    if (auto done = transfers_->attach_region(owner, *told, edges_.deadline_with(owner, deadline)); !done)
      return tl::unexpected<failure>{edges_.unmade(
          owner,
          {done.error().code, "region " + purpose + " of " + rank_.plan.rank(owner).label + ": " + done.error().what})};
    rank_.peer_regions.set(owner, purpose, *told);
  }
  return {};
}

} // namespace troupe::cluster
