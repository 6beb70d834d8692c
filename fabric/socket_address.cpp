#include "fabric/socket_address.hpp"

#include <netdb.h>
#include <sys/un.h>

#include <cstring>

namespace troupe::fabric {

using namespace protocols;

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

} // namespace troupe::fabric
