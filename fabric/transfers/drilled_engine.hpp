#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "fabric/transfers/wrapped_engine.hpp"
#include "runtime/base/fault_point.hpp"

namespace troupe::fabric {

/// The engine itself where drills are off; a `drilled_engine` around it where they are on.
std::unique_ptr<transfer_engine> drilled(std::unique_ptr<transfer_engine> with);

/// A data plane whose completions a drill can lose or delay, which uses a grant that has moved on, and which writes
/// other bytes than it should (protocols/drill/injection.hpp). Whatever else it does, it changes news and no byte, so
/// that what a drill finds is how the ranks judge news, and never a value that the drill itself has spoilt. Threads: as
/// of the engine within, and one of its own for completions that are late.
class drilled_engine final : public wrapped_engine {
public:
  drilled_engine(std::unique_ptr<transfer_engine> with, base::fault_injector& drill);
  ~drilled_engine() override;

  protocols::result<void> start(transfer_events events) override;
  protocols::result<void> post(write_request request, ready_event source_ready) override;
  void stop() noexcept override;

private:
  struct late_news {
    std::uint64_t cookie = 0;
    protocols::result<void> outcome;
  };
  /// Of a write that is not to be told: its news came again on a drill's order.
  static constexpr std::uint64_t untold = ~std::uint64_t{0};

  void on_delivered(std::uint64_t cookie, protocols::result<void> outcome);
  void on_arrived(protocols::rank_id from, std::uint64_t data);
  void tell_late();

  base::fault_injector& drill_;
  transfer_events events_;

  std::mutex mutex_;                                      ///< guards what follows
  std::map<std::uint64_t, protocols::rank_id> in_flight_; ///< by cookie
  std::optional<write_request> earlier_;                  ///< the last write, without its bytes
  std::multimap<protocols::time_point, late_news> late_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread teller_;
};

} // namespace troupe::fabric
