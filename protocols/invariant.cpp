#include "protocols/invariant.hpp"

namespace troupe::protocols {

namespace detail {
machine_watch* watching = nullptr;
}

namespace {

invariant_ending ending = nullptr;

} // namespace

void end_broken_invariants_by(invariant_ending how) noexcept {
  ending = how;
}

void broken_invariant(const char* label, const char* condition, const char* file, int line) noexcept {
  if (ending != nullptr)
    ending(label, condition, file, line);
  __builtin_trap();
}

} // namespace troupe::protocols
