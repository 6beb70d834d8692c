#pragma once

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "fabric/edge.hpp"
#include "protocols/cluster/first_cause_machine.hpp"
#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/serve/serve_message.hpp"
#include "protocols/time.hpp"
#include "tests/sim/memory.hpp"

namespace troupe::sim {

class world;
class serve_node;
class rank_main;

/// The threads of a rank. Each runs what is handed to it in order.
enum class thread : std::uint8_t {
  main,
  engine,
  front,
  ingest,
  encode,
  prefill,
  decode,
  encode_steps,
  prefill_steps,
  decode_steps
};
inline constexpr std::size_t threads = 10;

/// This end of the lane to a peer.
struct edge_end {
  fabric::edge ends;
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  protocols::time_point last = {}; ///< arrival of the newest frame of this end at the other
  bool open = true;
  std::vector<std::vector<std::byte>> waiting = {}; ///< frames that came before the lane was taken
};

/// A peer whose memory this rank may write.
struct attached_peer {
  protocols::generation born;
  std::shared_ptr<rank_memory> memory;
  std::optional<protocols::failure> gone;
};

/// One process of a rank: its threads, its clock, its memory, its ends of the edges.
/// A stopped process does nothing until it goes on, and then all that has come meanwhile. A killed one does nothing any
/// more.
class process : public std::enable_shared_from_this<process> {
public:
  process(world& all, protocols::rank_id self, protocols::generation born, protocols::cache_epoch epoch);
  ~process();

  /// Time as this rank's clock has it; clocks of ranks may go apart.
  protocols::time_point now() const;
  /// A timer, set on this rank's clock.
  void wake(protocols::duration delay, std::function<void()> what);
  /// A hand-over from one thread of this rank to another.
  void hand(thread to, std::function<void()> what);
  /// Something that reaches this rank from outside at that time, in no thread's order.
  void reach(protocols::time_point when, std::function<void()> what);

  bool stopped() const;
  void stop_for(protocols::duration pause);
  void resume();
  /// The process ends: its lanes close, its peers and the supervisor see it.
  void exit(protocols::rank_end how);

  /// The rank ends by a failure of its own threads.
  void fail(const protocols::failure& cause, const std::string& where);

  world& all;
  const protocols::rank_id self;
  const protocols::generation born;
  const protocols::cache_epoch epoch; ///< of the job when the process was started
  const std::string label;
  bool running = true;
  bool hangs = false; ///< a step does not come back
  std::shared_ptr<rank_memory> memory;
  std::map<std::pair<protocols::rank_id, bool>, edge_end> edges; ///< true: the lane for tokens
  std::map<protocols::rank_id, attached_peer> peers;
  std::unique_ptr<serve_node> serves;
  struct early_message {
    protocols::rank_id from;
    protocols::cache_epoch sent_in;
    protocols::serve_message body;
  };
  std::vector<early_message> early; ///< came before the roles were there
  std::unique_ptr<rank_main> main;

private:
  void turn(std::function<void()> what);
  void go_on();

  std::int64_t clock_ = 1000; ///< thousandths of the true rate
  protocols::time_point stopped_until_;
  std::deque<std::function<void()>> backlog_; ///< came while the process was stopped
  std::array<protocols::time_point, threads> last_{};
};

} // namespace troupe::sim
