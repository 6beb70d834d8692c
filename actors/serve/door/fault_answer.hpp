#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "protocols/fault.hpp"
#include "runtime/door/door.hpp"

namespace troupe::actors {

/// How a fault is told over HTTP.
struct fault_answer {
  unsigned status = 500;
  std::string code;
  std::string param;
  std::string message;
  bool may_come_again = false; ///< with Retry-After
};

/// Of a question that was not taken.
fault_answer answer_to_refusal(protocols::fault code, std::string_view what);
/// Of one that was taken and failed: `cause` is `to_string` of its failure, which names rank, call and first cause.
fault_answer answer_to_failure(std::string_view cause);

} // namespace troupe::actors
