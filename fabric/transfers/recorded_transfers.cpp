#include "fabric/transfers/recorded_transfers.hpp"

#include <utility>

#include "fabric/transfers/wrapped_engine.hpp"
#include "runtime/base/flight_recorder.hpp"

namespace troupe::fabric {

using namespace protocols;

namespace {

using taken_sink = std::function<void(rank_id to, std::uint64_t completion_data, std::uint64_t bytes)>;

class recorded_transfers final : public wrapped_engine {
public:
  recorded_transfers(std::unique_ptr<transfer_engine> with, taken_sink on_taken)
      : wrapped_engine(std::move(with)), on_taken_(std::move(on_taken)) {}

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
                         .on_arrived =
                             [next = std::move(events.on_arrived)](rank_id from, std::uint64_t data) {
                               base::flight().note({.item = data, .peer = from, .action = flight_action::arrived});
                               next(from, data);
                             },
                         .on_peer_gone = std::move(events.on_peer_gone)});
  }

  result<void> post(write_request request, ready_event source_ready) override {
    flight_record posted{
        .item = request.cookie, .peer = request.to, .action = flight_action::transfer, .moment = flight_moment::begin};
    for (const auto& piece : request.pieces)
      posted.amount += piece.bytes;
    base::flight().note(posted); // before: its end may come while we are still here
    const auto data = request.completion_data;
    auto taken = with_->post(std::move(request), source_ready);
    if (taken) {
      on_taken_(posted.peer, data, posted.amount);
    } else {
      posted.moment = flight_moment::end;
      posted.outcome = static_cast<std::uint16_t>(taken.error().code);
      base::flight().note(posted);
    }
    return taken;
  }

private:
  taken_sink on_taken_;
};

} // namespace

std::unique_ptr<transfer_engine> record_transfers(std::unique_ptr<transfer_engine> with, taken_sink on_taken) {
  return std::make_unique<recorded_transfers>(std::move(with), std::move(on_taken));
}

} // namespace troupe::fabric
