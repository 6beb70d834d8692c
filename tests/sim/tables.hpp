#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/machine_watch.hpp"

namespace troupe::sim {

/// One transition of a table: one state, one event, one next state.
struct transition {
  const protocols::state_table* of = nullptr;
  std::string_view from;
  std::string_view event;
  std::string_view to;
};

/// All transitions that the tables allow, in the order of the tables.
const std::vector<transition>& transitions();

/// "decode_leader_machine, request: waiting, on_tick -> receiving".
std::string words_of(const transition& one);

/// The tables, as protocols/README.md prints them.
std::string describe_tables();

/// Compares every event of every machine with the tables, and counts transitions.
/// An event without a subject counts for all that the machine follows. An event about one subject counts for that
/// subject, for the machine itself, and for every other subject whose state it changes.
class table_watch final : public protocols::machine_watch {
public:
  /// `stranger`: is called with each transition that no table allows, in words. Unless `strict`, an event that leaves
  /// the state as it was is always allowed, since messages may come late or twice.
  explicit table_watch(std::function<void(const std::string&)> stranger, bool strict = false);
  ~table_watch() override;

  void on_event(const void* machine, show_states show, const char* event,
                std::optional<protocols::subject> about) override;
  void on_event_done() override;
  void on_fault(protocols::fault code) override;

  /// Resets the counts, and drops events that a simulated crash has cut off.
  void begin();
  /// One for each of `transitions()`.
  const std::vector<std::uint64_t>& seen() const noexcept { return seen_; }
  /// Indexed by the number of the fault.
  const std::array<std::uint64_t, 64>& faults() const noexcept { return faults_; }

private:
  struct compiled;
  struct shown {
    compiled* table = nullptr;
    protocols::subject which;
    std::size_t state = 0;
    bool operator==(const shown&) const = default;
  };
  struct view;
  struct frame {
    const void* machine = nullptr;
    show_states show = nullptr;
    const char* event = nullptr;
    std::optional<protocols::subject> about;
    bool refused = false;
    std::vector<shown> before;
    std::vector<std::pair<compiled*, const void*>> follows;
  };

  compiled& table(const protocols::state_table& of);
  void count(compiled& in, const char* event, std::size_t from, std::size_t to, bool refused, bool must);

  std::function<void(const std::string&)> stranger_;
  bool strict_;
  std::vector<std::unique_ptr<compiled>> compiled_;
  std::vector<std::uint64_t> seen_;
  std::array<std::uint64_t, 64> faults_{};
  std::vector<frame> frames_;
  std::size_t depth_ = 0;
  std::vector<shown> after_;
};

} // namespace troupe::sim
