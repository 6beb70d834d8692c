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

/// A row of a table for one event and one next state.
struct transition {
  const protocols::state_table* of = nullptr;
  std::string_view from;
  std::string_view event;
  std::string_view to;
};

/// All transitions that the tables allow, in their order.
const std::vector<transition>& transitions();

/// "decode_leader_machine, request: waiting, on_tick -> receiving".
std::string words_of(const transition& one);

/// The tables as protocols/README.md has them.
std::string describe_tables();

/// Holds every event of every machine against the tables, and counts.
/// An event of nobody in particular counts for all that the machine follows; one about somebody counts for that one,
/// for the machine itself, and for whoever else it moves.
class table_watch final : public protocols::machine_watch {
public:
  /// `stranger`: gets the words of a transition that no table allows. To stay in a state is always allowed, since
  /// messages come late and twice, unless `strict`.
  explicit table_watch(std::function<void(const std::string&)> stranger, bool strict = false);
  ~table_watch() override;

  void on_event(const void* machine, show_states show, const char* event,
                std::optional<protocols::subject> about) override;
  void on_event_done() override;
  void on_fault(protocols::fault code) override;

  /// Forgets what was counted, and events that a crash of their process cut off.
  void begin();
  /// By place in `transitions()`.
  const std::vector<std::uint64_t>& seen() const noexcept { return seen_; }
  /// By number of the fault.
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
