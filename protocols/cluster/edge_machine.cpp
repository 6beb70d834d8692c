#include "protocols/cluster/edge_machine.hpp"

#include "protocols/cluster/program.hpp"
#include <algorithm>
#include <iterator>

namespace troupe::protocols {

namespace {

std::set<lane_name> lanes_of(const cluster_plan& plan, rank_id self) {
  std::set<lane_name> out;
  const auto add = [&](rank_id one, rank_id other, channel_kind channel, group_id group) {
    if (one == self)
      out.insert({other, channel, group});
    if (other == self)
      out.insert({one, channel, group});
  };
  for (const auto& edge : plan.edges)
    add(edge.connects, edge.accepts, channel_kind::control, group_id{});
  for (const auto& edge : plan.token_edges)
    add(edge.connects, edge.accepts, channel_kind::tokens, group_id{});
  for (const auto& group : plan.groups)
    for (std::size_t i = 0; i < group.members.size(); ++i)
      for (std::size_t j = i + 1; j < group.members.size(); ++j)
        add(group.members[i], group.members[j], channel_kind::group, group.id);
  return out;
}

} // namespace

edge_machine::edge_machine(const cluster_plan& plan, rank_id self, generation born, cache_epoch epoch,
                           recovery_deadlines waits)
    : self_(self), born_(born), waits_(waits), fence_(epoch), label_(plan.rank(self).label),
      is_front_(plan.is_front(self)), planned_(lanes_of(plan, self)), listed_(plan.ranks.size()),
      known_(plan.ranks.size()) {}

edge_machine::driver edge_machine::driver_of(const lane_name& which) const {
  const bool sends_tokens = which.channel == channel_kind::tokens && !is_front_;
  return which.channel == channel_kind::group || sends_tokens ? driver::executor : driver::wire;
}

result<void> edge_machine::on_roster(const roster& everybody) {
  const keeps_invariants checked{*this};
  if (everybody.ranks.size() != listed_.size())
    return fail(fault::bad_value, "roster of " + std::to_string(everybody.ranks.size()) + " ranks");
  for (std::size_t i = 0; i < listed_.size(); ++i)
    if (everybody.ranks[i].rank.value != i)
      return fail(fault::bad_value, "roster with rank " + std::to_string(everybody.ranks[i].rank.value) +
                                        " in the place of rank " + std::to_string(i));
  for (const auto& peer : everybody.ranks) {
    listed_[peer.rank.value] = peer.born;
    on_news(peer.rank, peer.born);
  }
  return {};
}

bool edge_machine::begins(const lane_name& which) const {
  const auto theirs = listed(which.peer);
  return theirs == born_ ? self_ < which.peer : theirs < born_;
}

time_point edge_machine::deadline_with(rank_id peer, time_point deadline, time_point now) const {
  if (listed(peer) == born_)
    return deadline;
  return std::min<time_point>(deadline, now + waits_.reconnect);
}

result<void> edge_machine::validate_hello(rank_id peer, generation born, cache_epoch epoch, const hello& said) const {
  const lane_name which{peer, said.channel, said.group};
  if (said.channel == channel_kind::group && !planned_.contains(which))
    return fail(fault::wrong_group, "group " + std::to_string(said.group.value) + " does not join rank " +
                                        std::to_string(peer.value) + " and " + label_);
  const bool connects = born == born_ ? peer < self_ : born > born_;
  if (!planned_.contains(which) || (!connects && born >= born_))
    return fail(fault::wrong_rank, "rank " + std::to_string(peer.value) + " has no such edge to " + label_);
  if (!connects || born < known(peer))
    return fail(fault::stale_generation,
                "generation " + std::to_string(born.value) + ", now " + std::to_string(known(peer).value));
  if (auto holds = fence_.validate_hello(epoch, peer); !holds)
    return holds;
  if (begun(which) >= born)
    return fail(fault::wrong_sequence, "rank " + std::to_string(peer.value) + " has begun this edge before");
  return {};
}

void edge_machine::on_begun(const lane_name& which, generation born) {
  const keeps_invariants checked{*this};
  begun_[which] = born;
  on_news(which.peer, born);
}

result<void> edge_machine::on_lost(const lost& news) {
  const keeps_invariants checked{*this};
  for (const auto rank : news.ranks)
    if (rank.value >= known_.size())
      return fail(fault::bad_value, "rank " + std::to_string(rank.value));
  fence_.on_lost(news);
  for (const auto rank : news.ranks)
    on_news(rank, news.next);
  return {};
}

bool edge_machine::is_dropped(const lane_name& which, const lost& news) const {
  return std::ranges::find(news.ranks, which.peer) != news.ranks.end() && begun(which) < news.next;
}

result<edge_machine::admission> edge_machine::on_rejoin(const rejoin& order, time_point now) {
  const keeps_invariants checked{*this};
  for (const auto& peer : order.ranks)
    if (peer.rank.value >= listed_.size())
      return fail(fault::bad_value, "rank " + std::to_string(peer.rank.value));
  unreached_.reset();
  admission out{.ranks = {}, .lanes = {}, .by = now + waits_.admit};
  for (const auto& peer : order.ranks) {
    listed_[peer.rank.value] = peer.born;
    out.ranks.insert(peer.rank);
  }
  std::ranges::copy_if(planned_, std::back_inserter(out.lanes),
                       [&](const lane_name& which) { return out.ranks.contains(which.peer); });
  return out;
}

void edge_machine::on_unmade(rank_id peer, fault cause) {
  const keeps_invariants checked{*this};
  if (cause == fault::peer_gone || cause == fault::timeout)
    unreached_ = peer;
}

generation edge_machine::known(rank_id peer) const {
  return peer.value < known_.size() ? known_[peer.value] : generation{};
}

generation edge_machine::begun(const lane_name& which) const {
  const auto found = begun_.find(which);
  return found == begun_.end() ? generation{} : found->second;
}

void edge_machine::on_news(rank_id peer, generation born) {
  auto& known = known_.at(peer.value);
  known = std::max(known, born);
}

void edge_machine::check_invariants() const {
  TROUPE_ASSERT("B9", listed_.size() == known_.size());
  for (const auto& [which, born] : begun_) {
    TROUPE_ASSERT("B9", planned_.contains(which));
    TROUPE_ASSERT("D2", born <= known(which.peer));
  }
  TROUPE_ASSERT("K14", !unreached_ || unreached_->value < known_.size());
}

} // namespace troupe::protocols
