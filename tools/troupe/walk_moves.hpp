#pragma once

#include <chrono>
#include <cstdint>
#include <random>
#include <string_view>

#include "protocols/cluster/cluster_plan.hpp"
#include "runtime/cluster/injection_text.hpp"

/// What a walk does next, and to whom: everything is drawn, so that a seed names a walk.
namespace troupe::tools {

enum class walk_move {
  ask,             ///< a few questions, by a client that comes or that is there
  leave,           ///< a client goes, whatever is open
  give_up,         ///< a client comes, asks, and goes before there can be an answer
  cancel,          ///< a client takes a question back
  overload,        ///< more than the front takes, at once
  kill,            ///< SIGKILL of a rank of a cell
  pause,           ///< SIGSTOP, and SIGCONT later; of a cell's rank sometimes so late that it is given up
  slow_step,       ///< a thread of a rank sleeps where it does its work
  late_message,    ///< frames of an edge come later
  late_completion, ///< a writer hears late that its write has ended
};
inline constexpr std::size_t walk_move_count = 10;
std::string_view name(walk_move move) noexcept;

using walk_random = std::mt19937_64;

/// Evenly from `least` to `most`.
std::chrono::milliseconds draw_span(walk_random& random, std::chrono::milliseconds least,
                                    std::chrono::milliseconds most);
walk_move draw_move(walk_random& random);
/// A rank that its cell's restart brings back: not the front.
const protocols::rank_plan& draw_victim(walk_random& random, const protocols::cluster_plan& plan);

/// At a fault point of a random rank: mostly for tenths of a second, seldom longer than a slot rests.
cluster::written_rule draw_slow_step(walk_random& random, const protocols::cluster_plan& plan);
cluster::written_rule draw_late_message(walk_random& random, const protocols::cluster_plan& plan);
cluster::written_rule draw_late_completion(walk_random& random, const protocols::cluster_plan& plan);

} // namespace troupe::tools
