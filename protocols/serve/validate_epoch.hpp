#pragma once

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/epoch_fence.hpp"
#include "protocols/serve/serve_message.hpp"

namespace troupe::protocols {

/// Calls `visit` with each cell with which the message makes its receiver begin something.
/// `encode` names a cell too and is not here: it brings a pixel slot back, which its receiver must learn of even if the
/// rows are wanted by nobody any more (K3). The front's `cancel` ends what it began.
template <class Message, class Visit>
void visit_partners(const Message&, const Visit&) {}
template <class Visit>
void visit_partners(const submit& what, const Visit& visit) {
  for (const auto& each : what.pictures)
    visit(each.encode_cell);
  visit(what.decode_cell);
}
template <class Visit>
void visit_partners(const reserve_kv& what, const Visit& visit) {
  visit(what.prefill_cell);
}
template <class Visit>
void visit_partners(const reserve_rows& what, const Visit& visit) {
  visit(what.encode_cell);
}
template <class Visit>
void visit_partners(const reserve_blocks& what, const Visit& visit) {
  visit(what.prefill_cell);
}

/// Whether a message that `source` sent in `sent_in` may still be given to a machine of this rank: neither its source
/// nor a cell with which it would begin something was lost since. Its sender learns of that loss too, if it lives, and
/// ends what the message was about; so nobody is told. The receiving actor asks, since its mailbox alone knows whether
/// a loss or a message came first.
/// Contract: D2, D8. Errors: stale_epoch.
template <class Message>
result<void> validate_epoch(const epoch_fence& fence, const cluster_plan& plan, rank_id source, cache_epoch sent_in,
                            const Message& what) {
  auto holds = fence.validate(sent_in, source);
  visit_partners(what, [&](cell_id cell) {
    for (const auto rank : plan.cell(cell).ranks)
      if (holds)
        holds = fence.validate(sent_in, rank);
  });
  return holds;
}

} // namespace troupe::protocols
