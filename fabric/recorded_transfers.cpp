#include "fabric/recorded_transfers.hpp"

#include <utility>

#include "runtime/base/flight_recorder.hpp"

namespace troupe::fabric {

using namespace protocols;

namespace {

class recorded_transfers final : public transfer_engine {
public:
  explicit recorded_transfers(std::unique_ptr<transfer_engine> with) : with_(std::move(with)) {}

  bulk_kind kind() const noexcept override { return with_->kind(); }
  result<local_region> register_region(std::size_t bytes, memory_kind kind) override {
    return with_->register_region(bytes, kind);
  }
  std::vector<std::byte> address() const override { return with_->address(); }

  result<void> start(transfer_events events) override {
    return with_->start({.on_delivered =
                             [next = std::move(events.on_delivered)](std::uint64_t cookie, result<void> outcome) {
                               base::flight().note({.item = cookie,
                                                    .outcome = outcome
                                                                   ? std::uint16_t{0}
                                                                   : static_cast<std::uint16_t>(outcome.error().code),
                                                    .action = flight_action::transfer,
                                                    .moment = flight_moment::end});
                               next(cookie, std::move(outcome));
                             },
                         .on_landed =
                             [next = std::move(events.on_landed)](rank_id from, std::uint64_t data) {
                               base::flight().note({.item = data, .peer = from, .action = flight_action::landed});
                               next(from, data);
                             },
                         .on_peer_gone = std::move(events.on_peer_gone)});
  }

  result<void> attach_peer(const endpoint& peer, time_point deadline) override {
    return with_->attach_peer(peer, deadline);
  }
  result<void> attach_region(rank_id peer, const region_card& card) override {
    return with_->attach_region(peer, card);
  }

  result<void> post(write_request request, ready_event source_ready) override {
    flight_record posted{
        .item = request.cookie, .peer = request.to, .action = flight_action::transfer, .moment = flight_moment::begin};
    for (const auto& piece : request.pieces)
      posted.amount += piece.bytes;
    base::flight().note(posted); // before: its end may come while we are still here
    auto taken = with_->post(std::move(request), source_ready);
    if (!taken) {
      posted.moment = flight_moment::end;
      posted.outcome = static_cast<std::uint16_t>(taken.error().code);
      base::flight().note(posted);
    }
    return taken;
  }

  void stop() noexcept override { with_->stop(); }

private:
  std::unique_ptr<transfer_engine> with_;
};

} // namespace

std::unique_ptr<transfer_engine> record_transfers(std::unique_ptr<transfer_engine> with) {
  return std::make_unique<recorded_transfers>(std::move(with));
}

} // namespace troupe::fabric
