#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "fabric/socket_address.hpp"
#include "protocols/fault.hpp"
#include "protocols/time.hpp"
#include "runtime/base/unique_fd.hpp"

namespace troupe::fabric {

/// Listens and accepts connections. Every port and path of a job that listens does so through this class.
///
/// A unix socket's file is its owner's alone. It gets its name only once the socket listens, so whoever sees it can
/// connect. A socket file that a killed process left is replaced; a file that a process listens on, or that is no
/// socket, is an error.
///
/// A process that has no descriptor left cannot accept, and poll would wake it for the same connection again and again.
/// So it stops polling for `no_descriptor_pause`. The last `descriptors_kept` descriptors are kept for lanes and
/// restarted ranks: a client that gets one of them is told so and closed. Descriptors are assigned from the lowest, so
/// the number of a new one shows how many are left. When none is left, a spare one is closed to answer the client.
/// Contract: C20, K5, K9.
/// Threads: one at a time. Never blocks.
class listening_socket {
public:
  static constexpr protocols::duration no_descriptor_pause = std::chrono::milliseconds{100};
  static constexpr std::size_t descriptors_kept = 32;

  listening_socket() noexcept = default;
  explicit listening_socket(base::unique_fd socket) noexcept : socket_(std::move(socket)) {}

  /// A socket gets its path by a rename, so that nobody connects to one that does not listen yet.
  static constexpr std::string_view unnamed_suffix = ".new";
  /// `type`: SOCK_STREAM or SOCK_SEQPACKET. Errors: config_invalid, with path and errno in words.
  static protocols::result<listening_socket> at_unix(const std::string& path, int type);
  /// Errors: config_invalid; `advice` follows "address in use".
  static protocols::result<listening_socket> at_network(const socket_address& at, const std::string& advice);

  /// One waiting connection, non-blocking; none: no connection waits, or no descriptor is free.
  base::unique_fd accept();
  struct visitor {
    base::unique_fd socket; ///< none: no connection waits, or no descriptor is free
    bool crowded = false;   ///< it has one of the kept descriptors: tell the client and close it
  };
  /// The same for clients, which leave `descriptors_kept` free.
  visitor accept_spare();

  /// What to poll; -1, which poll ignores, during `no_descriptor_pause`.
  int waits_on() const;
  int file() const noexcept { return socket_.get(); }
  explicit operator bool() const noexcept { return static_cast<bool>(socket_); }
  void close() noexcept { socket_.reset(); }

private:
  base::unique_fd take_next();

  base::unique_fd socket_;
  base::unique_fd spare_; ///< closed to accept a client that is to be told that there is no descriptor
  protocols::time_point rests_until_{};
};

} // namespace troupe::fabric
