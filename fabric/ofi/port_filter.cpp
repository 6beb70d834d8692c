#include "fabric/ofi/port_filter.hpp"

#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

namespace troupe::fabric {

using protocols::fail;
using protocols::fault;
using protocols::result;

namespace {

/// In a TCP packet as a socket's filter sees it: the header of TCP comes first, that of IP stands before it.
constexpr std::uint32_t source_port_at = 0;
constexpr std::uint32_t source_at_v4 = static_cast<std::uint32_t>(SKF_NET_OFF) + 12;
constexpr std::uint32_t source_at_v6 = static_cast<std::uint32_t>(SKF_NET_OFF) + 8;
constexpr std::uint32_t whole_packet = 0xffff'ffff;

struct condition {
  std::uint16_t size; ///< BPF_H or BPF_W
  std::uint32_t at;
  std::uint32_t value;
};

std::vector<condition> conditions_of(const socket_address& source) {
  std::vector<condition> out;
  if (source.family() == AF_INET) {
    const auto& from = reinterpret_cast<const sockaddr_in&>(source.bytes);
    out.push_back({BPF_H, source_port_at, ntohs(from.sin_port)});
    out.push_back({BPF_W, source_at_v4, ntohl(from.sin_addr.s_addr)});
    return out;
  }
  const auto& from = reinterpret_cast<const sockaddr_in6&>(source.bytes);
  out.push_back({BPF_H, source_port_at, ntohs(from.sin6_port)});
  for (std::uint32_t word = 0; word < 4; ++word) {
    std::uint32_t value = 0;
    std::memcpy(&value, from.sin6_addr.s6_addr + 4 * word, sizeof value);
    out.push_back({BPF_W, source_at_v6 + 4 * word, ntohl(value)});
  }
  return out;
}

/// Passes a packet that meets all conditions of one source; the next source is tried where one is not met.
void add(std::vector<sock_filter>& program, const socket_address& source) {
  const auto conditions = conditions_of(source);
  for (std::size_t i = 0; i < conditions.size(); ++i) {
    const auto& [size, at, value] = conditions[i];
    const auto to_the_next = static_cast<std::uint8_t>(2 * (conditions.size() - i) - 1);
    program.push_back({static_cast<std::uint16_t>(BPF_LD | size | BPF_ABS), 0, 0, at});
    program.push_back({BPF_JMP | BPF_JEQ | BPF_K, 0, to_the_next, value});
  }
  program.push_back({BPF_RET | BPF_K, 0, 0, whole_packet});
}

/// -1: none.
int socket_bound_to(const socket_address& at) {
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd", none}) {
    const std::string name = entry.path().filename().string();
    int number = -1;
    std::from_chars(name.data(), name.data() + name.size(), number);
    const auto bound = own_address(number);
    if (bound && is_same(*bound, at) && !peer_address(number))
      return number;
  }
  return -1;
}

} // namespace

result<port_filter> port_filter::close_port(const socket_address& at) {
  const port_filter made{socket_bound_to(at)};
  if (made.socket_ < 0)
    return fail(fault::config_invalid, "the socket that libfabric listens with at " + at.text + " was not found");
  if (auto closed = made.admit({}); !closed)
    return fail(fault::config_invalid, at.text + " cannot be closed to strangers: " + closed.error().what);
  return made;
}

result<void> port_filter::admit(std::span<const socket_address> sources) const {
  std::vector<sock_filter> program;
  for (const auto& source : sources.first(std::min(sources.size(), sources_max)))
    add(program, source);
  program.push_back({BPF_RET | BPF_K, 0, 0, 0});
  const sock_fprog whole{static_cast<std::uint16_t>(program.size()), program.data()};
  if (::setsockopt(socket_, SOL_SOCKET, SO_ATTACH_FILTER, &whole, sizeof whole) != 0)
    return fail(fault::transfer_failed, std::string{"SO_ATTACH_FILTER: "} + std::strerror(errno));
  return {};
}

} // namespace troupe::fabric
