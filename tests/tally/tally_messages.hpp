#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "protocols/ids.hpp"
#include "tests/tally/tally_roles.hpp"

/// A round is one attempt to answer a question; its number is new for each attempt and rises.
namespace troupe::tally {

/// Counter to teller: this rank's region may be written by the teller, one round at a time.
struct lend {
  static constexpr auto type = tally_type::lend;
  protocols::generation born; ///< of the rank whose memory it is

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.born);
  }
  bool operator==(const lend&) const = default;
};

/// Teller to each rank of a cell: so many numbers come in so many pieces.
struct add {
  static constexpr auto type = tally_type::add;
  protocols::room_id round;
  std::uint32_t numbers = 0;
  std::uint32_t pieces = 0;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.round, self.numbers, self.pieces);
  }
  bool operator==(const add&) const = default;
};

/// Worker to its leader: all of its numbers are there.
struct landed {
  static constexpr auto type = tally_type::landed;
  protocols::room_id round;
  std::uint32_t numbers = 0;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.round, self.numbers);
  }
  bool operator==(const landed&) const = default;
};

/// Leader to teller.
struct sum {
  static constexpr auto type = tally_type::sum;
  protocols::room_id round;
  float value = 0;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.round, self.value);
  }
  bool operator==(const sum&) const = default;
};

using tally_message = std::variant<lend, add, landed, sum>;

/// No message makes its receiver begin anything with a cell but its sender's and its own (`validate_epoch`).
template <class Message>
std::array<protocols::cell_id, 0> partners_of(const Message&) {
  return {};
}

/// Effect: deliver `body` to the role's actor on `to` (this rank included).
struct send_tally {
  protocols::rank_id to;
  tally_message body;
  bool operator==(const send_tally&) const = default;
};

/// Leader to its members, on the channel of plans.
struct add_plan {
  protocols::room_id round;
  bool stops = false;
  std::vector<std::uint32_t> numbers; ///< of each rank of the cell

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.round, self.stops, self.numbers);
  }
  bool operator==(const add_plan&) const = default;
};

/// Client to teller: the sum of `amount` numbers from `first` on.
struct count {
  static constexpr auto type = tally_type::count;
  std::uint64_t tag = 0;
  std::uint32_t first = 0;
  std::uint32_t amount = 0;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.tag, self.first, self.amount);
  }
};

/// Teller to client: the end of a question.
struct counted {
  static constexpr auto type = tally_type::counted;
  std::uint64_t tag = 0;
  std::uint16_t code = 0; ///< 0, or a `fault`
  std::string message;
  float value = 0;
  std::uint32_t rounds = 0; ///< that it took

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.tag, self.code, self.message, self.value, self.rounds);
  }
};

} // namespace troupe::tally
