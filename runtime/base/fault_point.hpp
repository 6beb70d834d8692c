#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "protocols/drill/injection_machine.hpp"
#include "protocols/drill/injection_points.hpp"
#include "runtime/base/unique_fd.hpp"

namespace troupe::base {

/// What a drilled process suffers: keeps its rules and carries out what strikes, on the thread that came by.
/// Before anything strikes, one line goes to the strikes file, so that whoever runs the drill knows when and where,
/// whatever is left of the process.
/// Threads: any. Ownership: one a process; fault points find it from `arm` until its end.
class fault_injector {
public:
  using device_handler = std::function<protocols::result<void>(const protocols::injection_rule&)>;

  struct options {
    protocols::rank_id self;
    std::string strikes_file; ///< JSON lines, appended; empty: none
  };
  explicit fault_injector(options what);
  ~fault_injector();
  fault_injector(const fault_injector&) = delete;
  fault_injector& operator=(const fault_injector&) = delete;

  /// Before the process has other threads.
  void arm() noexcept;

  /// A process action or delivery without a point strikes here and now. Errors: invalid_request, queue_full.
  protocols::result<void> add(protocols::injection_rule rule);

  /// Who hands a `deliver` rule's message to the actors; without one it is recorded and lost.
  void on_deliver(std::function<void(const protocols::injection_rule&)> handler);

  /// Who carries out what strikes a device. Without one, or where it fails, nothing has struck, and only the log tells.
  void on_device(device_handler handler);

  /// At a fault point. May not return, and may throw what the rule orders.
  void hit(std::string_view point);
  /// What is to become of a frame or of a write; the caller does it.
  std::optional<protocols::injection_rule> on_frame(const protocols::injection_machine::frame_place& at);
  std::optional<protocols::injection_rule> on_write(protocols::rank_id peer,
                                                    protocols::injection_machine::write_moment when);

  /// For the strikes file: this process has learnt that something is wrong with `rank`.
  void notice(protocols::rank_id rank) noexcept;

private:
  void write_line(const std::string& line) noexcept;
  void record(const protocols::injection_rule& rule) noexcept;
  void strike(const protocols::injection_rule& rule);
  void strike_device(const protocols::injection_rule& rule);

  options options_;
  unique_fd strikes_;
  std::mutex mutex_; ///< guards what follows; never held while something strikes
  protocols::injection_machine rules_;
  std::function<void(const protocols::injection_rule&)> deliver_;
  device_handler device_;
};

namespace detail {
extern std::atomic<fault_injector*> armed_injector;
}

/// Null where drills are off. It is set before other threads are started, so that no order is needed to read it.
inline fault_injector* armed_injector() noexcept {
  return detail::armed_injector.load(std::memory_order_relaxed);
}

} // namespace troupe::base

/// A named place at which a drill can strike. Another name than one of the table does not compile.
/// Where drills are off it costs one load of a null pointer. Not in a function that is noexcept: it may throw.
#define TROUPE_FAULT_POINT(point) TROUPE_FAULT_POINT_OF(::troupe::protocols::fault_points, point)
/// Of a program's own table.
#define TROUPE_FAULT_POINT_OF(table, point)                                                                            \
  do {                                                                                                                 \
    if (auto* const drill = ::troupe::base::armed_injector()) [[unlikely]]                                             \
      drill->hit(::troupe::protocols::fault_point_in(table, point));                                                   \
  } while (false)
