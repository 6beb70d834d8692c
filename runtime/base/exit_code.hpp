#pragma once

namespace troupe::base {

/// What a troupe process says by its exit code; documented in the README and in `troupe --help`. Append only.
enum class exit_code : int {
  done = 0,
  failed = 1,        ///< a request or a command failed; the last lines name the first cause
  usage = 2,         ///< the command line is wrong
  config = 3,        ///< spec, model, picture or run directory cannot be used
  not_running = 4,   ///< no such job, or it does not answer
  refused = 5,       ///< the cluster refused the request
  rank_failed = 6,   ///< a rank died or left; the cluster was ended
  start_timeout = 7, ///< not ready within timeouts.start_ms
  drain_timeout = 8, ///< killed what had not left within timeouts.drain_ms
  // ranks only
  invariant = 70,       ///< TROUPE_ASSERT: a broken invariant
  supervisor_gone = 71, ///< the death pipe ended
  peer_gone = 72,       ///< a consequence: another rank of the cell left first
  parity = 73,          ///< the ranks do not agree on what they run
  executor = 74,        ///< a step failed on this rank
  watchdog = 75,        ///< a step or the lanes stood still for longer than the spec allows
  interrupted = 130,    ///< SIGINT, after an orderly drain
};

} // namespace troupe::base
