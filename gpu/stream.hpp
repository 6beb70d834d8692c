#pragma once

#include "protocols/fault.hpp"

namespace troupe::gpu {

/// An order of operations on a device. On a CPU it is the executor's own thread: an operation has happened when its
/// call returns. Threads: the executor that owns it.
class stream {
public:
  virtual ~stream() = default;
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;

  /// Returns when everything that was put on the stream has happened. Errors: executor_failed with the device's words.
  virtual protocols::result<void> synchronize() = 0;

protected:
  stream() = default;
};

} // namespace troupe::gpu
