#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>

#include "protocols/fault.hpp"

namespace troupe::fabric {

/// Where a stream socket listens, and how a person reads it.
struct socket_address {
  sockaddr_storage bytes{};
  socklen_t size = 0;
  std::string text; ///< "127.0.0.1:9000", "/run/troupe/job/rank0.sock"

  const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&bytes); }
  int family() const noexcept { return bytes.ss_family; }
};

/// Errors: config_invalid (longer than a unix socket's address takes).
protocols::result<socket_address> unix_address(const std::string& path);

/// `address` is numeric: asking a name server has no deadline. Errors: config_invalid.
protocols::result<socket_address> tcp_address(const std::string& address, std::uint16_t port);

} // namespace troupe::fabric
