#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/cluster_spec.hpp"
#include "protocols/cluster/role.hpp"
#include "protocols/cluster/route.hpp"
#include "protocols/drill/injection_points.hpp"
#include "protocols/flight/flight.hpp"
#include "protocols/metrics/metric_row.hpp"
#include "protocols/wire/frame.hpp"

namespace troupe::protocols {

/// What of a model a rank holds its share of.
struct model_parts {
  bool text = false;  ///< the decoder, with keys and values
  bool tower = false; ///< what reads pictures
};

/// One role of a program.
struct role_row {
  role_kind role = role_kind::stub;
  std::string_view name;
  bool computes = false; ///< its ranks take a device
  model_parts loads{};   ///< nothing: no model, or none of it
  bool restarts = false; ///< its cells may be started again, unless the spec says otherwise
  bool one_rank = false; ///< a cluster has one cell of one rank of it
  std::span<const role_kind>
      jobs; ///< roles that one rank of it performs, each in a cell of its own; empty: only itself
};

/// Ranks of these two roles exchange messages, whatever cells they are in.
struct contact {
  role_kind one = role_kind::stub;
  role_kind other = role_kind::stub;
};

/// A region of the ranks at `owner`. Ranks at `writer` write into it, one-sided, from their own region `source`.
struct region_row {
  std::string_view purpose; ///< names the region of the owner
  station owner;
  std::string_view source; ///< names the region of the writer
  station writer;
  std::string_view words = {}; ///< what goes that way, for a person: "rows encode->prefill"
  bool on_device = false;      ///< both lie where their ranks compute
};

/// What a one-sided write carries: 1 to 3, since completion data has two bits for it. Only the program's own folder has
/// constants.
enum class transfer_kind : std::uint8_t {};

/// Finds the actors at both ends of a write.
struct transfer_row {
  transfer_kind kind{};
  role_kind sender = role_kind::stub;
  role_kind receiver = role_kind::stub;
  std::string_view name = {}; ///< "rows": how a dashboard calls the edge
};

/// A number that a user may set: a key of the spec's section that has the program's name.
struct setting_row {
  std::string_view name;
  std::string_view sentence; ///< what it is, with its unit
  std::uint64_t least = 0;
  std::uint64_t most = 0;
  std::uint64_t initial = 0;
};

/// What flight records call an actor of the program, and a phase of its steps. Numbers stand in files.
struct actor_row {
  actor_kind kind{};
  std::string_view name;
};
struct phase_row {
  flight_phase phase{};
  std::string_view name;
};

/// What a program tells of itself to code that is shared by all programs: rows of data and one pure function.
/// The part that does something stands in `actors/rank_program.hpp`.
/// Ownership: static; a registered program lives as long as the process.
struct program {
  std::string_view name;   ///< "serve": the spec's key `program`
  bool runs_model = false; ///< a spec names the folder of a model, unless all its pools are stubs
  std::span<const role_row> roles;
  role_kind front = role_kind::stub; ///< takes what clients ask; hears of lost and recovered cells; is never restarted
  std::span<const contact> contacts; ///< beside the front with every rank, and ranks of one cell with each other
  role_kind streams = role_kind::stub; ///< its leaders' executors have a lane of their own to the front; stub: none
  std::span<const route> routes;
  std::span<const region_row> regions;
  std::span<const transfer_row> transfers;
  std::span<const message_row> messages;     ///< numbers below `message_types_max`, unique over all programs
  std::span<const fault_point> fault_points; ///< where a drill can strike in the program's own code
  std::span<const setting_row> settings;
  std::span<const actor_row> actors; ///< numbers unique over all programs, as those of phases
  std::span<const phase_row> phases;
  std::size_t watched_max = 0;         ///< actors and threads of the program on one rank that its watchdog watches
  std::span<const metric_row> metrics; ///< what its ranks count, by number, from `program_metric_first` on
  std::string_view layouts;            ///< which pools are valid, in words for an error line
  /// Checks that the spec's pools form a valid cluster. Not called when every pool is a stub. Errors: config_invalid.
  result<void> (*validate_pools)(const cluster_spec& spec) = nullptr;

  /// Null: the role is not of this program.
  const role_row* find(role_kind role) const noexcept;
  const role_row& row(role_kind role) const; ///< `role` is of this program, or stub
  /// What the spec says, or the initial value. `setting` is one of `settings`.
  std::uint64_t setting(const cluster_spec& spec, std::string_view setting) const;
};

/// All programs of this process: those that are built in, then those that were added.
std::span<const program* const> programs() noexcept;

/// Null: there is none of that name.
const program* find_program(std::string_view name) noexcept;

/// Adds one that came later, from a shared object or a test. Before a spec is read, by the main thread.
/// Errors: config_invalid when its name, a role's or a message's number, an actor's, a phase's or a fault point's name
/// is another's, or is out of range.
result<void> add_program(const program& added);

/// The names, for an error line: "serve, stream".
std::string program_names();

} // namespace troupe::protocols
