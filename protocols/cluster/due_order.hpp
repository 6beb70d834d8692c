#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace troupe::protocols {

/// The ranks that the supervisor serves in one turn, each once, into `due`; those whose process has ended first: what a
/// dead rank leaves undone grows while the frames and the output of others are read. The others in the order in which
/// they stand, so that none is passed over.
/// `owners`: the rank of each place that was polled, in order; the first place of each rank is its process.
/// `woken`: the places where poll found something, in order. `all`: whoever has something open is due.
/// Contract: C1.
void put_due_in_order(std::span<const std::size_t> owners, std::span<const std::size_t> woken, bool all,
                      std::vector<std::size_t>& due);

} // namespace troupe::protocols
