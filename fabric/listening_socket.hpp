#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "fabric/socket_address.hpp"
#include "protocols/fault.hpp"
#include "protocols/time.hpp"
#include "runtime/base/unique_fd.hpp"

namespace troupe::fabric {

/// A socket that listens, and how connections are taken from it: the one way for every port and path of a job.
///
/// A unix socket's file is its owner's alone, and has its name only once it listens, so who sees it can connect. A file
/// that a killed process left there is taken over; one that somebody listens at, or that is no socket, is not.
///
/// A process that has no descriptor left cannot accept, and would be woken for the same connection again and again: it
/// rests for `no_descriptor_pause` instead. Who may wait (clients) leaves `descriptors_kept` to what may not (lanes,
/// successors of ranks): descriptors are given out from the lowest, so the number of a new one tells how many are left.
/// Who comes beyond them is told so, where all are used up with a spare one.
/// Contract: C20, K5, K9.
/// Threads: one at a time. Never blocks.
class listening_socket {
public:
  static constexpr protocols::duration no_descriptor_pause = std::chrono::milliseconds{100};
  static constexpr std::size_t descriptors_kept = 32;

  listening_socket() noexcept = default;
  explicit listening_socket(base::unique_fd socket) noexcept : socket_(std::move(socket)) {}

  /// `type`: SOCK_STREAM or SOCK_SEQPACKET. Errors: config_invalid, with path and errno in words.
  static protocols::result<listening_socket> at_unix(const std::string& path, int type);
  /// Errors: config_invalid; `advice` follows "address in use".
  static protocols::result<listening_socket> at_network(const socket_address& at, const std::string& advice);

  /// One connection that waits, non-blocking; none: nobody waits, or no descriptor is free.
  base::unique_fd accept();
  struct visitor {
    base::unique_fd socket; ///< none: nobody waits, or it rests
    bool crowded = false;   ///< it has one of the descriptors that are kept: to be told so and let go
  };
  /// The same for who may wait.
  visitor accept_spare();

  /// What to poll for; -1, which poll passes over, while it rests.
  int waits_on() const;
  int file() const noexcept { return socket_.get(); }
  explicit operator bool() const noexcept { return static_cast<bool>(socket_); }
  void close() noexcept { socket_.reset(); }

private:
  base::unique_fd take_next();

  base::unique_fd socket_;
  base::unique_fd spare_; ///< given up to accept a connection that is to be told that there is no descriptor
  protocols::time_point rests_until_{};
};

} // namespace troupe::fabric
