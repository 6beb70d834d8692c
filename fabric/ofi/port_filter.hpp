#pragma once

#include <span>

#include "fabric/socket_address.hpp"

namespace troupe::fabric {

/// Makes the kernel drop what comes to a port that libfabric listens on, unless it comes from a source that is let in.
///
/// libfabric's tcp provider (1.17) accepts whoever connects and keeps each connection that says nothing for good, also
/// beyond the life of the listening endpoint, which it then uses after it was freed. So nobody may get as far: a packet
/// filter stands on the socket before it listens, and lets in the addresses of peers that have shown the job's token
/// at the engine's own door, each for as long as it is expected.
/// Rejected: to listen only while somebody is expected. A stranger who connects in that time stays.
/// Contract: K5.
/// Ownership: the socket is libfabric's, and is closed with its endpoint; do not use the filter after that.
class port_filter {
public:
  static constexpr std::size_t sources_max = 256;

  /// Finds the socket of this process that is bound to `at` and lets nobody in. Errors: config_invalid.
  static protocols::result<port_filter> close_port(const socket_address& at);

  /// From now on exactly these, `sources_max` at most. Errors: transfer_failed.
  protocols::result<void> admit(std::span<const socket_address> sources) const;

private:
  explicit port_filter(int socket) noexcept : socket_(socket) {}

  int socket_;
};

} // namespace troupe::fabric
