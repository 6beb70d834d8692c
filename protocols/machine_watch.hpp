#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "protocols/ids.hpp"

/// States and events of machines as data, and who looks on while machines run.
/// The table of a machine is printed by `troupe sim --tables`. Tests and the simulator watch every event and hold it
/// against the table. In the product nobody watches: an event then costs a look at one pointer.
namespace troupe::protocols {

enum class fault : std::uint16_t;

/// What has a state: the machine itself, or one of the things that it follows (a request, a room, a rank).
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

/// The transitions of one state at some events. States and events stand in words, separated by spaces.
struct table_row {
  std::string_view from;
  std::string_view events; ///< names of the machine's functions
  std::string_view to;     ///< the states that may follow; "refused": the event is answered with `illegal_transition`
};

/// The states of a machine, or of one kind of what it follows, and their transitions.
struct state_table {
  std::string_view machine;
  std::string_view of;     ///< whose state it is: "request"; empty: the machine's own
  std::string_view states; ///< in the order of the machine's enum; "none" first where subjects come and go
  std::span<const table_row> rows;
};

/// Every table, by folder and machine.
std::span<const state_table* const> state_tables();

/// Is shown the states of a machine before and after an event.
class state_view {
public:
  virtual ~state_view() = default;
  /// Subjects with such ids come and go. To be called before any of them is shown.
  template <class Id>
  void follow(const state_table& of) {
    follow(of, &subject_kind<Id>);
  }
  virtual void follow(const state_table& of, const void* kind) = 0;
  /// `state`: its place in `of.states`. A subject in state "none" is not shown.
  virtual void show(const state_table& of, subject which, std::size_t state) = 0;
};

/// Looks on while machines run. `about`: whom the event is about; none: the machine and all that it follows.
class machine_watch {
public:
  using show_states = void (*)(const void* machine, state_view& view);

  virtual ~machine_watch() = default;
  virtual void on_event(const void* machine, show_states show, const char* event, std::optional<subject> about) = 0;
  virtual void on_event_done() = 0;
  /// `fail(code)` was called, within an event or outside.
  virtual void on_fault(fault code) = 0;
};

namespace detail {
extern machine_watch* watching;
}

/// Null: nobody. Threads: before the process has a second one.
inline void watch_machines(machine_watch* by) noexcept {
  detail::watching = by;
}

} // namespace troupe::protocols
