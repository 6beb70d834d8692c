#include "inputs.hpp"
#include "target.hpp"

using namespace troupe;
using namespace troupe::protocols;

/// The header of a frame: what is accepted encodes to the same bytes (A18), and within the length that was allowed.
TROUPE_FUZZ_TARGET(frame) {
  const auto bytes = fuzz::sealed(input);
  if (bytes.size() < limits::frame_header_bytes)
    return;
  const auto place = std::span{bytes}.first<limits::frame_header_bytes>();
  const auto payload = std::span{bytes}.subspan(limits::frame_header_bytes);
  const auto header = decode_header(place, limits::unauthenticated_frame_bytes_max);
  if (!header)
    return;
  TROUPE_ASSERT("frame length",
                header->payload_bytes <= limits::unauthenticated_frame_bytes_max - limits::frame_header_bytes);
  if (payload.size() < header->payload_bytes)
    return;
  const auto own = payload.first(header->payload_bytes);
  TROUPE_ASSERT("checksum", verify_checksum(place, own));
  header_bytes again;
  encode_header(*header, own, again);
  TROUPE_ASSERT("A18", std::equal(again.begin(), again.end(), place.begin()));
}
