#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "fabric/transfers/device_memory.hpp"
#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/time.hpp"
#include "runtime/base/unique_fd.hpp"

/// The socket between two shared-memory engines: it hands descriptors over, and its end is the peer's end.
/// SOCK_SEQPACKET: a note and its descriptors arrive together or not at all.
namespace troupe::fabric {

enum class note_kind : std::uint32_t {
  hello = 1,   ///< who I am and whom I want; with my completion ring and my doorbell
  welcome = 2, ///< the same, from the one who accepted
  refuse = 3,  ///< `fault_code` says why; the socket closes
  fetch = 4,   ///< `region`, please
  region = 5   ///< `region` of `bytes`, with its descriptor or a device's handle; without, there is no such region
};

/// Every note has this form. Both ends are one build on one host (the hello's magic says so), so it travels as it lies
/// in memory.
struct transfer_note {
  static constexpr std::uint64_t magic_of_build = 0x5452'4f55'5045'0001; // "TROUPE", form 1

  std::uint64_t magic = magic_of_build;
  note_kind kind{};
  std::uint32_t fault_code = 0;
  std::uint32_t from = 0, from_born = 0;
  std::uint32_t to = 0, to_born = 0;
  std::array<std::byte, 32> job_token{};
  std::uint32_t region = 0;
  std::uint32_t on_device = 0; ///< `handle` is one
  std::uint64_t bytes = 0;
  device_handle handle{};
};

struct received_note {
  transfer_note note;
  std::array<base::unique_fd, 2> files;
};

/// Never blocks. Errors: peer_gone; queue_full (the socket does not take it now).
protocols::result<void> send_note(int socket, const transfer_note& note, std::span<const int> files = {});
/// Never blocks; nothing: there is none. Errors: peer_gone; bad_magic (not a note); no_memory (no
/// descriptor is left for those that came with it).
protocols::result<std::optional<received_note>> receive_note(int socket);

/// One try. Errors: peer_gone (nobody listens there yet, or no more), config_invalid (no such address can be).
protocols::result<base::unique_fd> connect_to(const std::string& path);
/// Waits until somebody listens there. Errors: timeout, config_invalid.
protocols::result<base::unique_fd> connect_when_there(const std::string& path, protocols::time_point deadline);
/// True when `socket` can be read before `deadline`.
bool wait_readable(int socket, protocols::time_point deadline);

} // namespace troupe::fabric
