#include "fabric/lanes/handshake.hpp"
#include "inputs.hpp"
#include "target.hpp"

using namespace troupe;

/// What reads the first frame of a peer that nobody knows yet. The first byte says in pieces of how many it arrives.
TROUPE_FUZZ_TARGET(handshake) {
  if (input.empty())
    return;
  const std::size_t piece = 1 + std::to_integer<std::size_t>(input.front());
  const auto bytes = fuzz::sealed(input.subspan(1));
  const auto [peer, own] = fuzz::stream_pair();
  fabric::handshake_reader reader;
  for (std::span<const std::byte> rest{bytes}; !rest.empty(); rest = rest.subspan(std::min(piece, rest.size()))) {
    const auto part = rest.first(std::min(piece, rest.size()));
    TROUPE_ASSERT("a socket takes it",
                  ::send(peer.get(), part.data(), part.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(part.size()));
    const auto got = reader.step(own.get());
    if (!got)
      return;
    if (*got) {
      TROUPE_ASSERT("64 KiB", (*got)->payload.size() <= protocols::limits::unauthenticated_frame_bytes_max);
      return;
    }
  }
}
