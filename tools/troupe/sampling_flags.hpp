#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/embed/question.hpp"

namespace CLI {
class App;
}

namespace troupe::tools {

/// What `run` and `ask` take of how tokens are chosen, as the user writes it.
struct sampling_flags {
  embed::sampling sampling; ///< what one flag says each
  std::optional<std::uint64_t> seed;
  std::vector<std::string> biases; ///< "ID=VALUE"
  std::optional<std::uint32_t> logprobs;
};
void add_sampling_flags(CLI::App& command, sampling_flags& flags);

/// Writes what the flags say into a question.
void apply(const sampling_flags& flags, embed::question& to);

} // namespace troupe::tools
