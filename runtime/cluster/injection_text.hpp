#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/drill/drill_messages.hpp"
#include "runtime/cluster/key_reader.hpp"

/// Faults to inject, as people write them: in drill files and on the command line.
namespace troupe::cluster {

/// A rule with ranks by label ("prefill.0/t1", "supervisor") and messages by name.
struct written_rule {
  std::string rank;
  std::string action;
  std::string point;
  std::uint32_t skip = 0;
  std::uint32_t times = 1;
  std::uint32_t ms = 0;
  std::string peer;
  std::string channel;
  std::string message;
  std::string source;
  std::string payload; ///< hexadecimal
  std::string fields;  ///< instead of `payload`: the message's fields as JSON (message_text.hpp)

  bool operator==(const written_rule&) const = default;
};

/// The one table of what a rule may say.
const std::vector<spec_key<written_rule>>& rule_keys();

/// The rule for that plan. Errors: invalid_request in one line, with the nearest name where a rank or a fault point is
/// not known.
protocols::result<protocols::inject> resolve_rule(const written_rule& rule, const protocols::cluster_plan& plan);

/// "rank=prefill.0/t1,action=kill,point=group.entered,skip=3", or the same as a JSON object.
/// Errors: config_invalid, invalid_request.
protocols::result<written_rule> parse_rule(std::string_view text);

} // namespace troupe::cluster
