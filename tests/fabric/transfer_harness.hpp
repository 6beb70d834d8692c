#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <ostream>
#include <string>
#include <vector>

#include <unistd.h>

#include <doctest/doctest.h>

#include "fabric/transfers/transfer.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::fabric::testing {

using namespace std::chrono_literals;
using protocols::fault;
using protocols::generation;
using protocols::rank_id;

inline constexpr protocols::duration patience = 20s;

inline protocols::time_point within(protocols::duration time) {
  return base::now() + time;
}

/// What an engine said. Any thread may wait for more of it and take copies.
class event_log {
public:
  struct delivery {
    std::uint64_t cookie;
    protocols::result<void> outcome;
  };
  struct arrival {
    rank_id from;
    std::uint64_t data;
  };
  struct departure {
    rank_id peer;
    protocols::failure cause;
  };

  transfer_events events() {
    return {.on_delivered =
                [this](std::uint64_t cookie, protocols::result<void> outcome) {
                  add(delivered_, {cookie, std::move(outcome)});
                },
            .on_arrived =
                [this](rank_id from, std::uint64_t data) {
                  add(arrived_, {from, data});
                },
            .on_peer_gone =
                [this](rank_id peer, protocols::failure cause) {
                  add(gone_, {peer, std::move(cause)});
                }};
  }

  bool wait_delivered(std::size_t count) { return wait(delivered_, count); }
  bool wait_arrived(std::size_t count, protocols::duration time = patience) { return wait(arrived_, count, time); }
  bool wait_gone() { return wait(gone_, 1); }

  std::vector<delivery> delivered() { return copy(delivered_); }
  std::vector<arrival> arrived() { return copy(arrived_); }
  std::vector<departure> gone() { return copy(gone_); }

  void forget() {
    const std::lock_guard lock{mutex_};
    delivered_.clear();
    arrived_.clear();
    gone_.clear();
  }

private:
  template <class Event>
  void add(std::vector<Event>& to, Event event) {
    const std::lock_guard lock{mutex_};
    to.push_back(std::move(event));
    changed_.notify_all();
  }
  template <class Event>
  bool wait(const std::vector<Event>& for_more_of, std::size_t count, protocols::duration time = patience) {
    std::unique_lock lock{mutex_};
    return changed_.wait_for(lock, time, [&] { return for_more_of.size() >= count; });
  }
  template <class Event>
  std::vector<Event> copy(const std::vector<Event>& of) {
    const std::lock_guard lock{mutex_};
    return of;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<delivery> delivered_;
  std::vector<arrival> arrived_;
  std::vector<departure> gone_;
};

inline std::string name_of(bulk_kind kind) {
  return std::string{name(kind)};
}

/// A unix path that no other engine of any test uses.
inline std::string fresh_path() {
  static std::atomic<int> count{0};
  return "/tmp/troupe-transfer-" + std::to_string(::getpid()) + "-" + std::to_string(count++) + ".sock";
}

/// An engine with its log and one or more regions, not yet attached to anything.
struct party {
  rank_id rank;
  generation born;
  std::string path;
  event_log log;
  std::unique_ptr<transfer_engine> engine; ///< after the log, which its thread writes to
  std::vector<local_region> regions;
  std::map<rank_id, generation> attached;

  party(bulk_kind kind, std::uint32_t rank_number, std::vector<std::size_t> sizes, std::size_t queue_max = 4096,
        std::string at = fresh_path(), std::uint32_t born_number = 1, std::array<std::byte, 32> token = {})
      : rank(rank_number), born(born_number), path(std::move(at)) {
    auto made = kind == bulk_kind::shared_memory
                    ? make_shared_memory_engine(
                          {.self = rank, .born = born, .job_token = token, .unix_path = path, .queue_max = queue_max})
                    : make_fabric_engine({.self = rank, .born = born, .job_token = token, .queue_max = queue_max});
    REQUIRE_MESSAGE(made, to_string(made.error()));
    engine = std::move(*made);
    for (const auto size : sizes) {
      auto region = engine->register_region(size);
      REQUIRE_MESSAGE(region, to_string(region.error()));
      regions.push_back(*region);
    }
    const auto started = engine->start(log.events());
    REQUIRE_MESSAGE(started, to_string(started.error()));
  }

  protocols::endpoint endpoint() const {
    return {.rank = rank,
            .born = born,
            .unix_path = path,
            .tcp_address = {},
            .tcp_port = 0,
            .fabric_address = engine->address()};
  }

  /// The lower rank has to come first where both are in one thread: it connects, the other's thread answers.
  void attach(const party& other) {
    const auto peer = engine->attach_peer(other.endpoint(), within(patience));
    REQUIRE_MESSAGE(peer, to_string(peer.error()));
    attached[other.rank] = other.born;
    for (const auto& region : other.regions) {
      const auto there = engine->attach_region(other.rank, region.card, within(patience));
      REQUIRE_MESSAGE(there, to_string(there.error()));
    }
  }

  /// Under a lease that holds as long as the test, unless the request names one.
  protocols::result<void> post(write_request request, ready_event ready) {
    if (request.lease == protocols::lease{})
      request.lease = {attached.contains(request.to) ? attached.at(request.to) : generation{1}, within(patience)};
    return engine->post(std::move(request), std::move(ready));
  }
};

} // namespace troupe::fabric::testing
