#pragma once

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/epoch_fence.hpp"

namespace troupe::protocols {

/// Whether a message that `source` sent in `sent_in` may still be given to a machine of this rank: neither its source
/// nor a cell with which it would begin something was lost since. Its sender learns of that loss too, if it lives, and
/// ends what the message was about; so nobody is told. The receiving actor asks, since its mailbox alone knows whether
/// a loss or a message came first.
/// Those cells are `partners_of(what)`, which a program declares beside its messages, in their namespace.
/// Contract: D2, D8. Errors: stale_epoch.
template <class Message>
result<void> validate_epoch(const epoch_fence& fence, const cluster_plan& plan, rank_id source, cache_epoch sent_in,
                            const Message& what) {
  auto holds = fence.validate(sent_in, source);
  for (const auto cell : partners_of(what))
    for (const auto rank : plan.cell(cell).ranks)
      if (holds)
        holds = fence.validate(sent_in, rank);
  return holds;
}

} // namespace troupe::protocols
