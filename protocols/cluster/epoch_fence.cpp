#include "protocols/cluster/epoch_fence.hpp"

#include <algorithm>
#include <string>

namespace troupe::protocols {

namespace {

std::string text_of(cache_epoch epoch) {
  return "epoch " + std::to_string(epoch.value);
}

} // namespace

void epoch_fence::check_invariants() const {
  TROUPE_ASSERT("D2", begun_ <= now_);
  for (const auto& [rank, when] : lost_in_)
    TROUPE_ASSERT("D2", begun_ < when && when <= now_);
}

void epoch_fence::on_lost(const lost& news) {
  const keeps_invariants checked{*this};
  if (news.epoch <= begun_)
    return;
  now_ = std::max(now_, news.epoch);
  for (const auto rank : news.ranks) {
    auto& when = lost_in_[rank];
    when = std::max(when, news.epoch);
  }
}

result<void> epoch_fence::validate(cache_epoch sent_in, rank_id about) const {
  const auto found = lost_in_.find(about);
  if (found == lost_in_.end() || sent_in >= found->second)
    return {};
  return fail(fault::stale_epoch, "sent in " + text_of(sent_in) + ", and rank " + std::to_string(about.value) +
                                      " was lost in " + text_of(found->second));
}

result<void> epoch_fence::validate_hello(cache_epoch begun_in, rank_id peer) const {
  if (begun_in < begun_)
    return fail(fault::stale_epoch,
                "an edge of " + text_of(begun_in) + " to a rank that was started in " + text_of(begun_));
  return validate(begun_in, peer);
}

result<void> validate_frame_epoch(cache_epoch edge, bool spans_epochs, cache_epoch frame) {
  if (frame == edge || (spans_epochs && frame > edge))
    return {};
  return fail(fault::stale_epoch, "a frame of " + text_of(frame) + " on an edge of " + text_of(edge));
}

} // namespace troupe::protocols
