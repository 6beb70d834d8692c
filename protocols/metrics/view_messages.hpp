#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "protocols/cluster/life_messages.hpp"
#include "protocols/metrics/activity.hpp"
#include "protocols/metrics/metric_row.hpp"

/// Messages that bring counts and states of ranks to the front: each rank sends its own to the supervisor, which sends
/// the front those of all ranks. Both use control sockets, not lanes, so metrics never delay requests.
/// A message names its fields once, in `fields` (wire/codec.hpp).
namespace troupe::protocols {

/// What the supervisor finds wrong with a rank that has not failed.
enum class seen_trouble : std::uint8_t {
  none = 0,
  still = 1,  ///< the rank is busy and completes nothing
  silent = 2, ///< the rank gives no sign of life
};
constexpr bool is_valid(seen_trouble what) noexcept {
  return what <= seen_trouble::silent;
}

/// Where the cluster is in its life.
enum class cluster_stage : std::uint8_t {
  starting = 0,
  ready = 1,
  recovering = 2,
  draining = 3,
  ending = 4, ///< all ranks are told to leave at once, or are killed
};
constexpr bool is_valid(cluster_stage stage) noexcept {
  return stage <= cluster_stage::ending;
}

inline constexpr rank_id about_nobody{0xffff'ffffu};

/// A counter or a gauge.
struct counter_value {
  metric_number metric;
  rank_id about = about_nobody; ///< for a row with `about_peers`: the other rank
  std::uint64_t value = 0;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.metric, self.about, self.value);
  }
  bool operator==(const counter_value&) const = default;
};

struct histogram_value {
  metric_number metric;
  std::uint64_t sum = 0;                  ///< of all observed values
  std::vector<std::uint64_t> counts = {}; ///< one for each bound of the row, and one above all bounds; not cumulative

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.metric, self.sum, self.counts);
  }
  bool operator==(const histogram_value&) const = default;
};

/// Rank to supervisor, every `view_period`: all that this process has counted since its start.
struct counters {
  static constexpr auto type = message_type::counters;
  life_state state = life_state::spawned;
  rank_activity activity = rank_activity::idle;
  std::uint64_t progress = 0;   ///< steps, layers and collectives completed
  std::uint64_t view_taken = 0; ///< from the front: the newest `cluster_view::number` that it has
  std::vector<counter_value> values = {};
  std::vector<histogram_value> histograms = {};

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.state, self.activity, self.progress, self.view_taken, self.values, self.histograms);
  }
  bool operator==(const counters&) const = default;
};

/// One rank, as its supervisor knows it. Ages count up to the moment of sending, since clocks of hosts differ.
struct rank_view {
  rank_id rank;
  generation born;
  life_state state = life_state::spawned;
  seen_trouble trouble = seen_trouble::none;
  rank_activity activity = rank_activity::idle;
  std::uint32_t progress_age_ms = 0; ///< since it last completed something, idle or not
  std::uint32_t still_ms = 0;        ///< how long it has been busy without completing anything
  std::uint32_t restarts = 0;
  std::string host = {};
  std::string cause = {}; ///< of its last loss; empty: it was never lost
  std::vector<counter_value> values = {};
  std::vector<histogram_value> histograms = {};

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.rank, self.born, self.state, self.trouble, self.activity, self.progress_age_ms, self.still_ms,
                     self.restarts, self.host, self.cause, self.values, self.histograms);
  }
  bool operator==(const rank_view&) const = default;
};

/// Supervisor to front: a page of ranks. A rank that it does not name is unchanged.
struct cluster_view {
  static constexpr auto type = message_type::cluster_view;
  std::uint64_t number = 0; ///< from 1
  cluster_stage stage = cluster_stage::starting;
  cache_epoch epoch = {};
  std::vector<rank_view> ranks = {};

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.number, self.stage, self.epoch, self.ranks);
  }
  bool operator==(const cluster_view&) const = default;
};

} // namespace troupe::protocols
