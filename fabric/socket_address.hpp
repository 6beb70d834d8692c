#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

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

/// As `bytes_of` made it. Errors: config_invalid (not an address of IPv4 or IPv6).
protocols::result<socket_address> network_address(std::span<const std::byte> bytes);
std::vector<std::byte> bytes_of(const socket_address& address);

std::uint16_t port_of(const socket_address& address) noexcept;
void set_port(socket_address& of, std::uint16_t port) noexcept;

/// Whether both have the same family, host and port.
bool is_same(const socket_address& one, const socket_address& other) noexcept;

/// Where a socket of IPv4 or IPv6 is bound, and what it is connected to. Errors: peer_gone (it is no such socket, or
/// no more).
protocols::result<socket_address> own_address(int socket);
protocols::result<socket_address> peer_address(int socket);

/// `address` is numeric: asking a name server has no deadline. Errors: config_invalid.
protocols::result<socket_address> tcp_address(const std::string& address, std::uint16_t port);

} // namespace troupe::fabric
