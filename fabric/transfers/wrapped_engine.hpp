#pragma once

#include <memory>
#include <utility>

#include "fabric/transfers/transfer.hpp"

namespace troupe::fabric {

/// An engine around another: whatever it does not do in its own way, the one within does.
/// Threads and errors: those of the engine within.
class wrapped_engine : public transfer_engine {
public:
  bulk_kind kind() const noexcept override { return with_->kind(); }
  protocols::result<local_region> register_region(std::size_t bytes, memory_kind kind) override {
    return with_->register_region(bytes, kind);
  }
  void be_watched(const base::watching& by) override { with_->be_watched(by); }
  std::vector<std::byte> address() const override { return with_->address(); }
  protocols::result<void> attach_peer(const protocols::endpoint& peer, protocols::time_point deadline) override {
    return with_->attach_peer(peer, deadline);
  }
  protocols::result<void> attach_region(protocols::rank_id peer, const protocols::region_card& card,
                                        protocols::time_point deadline) override {
    return with_->attach_region(peer, card, deadline);
  }
  void stop() noexcept override { with_->stop(); }

protected:
  explicit wrapped_engine(std::unique_ptr<transfer_engine> with) : with_(std::move(with)) {}

  std::unique_ptr<transfer_engine> with_;
};

} // namespace troupe::fabric
