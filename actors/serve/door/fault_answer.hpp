#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "protocols/fault.hpp"
#include "runtime/door/door.hpp"

namespace troupe::actors {

/// A fault as an HTTP error.
struct fault_answer {
  unsigned status = 500;
  std::string code;
  std::string param;
  std::string message;
  bool may_come_again = false; ///< the answer has a Retry-After header
};

/// For a question that the front refused.
fault_answer answer_to_refusal(protocols::fault code, std::string_view what);
/// For a question that was accepted and failed. `cause` is `to_string` of its failure, which names the rank, the call
/// and the first cause.
fault_answer answer_to_failure(std::string_view cause);

} // namespace troupe::actors
