#pragma once

#include <exception>

#include "protocols/machine_watch.hpp"

namespace troupe::protocols {

/// Says why and ends the process; does not return.
using invariant_ending = void (*)(const char* label, const char* condition, const char* file, int line) noexcept;

/// How a broken invariant ends the process. Machines do no I/O, so those above them say what is to be done
/// (`runtime/base/assert.hpp`); without it the process traps.
/// Threads: before the process has a second one.
void end_broken_invariants_by(invariant_ending how) noexcept;

[[noreturn]] void broken_invariant(const char* label, const char* condition, const char* file, int line) noexcept;

/// Asserts a machine's invariants when an event begins and when it has ended, and shows the event to whoever watches.
/// The first line of every public event: `const keeps_invariants checked{*this};`, with the id of what the event is
/// about where it is about one. The machine has `void check_invariants() const` and
/// `void show_states(state_view& view) const`, and names this class as its friend. An event that an exception leaves is
/// not checked: memory has run out, and the process ends by that exception.
template <class Machine>
class keeps_invariants {
public:
  explicit keeps_invariants(const Machine& machine, const char* event = __builtin_FUNCTION()) : machine_(machine) {
    if (detail::watching != nullptr) [[unlikely]]
      detail::watching->on_event(&machine_, show, event, std::nullopt);
    machine_.check_invariants();
  }
  template <class Tag, class Value>
  keeps_invariants(const Machine& machine, strong_id<Tag, Value> about, const char* event = __builtin_FUNCTION())
      : machine_(machine) {
    if (detail::watching != nullptr) [[unlikely]]
      detail::watching->on_event(&machine_, show, event, subject_of(about));
    machine_.check_invariants();
  }
  ~keeps_invariants() {
    if (std::uncaught_exceptions() == exceptions_)
      machine_.check_invariants();
    if (detail::watching != nullptr) [[unlikely]]
      detail::watching->on_event_done();
  }
  keeps_invariants(const keeps_invariants&) = delete;
  keeps_invariants& operator=(const keeps_invariants&) = delete;

private:
  static void show(const void* machine, state_view& view) { static_cast<const Machine*>(machine)->show_states(view); }

  const Machine& machine_;
  int exceptions_ = std::uncaught_exceptions();
};

} // namespace troupe::protocols

/// A broken invariant ends the process, in release too: going on would spread it to the mesh (C1).
/// `label` is the contract that it keeps, or a word.
#define TROUPE_ASSERT(label, condition)                                                                                \
  do {                                                                                                                 \
    if (!(condition)) [[unlikely]]                                                                                     \
      ::troupe::protocols::broken_invariant(label, #condition, __FILE__, __LINE__);                                    \
  } while (false)
