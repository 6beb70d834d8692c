#pragma once

#include "protocols/wire/codec.hpp"
#include "protocols/wire/frame.hpp"

namespace troupe::protocols {

/// What a frame carries, as strictly as its sender has flagged it. Errors: those of `decode_payload`.
/// Contract: A26.
template <class Message>
result<void> decode_frame(const frame_view& frame, Message& message) {
  return decode_payload(frame.payload, message, (frame.header.flags & strict_payload) != 0);
}

} // namespace troupe::protocols
