#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "protocols/ids.hpp"
#include "protocols/wire/frame.hpp"

/// The first frames of an edge, and what its owner tells of memory.
/// A message names its fields once, in `fields` (wire/codec.hpp).
namespace troupe::protocols {

/// What a lane on another rank needs to write into one registered region.
struct region_card {
  std::uint32_t region = 0; ///< of the owner; stable for its life
  std::uint64_t bytes = 0;
  std::uint64_t slot_bytes = 0; ///< 0: addressed by block, see the hand-over layout
  std::uint64_t base = 0;       ///< remote address, 0 where the provider addresses by offset
  std::uint64_t key = 0;        ///< remote key of the fabric lane

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.region, self.bytes, self.slot_bytes, self.base, self.key);
  }
  bool operator==(const region_card&) const = default;
};

/// What an edge is for; each channel has its own lane with one producer and one consumer thread a side.
enum class channel_kind : std::uint8_t {
  control = 1, ///< typed messages between role actors
  group = 2,   ///< plan channel and collectives of one group, driven by the executors
  tokens = 3,  ///< tokens from a decode leader's executor to the front
};
constexpr bool is_valid(channel_kind kind) noexcept {
  return kind >= channel_kind::control && kind <= channel_kind::tokens;
}
/// Whether a lane of this kind outlives the loss of other ranks and carries what is decided after it.
constexpr bool spans_epochs(channel_kind kind) noexcept {
  return kind == channel_kind::control;
}

/// First frame of an edge, from the side that connects.
/// Contract: A27; fault::wrong_job when the token is another's.
struct hello {
  static constexpr auto type = message_type::hello;
  std::array<std::byte, 32> shown{}; ///< that the sender knows the job's token; covers all but build and capabilities
  std::array<std::byte, 16> nonce{}; ///< chosen by the sender, for the welcome to answer
  channel_kind channel = channel_kind::control;
  group_id group; ///< for channel_kind::group
  std::string build;
  std::vector<std::string> capabilities; ///< negotiated down to what both sides name

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.shown, self.nonce, self.channel, self.group, self.build);
    archive.appended(self.capabilities);
  }
  bool operator==(const hello&) const = default;
};

struct welcome {
  static constexpr auto type = message_type::welcome;
  std::array<std::byte, 32> shown{}; ///< that the sender knows the job's token, in answer to the hello's nonce
  std::vector<std::string> capabilities;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.shown);
    archive.appended(self.capabilities);
  }
  bool operator==(const welcome&) const = default;
};

struct refuse {
  static constexpr auto type = message_type::refuse;
  std::uint16_t code = 0; ///< a `fault`
  std::string message;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.code, self.message);
  }
  bool operator==(const refuse&) const = default;
};

/// Owner to writer: a region that you may write to once you hold a grant for a part of it (I23, I25).
struct region {
  static constexpr auto type = message_type::region;
  std::string purpose; ///< "pixels", "rows", "kv"
  region_card card;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.purpose, self.card);
  }
  bool operator==(const region&) const = default;
};

} // namespace troupe::protocols
