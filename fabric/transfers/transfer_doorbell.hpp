#pragma once

#include "protocols/fault.hpp"
#include "runtime/base/unique_fd.hpp"

namespace troupe::fabric {

/// What wakes an engine's thread out of its one poll: an eventfd, so that it can be waited for together with sockets
/// and handed to peers.
class transfer_doorbell {
public:
  transfer_doorbell() noexcept = default;
  explicit transfer_doorbell(base::unique_fd file) noexcept : file_(std::move(file)) {}

  /// Errors: no_memory (no descriptor left).
  static protocols::result<transfer_doorbell> create();

  /// Any thread. Never blocks; a doorbell that rings already stays so.
  void ring() const noexcept;
  /// The owner's thread, after it woke.
  void hush() const noexcept;
  int file() const noexcept { return file_.get(); }

private:
  base::unique_fd file_;
};

} // namespace troupe::fabric
