#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "protocols/flight/flight_ring.hpp"

/// Records in words, for people: what a rank was in, how it ended, how long something lasted.
namespace troupe::protocols {

/// Whether a collective's record stands for the exchange with one peer, inside the collective.
bool is_hop(const flight_record& what) noexcept;

/// "rank 3", "the supervisor".
std::string rank_text(rank_id rank);

/// "1.93 s", "12.4 ms".
std::string span_text(std::int64_t ns);

/// "; ended by signal 9 of the supervisor".
std::string end_text(const flight_record& end, bool put_down);

/// "all_reduce_sum of group prefill.0, call 17, phase prefill"; `groups` by id, for their names.
std::string describe(const flight_record& record, const std::vector<flight_story::group>& groups);

/// Of all that a rank's threads were in: first what others can hold up, then what the rank does itself.
flight_activity most_telling(const flight_story& story);

/// What a rank that has ended said of its fault, and what its threads were in, where that is told of them; empty where
/// neither is known.
std::string last_words(const flight_story& story);

} // namespace troupe::protocols
