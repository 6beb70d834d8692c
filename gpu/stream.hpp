#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "fabric/transfers/device_memory.hpp"
#include "gpu/wait_policy.hpp"
#include "protocols/fault.hpp"
#include "protocols/limits.hpp"
#include "protocols/time.hpp"

namespace troupe::gpu {

/// A point in the order of a stream, for whoever waits for it: this host, another stream, a transfer (E12).
/// Ownership: those who wait share it with the caller.
class stream_event : public fabric::device_event {};

/// Operations that were put together once and can be launched as one, as often as wanted; see stream::capture.
class captured_work {
public:
  virtual ~captured_work() = default;
  captured_work(const captured_work&) = delete;
  captured_work& operator=(const captured_work&) = delete;

protected:
  captured_work() = default;
};

/// An order of operations on a device. On a CPU it is the executor's own thread: an operation has happened when its
/// call returns. Threads: the executor that owns it.
class stream {
public:
  using work = std::function<protocols::result<void>()>;

  virtual ~stream() = default;
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;

  /// Returns when everything that was put on the stream has happened. Errors: timeout, with the device and the mark
  /// that it passed last; executor_failed with the device's words and the same. Both are final.
  protocols::result<void> synchronize(protocols::time_point deadline, wait_policy how);
  /// For what is no step's: with limits::device_deadline.
  protocols::result<void> synchronize();

  /// A place in the order of the stream that shows whoever waits for what is behind it how far the device has come: as
  /// progress to the watchdog (C4), as a name in what goes wrong (C1). `what`: a literal. It costs the device a
  /// microsecond, and is left out of captured work and when very many are on their way.
  virtual void mark(const char* what, std::uint32_t number) = 0;

  virtual std::unique_ptr<stream_event> make_event() = 0;
  /// The event is now the point behind everything that was put on the stream so far.
  virtual void record(stream_event& at) = 0;
  /// Returns when the stream has come to where `until` was recorded last. Errors: timeout, which may be waited for
  /// again; executor_failed.
  protocols::result<void> await(const stream_event& until, protocols::time_point deadline,
                                wait_policy how = wait_policy::spin);

  /// Whether a launch of captured work costs the host less than its operations do.
  virtual bool gains_by_capture() const noexcept = 0;
  /// What `what` puts on the stream, to be launched later: on a device `what` runs once, now, and nothing that it names
  /// happens yet; on a CPU it is kept and runs with every launch. Its tensors must stay where they are, everything that
  /// it allocates must be there already (run it once before), and it must wait for nothing.
  /// Errors: those of `what`; executor_failed.
  virtual protocols::result<std::unique_ptr<captured_work>> capture(work what) = 0;
  /// Errors: those of the work, where it runs now; executor_failed.
  virtual protocols::result<void> launch(captured_work& what) = 0;

protected:
  stream() = default;

private:
  // What waiting is made of; none of it waits. It is done here and not by the device's plug-in, which does not see the
  // flight recorder of the process.
  virtual protocols::result<bool> passed(const stream_event& until) = 0;
  /// As `passed` has seen them, in all.
  virtual std::uint64_t marks_passed() const noexcept = 0;
  /// What to say of a stream that is not where it should be.
  virtual protocols::failure late() const = 0;
  virtual const stream_event& record_end() = 0;
  /// Hands out what was downloaded, unless `ended` says that it is not there; a failure is the stream's from here on.
  virtual protocols::result<void> finish_downloads(protocols::result<void> ended) = 0;
};

} // namespace troupe::gpu
