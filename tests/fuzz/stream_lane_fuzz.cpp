#include "fabric/lanes/connect.hpp"
#include "inputs.hpp"
#include "target.hpp"

using namespace troupe;
using namespace troupe::protocols;

namespace {

constexpr rank_id own_rank{1};
constexpr rank_id peer_rank{0};
constexpr generation born{1};
constexpr fabric::lane_options small{.frame_bytes_max = 4096, .in_flight_bytes_max = 8192};

} // namespace

/// A lane over a socket, whose peer has been welcomed and then sends anything. The first byte says whether the first
/// frame is from the right rank, so that what comes behind a good frame is reached.
TROUPE_FUZZ_TARGET(stream_lane) {
  if (input.empty())
    return;
  const auto as_expected = +[](frame_header& header) {
    header.source = peer_rank;
    header.destination = own_rank;
    header.source_generation = header.destination_generation = born;
    header.sequence = 1;
  };
  const bool good = (std::to_integer<unsigned>(input.front()) & 1u) != 0;
  const auto bytes = fuzz::sealed(input.subspan(1), good ? as_expected : nullptr);
  auto [peer, own] = fuzz::stream_pair();
  const auto sent = ::send(peer.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  TROUPE_ASSERT("a socket takes it", sent == static_cast<ssize_t>(bytes.size()));
  peer.reset();

  const auto lane = fabric::make_stream_lane(own.release(), own_rank, born, peer_rank, born, small);
  for (;;) { // ends with the bytes: the peer has gone
    const auto frame = lane->peek();
    if (!frame)
      return;
    TROUPE_ASSERT("a closed stream has an end", *frame);
    TROUPE_ASSERT("frame length", (*frame)->payload.size() + limits::frame_header_bytes <= small.frame_bytes_max);
    lane->pop();
  }
}
