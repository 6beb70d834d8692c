#include "protocols/wire/begun_edges.hpp"

#include <algorithm>
#include <string>

namespace troupe::protocols {

result<void> begun_edges::judge(const name& which, generation from) const {
  const auto peer = std::get<rank_id>(which);
  if (const auto known = born(peer); from < known)
    return fail(fault::stale_generation,
                "generation " + std::to_string(from.value) + ", now " + std::to_string(known.value));
  if (begun(which) >= from)
    return fail(fault::wrong_sequence, "rank " + std::to_string(peer.value) + " has begun this edge before");
  return {};
}

void begun_edges::on_begun(const name& which, generation from) {
  begun_[which] = from;
  on_news(std::get<rank_id>(which), from);
}

void begun_edges::on_news(rank_id peer, generation from) {
  auto& known = born_[peer];
  known = std::max(known, from);
}

generation begun_edges::born(rank_id peer) const {
  const auto known = born_.find(peer);
  return known == born_.end() ? generation{} : known->second;
}

generation begun_edges::begun(const name& which) const {
  const auto known = begun_.find(which);
  return known == begun_.end() ? generation{} : known->second;
}

} // namespace troupe::protocols
