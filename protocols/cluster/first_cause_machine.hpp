#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "protocols/cluster/life_messages.hpp"
#include "protocols/fault.hpp"
#include "protocols/invariant.hpp"
#include "protocols/limits.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// Exit codes of a rank that left because another one had left first. `base::exit_code` lies above this component and
/// holds the table; a test holds the two together.
inline constexpr int exit_supervisor_gone = 71;
inline constexpr int exit_peer_gone = 72;

/// How a rank's process ended, as the kernel says.
struct rank_end {
  enum class kind { exited, signalled };
  kind how = kind::exited;
  int number = 0;        ///< exit code or signal
  std::string words;     ///< what the platform calls it: "executor", "Killed"
  std::string last = {}; ///< its last words, of its own record; empty: none, or nobody has looked

  bool is_consequence() const noexcept {
    return how == kind::exited && (number == exit_supervisor_gone || number == exit_peer_gone);
  }
  bool is_orderly() const noexcept { return how == kind::exited && number == 0; }
};

/// "rank 3 (prefill.0/t1) on HOST was killed by signal 9 (Killed) while ready".
struct first_cause {
  rank_id rank;
  call_id call;      ///< that the rank named in its last error; 0 when it named none
  std::string where; ///< phase or action in words; empty when it named none
  std::string text;
  std::string unusable = {}; ///< what of spec, model or machine the rank cannot use, when that was its last error

  bool operator==(const first_cause&) const = default;
};

/// Finds which rank failed first.
/// One death makes many: every peer sees a closed lane and leaves, and the supervisor may hear of those first. So a
/// rank that says "my peer is gone" is never the cause while another may be: the first rank that died by a signal or
/// with a code of its own is, whenever it is seen within `grace` of the first consequence. After that a rank that
/// reported an error of its own but has not left is blamed, and at last the first that left at all.
/// When ranks are lost and others go on, what was said of these others is kept: an edge between two ranks that stay may
/// have broken at the same time, and nobody says so twice.
/// Times are those at which the supervisor saw things; clocks of ranks are not compared.
/// Contract: A11, C1, C8, C24, K14.
class first_cause_machine {
public:
  struct rank_name {
    std::string label; ///< "prefill.0/t1"
    std::string host;
  };

  explicit first_cause_machine(std::vector<rank_name> ranks, duration grace = limits::first_cause_grace);

  /// A terminal error of `from`; it stands beside the rank's end in the cause. Errors of one request are not for us.
  /// `blamed`: the rank to be lost when nothing better is known; another than `from` when a rank that stays reports
  /// what it sees of a peer.
  void on_error(rank_id from, const error& said, rank_id blamed, life_state during, time_point now);
  /// To be called once the rank's control lane has been read to its end, so that its last error has been heard.
  /// Returns the cause when this is it; a cause is returned once.
  std::optional<first_cause> on_end(rank_id rank, const rank_end& end, life_state during, time_point now);
  std::optional<first_cause> on_tick(time_point now);
  /// Nothing more can be heard: judges without waiting for the grace.
  std::optional<first_cause> conclude();
  /// These ranks are lost and will be started again: what they said and what was said of them is forgotten. The next
  /// cause is looked for.
  void begin_anew(std::span<const rank_id> gone);

  /// "rank 3 (prefill.0/t1) on HOST".
  std::string rank_text(rank_id rank) const;

private:
  friend class keeps_invariants<first_cause_machine>;
  void check_invariants() const;
  void show_states(state_view& view) const;

  /// What one rank has said of another or of itself. Kept for each complainant: if one is lost, its complaint is
  /// forgotten
  /// (`begin_anew`), and another's still counts.
  struct suspicion {
    first_cause cause;
    rank_id from;  ///< who said so
    time_point by; ///< the end of the grace in which a better one may be seen
    bool accused =
        false; ///< reported an error of its own, has not been seen to leave; else left or failed because of another
  };

  first_cause make_cause(rank_id rank, std::string text) const;
  void suspect(bool accused, rank_id from, first_cause cause, time_point now);
  const suspicion* worst() const;

  std::vector<rank_name> ranks_;
  std::vector<std::optional<error>> last_errors_; ///< by rank
  duration grace_;
  bool found_ = false;
  std::vector<suspicion> suspicions_; ///< in the order in which they came; once for each pair of ranks
};

} // namespace troupe::protocols
