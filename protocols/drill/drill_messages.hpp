#pragma once

#include <cstdint>
#include <string>

#include "protocols/drill/injection.hpp"
#include "protocols/ids.hpp"
#include "protocols/wire/frame.hpp"

/// Between whoever drills a job and its supervisor.
/// A message names its fields once, in `fields` (wire/codec.hpp).
namespace troupe::protocols {

/// To the supervisor from whoever drills a job, and on to the rank: strike there. Refused where drills are off.
struct inject {
  static constexpr auto type = message_type::inject;
  rank_id rank;
  injection_rule rule;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.rank, self.rule);
  }
  bool operator==(const inject&) const = default;
};

/// The supervisor's answer: the rule is on its way to the rank, or why it is not.
struct injected {
  static constexpr auto type = message_type::injected;
  std::uint16_t code = 0; ///< 0 or a `fault`
  std::string message;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.code, self.message);
  }
  bool operator==(const injected&) const = default;
};

} // namespace troupe::protocols
