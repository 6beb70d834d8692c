#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "protocols/ids.hpp"

/// The states and transitions of machines as tables, and the hook by which tests check machines against them.
/// Tests and the simulator install a `machine_watch`, which compares every event with its table. The product installs
/// none: an event then costs the test of one pointer. `troupe sim --tables` prints the tables.
namespace troupe::protocols {

enum class fault : std::uint16_t;

/// Something that has a state: a machine, or one of the things that it follows (a request, a room, a rank).
struct subject {
  const void* kind = nullptr; ///< null: the machine itself
  std::uint64_t number = 0;

  constexpr bool operator==(const subject&) const noexcept = default;
};

/// Ids of one type are subjects of one kind.
template <class Id>
inline constexpr char subject_kind = 0;
template <class Tag, class Value>
constexpr subject subject_of(strong_id<Tag, Value> id) noexcept {
  return {&subject_kind<strong_id<Tag, Value>>, id.value};
}

/// What some events may do in one state. States and events are words, separated by spaces.
struct table_row {
  std::string_view from;
  std::string_view events; ///< names of the machine's functions
  std::string_view to;     ///< the states that may follow; "refused": the machine returns `illegal_transition`
};

/// The states and transitions of a machine, or of one kind of thing that it follows.
struct state_table {
  std::string_view machine;
  std::string_view of;     ///< whose state it is: "request"; empty: the machine's own
  std::string_view states; ///< in the order of the machine's enum; "none" first where subjects come and go
  std::span<const table_row> rows;
};

/// Every table, in the order of folders and machines.
std::span<const state_table* const> state_tables();

/// Takes the states of a machine, before and after an event, from the machine.
class state_view {
public:
  virtual ~state_view() = default;
  /// The machine follows subjects with ids of this type, which come and go. To be called before any of them is shown.
  template <class Id>
  void follow(const state_table& of) {
    follow(of, &subject_kind<Id>);
  }
  virtual void follow(const state_table& of, const void* kind) = 0;
  /// `state`: an index into `of.states`. A subject in state "none" is not shown.
  virtual void show(const state_table& of, subject which, std::size_t state) = 0;
};

/// Gets every event of every machine of the process. `about`: the subject of the event; none: the machine and all that
/// it follows.
class machine_watch {
public:
  using show_states = void (*)(const void* machine, state_view& view);

  virtual ~machine_watch() = default;
  virtual void on_event(const void* machine, show_states show, const char* event, std::optional<subject> about) = 0;
  virtual void on_event_done() = 0;
  /// `fail(code)` was called, in an event or outside of any.
  virtual void on_fault(fault code) = 0;
};

namespace detail {
extern machine_watch* watching;
}

/// Installs a watch; null removes it. Threads: to be called before the process has a second thread.
inline void watch_machines(machine_watch* by) noexcept {
  detail::watching = by;
}

} // namespace troupe::protocols
