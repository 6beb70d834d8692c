#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fabric/edge.hpp"
#include "fabric/proof.hpp"
#include "protocols/time.hpp"
#include "protocols/wire/codec.hpp"
#include "protocols/wire/edge_messages.hpp"
#include "protocols/wire/frame.hpp"
#include "runtime/base/unique_fd.hpp"

/// The frames before a lane: hello, welcome, refuse. Their sequence is 0; the lane's first frame is 1.
namespace troupe::fabric {

/// Unauthenticated peers: whoever has not been welcomed within this time is dropped.
inline constexpr protocols::duration handshake_deadline = std::chrono::seconds{2};
/// Connections between accept and welcome; the next ones wait in the kernel's queue. Together 16 MiB at most.
inline constexpr std::size_t pending_handshakes_max = 256;
/// While all of those places are taken: a thousand silent peers must not keep a good one waiting for long. A good one
/// says its hello as soon as it is connected, so it has spoken before it is accepted.
inline constexpr protocols::duration crowded_handshake_deadline = std::chrono::milliseconds{250};
/// Memory file and two doorbells of a shared-memory lane.
inline constexpr std::size_t handshake_descriptors_max = 3;

/// Header and payload of `message` in one piece.
template <class Message>
std::vector<std::byte> handshake_frame(const edge& between, const Message& message) {
  std::vector<std::byte> bytes(protocols::limits::frame_header_bytes);
  protocols::encode_payload(message, bytes);
  const auto payload = std::span{bytes}.subspan(protocols::limits::frame_header_bytes);
  const protocols::header_bytes header = [&] {
    protocols::header_bytes out;
    protocols::encode_header(between.stamp({.type = Message::type}, 0, payload.size()), payload, out);
    return out;
  }();
  std::copy(header.begin(), header.end(), bytes.begin());
  return bytes;
}

/// Who says a frame, from the sender's side.
edge sender_of(const protocols::frame_header& header) noexcept;

/// What shows in a hello that `sender` knows the job's token, and in a welcome that the one who answers does: the token
/// itself would go to whoever listens where a peer was. A hello that was overheard begins no edge again, since the
/// generations of both sides and the epoch stand in it and an edge is begun once in each. Contract: K5.
proof proof_of_hello(const std::array<std::byte, 32>& job_token, const edge& sender, const protocols::hello& said);
proof proof_of_welcome(const std::array<std::byte, 32>& job_token, const edge& sender,
                       const std::array<std::byte, 16>& nonce);

/// Sends all of `bytes`, with `descriptors` beside the first of them. Errors: timeout, peer_gone.
protocols::result<void> send_handshake(int socket, std::span<const std::byte> bytes, std::span<const int> descriptors,
                                       protocols::time_point deadline);

/// Reads one frame from a non-blocking socket, and not a byte more: what follows belongs to the lane.
/// Holds at most 64 KiB and three descriptors, whatever the peer sends.
class handshake_reader {
public:
  /// The frame once it is whole, its checksum verified; its payload lives as long as the reader does.
  /// Errors: those of decode_header, bad_checksum, bad_value (too many descriptors), peer_gone.
  protocols::result<std::optional<protocols::frame_view>> step(int socket);

  std::vector<base::unique_fd> take_descriptors() noexcept { return std::move(descriptors_); }

private:
  protocols::result<bool> read(int socket);

  std::vector<std::byte> bytes_ = std::vector<std::byte>(protocols::limits::frame_header_bytes);
  std::size_t filled_ = 0;
  std::optional<protocols::frame_header> header_;
  std::vector<base::unique_fd> descriptors_;
};

/// Sleeps until `socket` has one of `events`. Errors: timeout.
protocols::result<void> wait_socket(int socket, short events, protocols::time_point deadline);

} // namespace troupe::fabric
