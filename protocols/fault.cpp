#include "protocols/fault.hpp"

namespace troupe::protocols {

std::string_view name(fault code) noexcept {
  switch (code) {
#define X(number, id, text, reacts)                                                                                    \
  case fault::id:                                                                                                      \
    return #id;
    TROUPE_FAULTS(X)
#undef X
  }
  return "unknown_fault";
}

std::string_view sentence(fault code) noexcept {
  switch (code) {
#define X(number, id, text, reacts)                                                                                    \
  case fault::id:                                                                                                      \
    return text;
    TROUPE_FAULTS(X)
#undef X
  }
  return "unknown fault";
}

std::string_view reaction(fault code) noexcept {
  switch (code) {
#define X(number, id, text, reacts)                                                                                    \
  case fault::id:                                                                                                      \
    return reacts;
    TROUPE_FAULTS(X)
#undef X
  }
  return "unknown reaction";
}

std::optional<fault> fault_from(std::uint16_t code) noexcept {
  switch (code) {
#define X(number, id, text, reacts)                                                                                    \
  case number:                                                                                                         \
    return fault::id;
    TROUPE_FAULTS(X)
#undef X
  }
  return std::nullopt;
}

std::string to_string(const failure& problem) {
  std::string text{name(problem.code)};
  text += ": ";
  text += sentence(problem.code);
  if (!problem.what.empty()) {
    text += " (";
    text += problem.what;
    text += ')';
  }
  return text;
}

} // namespace troupe::protocols
