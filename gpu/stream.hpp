#pragma once

#include <functional>
#include <memory>

#include "protocols/fault.hpp"
#include "protocols/time.hpp"

namespace troupe::gpu {

/// A point in the order of a stream. Ownership: the caller; it must not outlive the stream that made it.
class stream_event {
public:
  virtual ~stream_event() = default;
  stream_event(const stream_event&) = delete;
  stream_event& operator=(const stream_event&) = delete;

protected:
  stream_event() = default;
};

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

  /// Returns when everything that was put on the stream has happened. Errors: executor_failed with the device's words.
  virtual protocols::result<void> synchronize() = 0;

  virtual std::unique_ptr<stream_event> make_event() = 0;
  /// The event is now the point behind everything that was put on the stream so far.
  virtual void record(stream_event& at) = 0;
  /// Returns when the stream has come to where `until` was recorded last. Errors: timeout; executor_failed.
  virtual protocols::result<void> await(const stream_event& until, protocols::time_point deadline) = 0;

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
};

} // namespace troupe::gpu
