#include "fabric/socket_address.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace troupe::fabric {

using namespace protocols;

namespace {

using name_call = int (*)(int, sockaddr*, socklen_t*);

result<socket_address> ask(name_call call, int socket) {
  sockaddr_storage found{};
  socklen_t size = sizeof found;
  if (call(socket, reinterpret_cast<sockaddr*>(&found), &size) != 0)
    return fail(fault::peer_gone, std::strerror(errno));
  return network_address(std::as_bytes(std::span{&found, 1}).first(std::min<std::size_t>(size, sizeof found)));
}

} // namespace

result<socket_address> unix_address(const std::string& path) {
  sockaddr_un address{};
  if (path.size() >= sizeof address.sun_path)
    return fail(fault::config_invalid, "the unix socket path " + path + " has " + std::to_string(path.size()) +
                                           " bytes, the system takes " + std::to_string(sizeof address.sun_path - 1) +
                                           "; choose a shorter run directory");
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  socket_address out;
  std::memcpy(&out.bytes, &address, sizeof address);
  out.size = sizeof address;
  out.text = path;
  return out;
}

result<socket_address> tcp_address(const std::string& address, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0)
    return fail(fault::config_invalid, "\"" + address + "\" is not a numeric address such as 127.0.0.1 or ::1");
  socket_address out;
  std::memcpy(&out.bytes, found->ai_addr, found->ai_addrlen);
  out.size = found->ai_addrlen;
  out.text = found->ai_family == AF_INET6 ? "[" + address + "]:" : address + ":";
  out.text += std::to_string(port);
  ::freeaddrinfo(found);
  return out;
}

result<socket_address> network_address(std::span<const std::byte> bytes) {
  socket_address out;
  if (bytes.size() <= sizeof out.bytes)
    std::memcpy(&out.bytes, bytes.data(), bytes.size());
  const bool is_short = out.family() == AF_INET && bytes.size() == sizeof(sockaddr_in);
  if (!is_short && !(out.family() == AF_INET6 && bytes.size() == sizeof(sockaddr_in6)))
    return fail(fault::config_invalid, std::to_string(bytes.size()) + " bytes are no address of IPv4 or IPv6");
  out.size = static_cast<socklen_t>(bytes.size());
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (::getnameinfo(out.get(), out.size, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) == 0)
    out.text = (is_short ? std::string{host} : '[' + std::string{host} + ']') + ':' + port;
  return out;
}

std::vector<std::byte> bytes_of(const socket_address& address) {
  const auto all = std::as_bytes(std::span{&address.bytes, 1}).first(address.size);
  return {all.begin(), all.end()};
}

std::uint16_t port_of(const socket_address& address) noexcept {
  return ntohs(address.family() == AF_INET ? reinterpret_cast<const sockaddr_in&>(address.bytes).sin_port
                                           : reinterpret_cast<const sockaddr_in6&>(address.bytes).sin6_port);
}

void set_port(socket_address& of, std::uint16_t port) noexcept {
  if (of.family() == AF_INET)
    reinterpret_cast<sockaddr_in&>(of.bytes).sin_port = htons(port);
  else
    reinterpret_cast<sockaddr_in6&>(of.bytes).sin6_port = htons(port);
}

bool is_same(const socket_address& one, const socket_address& other) noexcept {
  if (one.family() != other.family())
    return false;
  if (one.family() == AF_INET) {
    const auto& left = reinterpret_cast<const sockaddr_in&>(one.bytes);
    const auto& right = reinterpret_cast<const sockaddr_in&>(other.bytes);
    return left.sin_port == right.sin_port && left.sin_addr.s_addr == right.sin_addr.s_addr;
  }
  const auto& left = reinterpret_cast<const sockaddr_in6&>(one.bytes);
  const auto& right = reinterpret_cast<const sockaddr_in6&>(other.bytes);
  return left.sin6_port == right.sin6_port && IN6_ARE_ADDR_EQUAL(&left.sin6_addr, &right.sin6_addr);
}

result<socket_address> own_address(int socket) {
  return ask(&::getsockname, socket);
}

result<socket_address> peer_address(int socket) {
  return ask(&::getpeername, socket);
}

} // namespace troupe::fabric
