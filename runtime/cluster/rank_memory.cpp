#include <fstream>
#include <limits>
#include <string>

#include <fmt/format.h>

#include "fabric/transfers/device_memory.hpp"
#include "protocols/cluster/program.hpp"
#include "protocols/wire/codec.hpp"
#include "runtime/base/log.hpp"
#include "runtime/cluster/rank_runtime.hpp"

/// The regions of a rank: what it registers, who writes into them, where it writes.
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

/// Said before anything is loaded, with the sum: what is needed beside it is small and the libraries' own.
result<void> rank_runtime::check_device_room(const std::vector<actors::wanted_region>& wanted) const {
  if (!context_.on_device())
    return {};
  sum_of_needs needed;
  const auto weights = program_->weights();
  if (!weights)
    return tl::unexpected<failure>{weights.error()};
  for (const auto& [what, bytes] : *weights)
    needed.add(what, bytes);
  for (const auto& region : wanted)
    if (region.kind == fabric::memory_kind::device)
      needed.add(region.purpose, region.slots * region.slot_bytes);
  const auto left = device_memory_->left();
  if (!left)
    return tl::unexpected<failure>{left.error()};
  if (needed.bytes > left->unused)
    return fail(fault::no_memory, device_ + " has " + in_gib(left->unused) + " GiB free of " + in_gib(left->whole) +
                                      "; this rank needs " + in_gib(needed.bytes) + " GiB: " + needed.words);
  return {};
}

/// Mirrors are as large as what they mirror, and pinned: a host that has too little would end some process for it.
result<void> rank_runtime::check_host_room(const std::vector<actors::wanted_region>& wanted) const {
  if (!context_.by_way_of_host())
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

result<void> rank_runtime::register_regions() {
  const auto wanted = program_->regions();
  if (auto fits = check_device_room(wanted).and_then([&] { return check_host_room(wanted); }); !fits)
    return fits;
  for (const auto& region : wanted) {
    auto made = transfers_->register_region(region.slots * region.slot_bytes, region.kind);
    if (!made)
      return fail(made.error().code, "memory for " + region.purpose + ": " + made.error().what);
    made->card.slot_bytes = region.slot_bytes;
    context_.regions.emplace(region.purpose, *made);
  }
  return {};
}

std::vector<std::pair<rank_id, std::string>> rank_runtime::writers_of_mine() const {
  std::vector<std::pair<rank_id, std::string>> out;
  for (const auto& row : context_.plan.of->regions)
    if (context_.regions.contains(std::string{row.purpose}))
      for (const auto rank : ranks_at(context_.plan, row.writer))
        out.emplace_back(rank, row.purpose);
  return out;
}

std::vector<std::pair<rank_id, std::string>> rank_runtime::written_by_me() const {
  std::vector<std::pair<rank_id, std::string>> out;
  for (const auto& row : context_.plan.of->regions)
    if (context_.regions.contains(std::string{row.source}))
      for (const auto rank : ranks_at(context_.plan, row.owner))
        out.emplace_back(rank, row.purpose);
  return out;
}

/// Each region is announced to those who write it, and every region that this rank writes is mapped, once for each
/// generation of its owner (I23).
result<void> rank_runtime::attach_memory(const std::set<rank_id>& with, time_point deadline,
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

result<void> rank_runtime::attach_transfers(rank_id peer, time_point deadline) {
  auto at = everybody_[peer.value];
  at.unix_path = transfer_socket(peer);
  if (auto done = transfers_->attach_peer(at, edge_deadline(peer, deadline)); !done)
    return tl::unexpected<failure>{at_edge_with(
        peer, {done.error().code, "transfers with " + context_.plan.rank(peer).label + ": " + done.error().what})};
  return {};
}

result<void> rank_runtime::announce_regions(const std::set<rank_id>& to) {
  for (const auto& [writer, purpose] : writers_of_mine()) {
    if (!to.contains(writer))
      continue;
    const region announcement{purpose, context_.regions.at(purpose).card};
    if (writer == context_.self) {
      const std::lock_guard lock{mutex_};
      announced_[{context_.self, purpose}] = announcement.card;
      continue;
    }
    std::vector<std::byte> payload;
    encode_payload(announcement, payload);
    const auto key = wired_.at({writer, channel_kind::control, group_id{}});
    if (auto sent = wire_.post(key, {.type = region::type}, std::move(payload)); !sent)
      return sent;
  }
  return {};
}

result<void> rank_runtime::attach_regions(const std::set<rank_id>& of, time_point deadline,
                                          const std::function<bool()>& urgent) {
  for (const auto& wanted : written_by_me()) {
    const auto& [owner, purpose] = wanted;
    if (!of.contains(owner))
      continue;
    const auto told = [&]() -> result<region_card> {
      std::unique_lock lock{mutex_};
      return await(lock, deadline, urgent, [&] { return announced_.contains(wanted); }).map([&] {
        return announced_.at(wanted);
      });
    }();
    if (!told)
      return tl::unexpected<failure>{at_edge_with(
          owner, {told.error().code, "no word of region " + purpose + " from " + context_.plan.rank(owner).label})};
    if (auto done = transfers_->attach_region(owner, *told, edge_deadline(owner, deadline)); !done)
      return tl::unexpected<failure>{
          at_edge_with(owner, {done.error().code, "region " + purpose + " of " + context_.plan.rank(owner).label +
                                                      ": " + done.error().what})};
    context_.peer_regions.set(owner, purpose, *told);
  }
  return {};
}

} // namespace troupe::cluster
