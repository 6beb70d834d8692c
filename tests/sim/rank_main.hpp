#pragma once

#include <deque>
#include <set>
#include <variant>
#include <vector>

#include "protocols/cluster/edge_machine.hpp"
#include "protocols/cluster/first_cause_machine.hpp"
#include "protocols/cluster/rank_life_machine.hpp"
#include "protocols/cluster/watchdog_machine.hpp"
#include "tests/sim/process.hpp"

namespace troupe::sim {

/// What the supervisor orders, and what a rank tells it.
using life_order = std::variant<protocols::roster, protocols::verdict, protocols::proceed, protocols::shutdown,
                                protocols::lost, protocols::rejoin, protocols::recovered>;
using life_report =
    std::variant<protocols::joined, protocols::agree, protocols::progress, protocols::rejoined, protocols::error>;

/// The main thread of a rank: its life, its edges, its watchdog. In the product: runtime/cluster/rank_main.cpp and
/// rank_runtime.cpp. At the start it obeys no order until its edges are made. In a rejoin, `lost`, `rejoin` and
/// `shutdown` stop the work; other orders are obeyed meanwhile.
class rank_main {
public:
  explicit rank_main(process& rank);

  void start();
  /// An order has come on the control socket.
  void hear(life_order what);
  /// A lane has ended that this rank had not let go.
  void on_peer_gone(protocols::rank_id peer, protocols::generation born, protocols::failure cause);
  void on_trouble(const protocols::failure& cause, const std::string& where);
  void on_drained();
  /// A hello of another process, at this rank's listener. Errors: as `validate_hello`.
  protocols::result<void> welcome(const process& from, const protocols::hello& said);
  /// A lane that was made here and that nobody has taken yet; null: none of that generation.
  edge_end* untaken(protocols::rank_id peer, bool for_tokens, protocols::generation born);

  std::uint64_t beats() const noexcept { return beats_; }
  /// The peer that this rank's watchdog complains of, once for each complaint.
  std::optional<std::pair<protocols::rank_id, protocols::generation>> take_complaint();
  protocols::life_state at() const noexcept { return life_.current(); }

private:
  /// Edges that are being made; one after the other.
  struct edge_work {
    std::vector<protocols::lane_name> connects;
    std::vector<protocols::lane_name> takes;
    std::vector<protocols::rank_id> attaches;
    std::size_t connected = 0;
    std::size_t taken = 0;
    std::size_t attached = 0;
    bool asked = false; ///< an answer is on its way
    protocols::time_point deadline;
    std::optional<protocols::rejoin> rejoins; ///< none: the start
    std::set<protocols::rank_id> newcomers;
    bool told_gone = false;
  };

  void turn();
  void take_mail();
  void obey(const life_order& what);
  void obey_shutdown(const protocols::shutdown& order);
  void obey_proceed(const protocols::proceed& order);
  void obey_rejoin(const protocols::rejoin& order);
  void lose(const protocols::lost& news);
  void reached(protocols::life_state here);
  void leave_failed(const protocols::failure& cause, const std::string& where);
  void send(life_report what);

  void begin_grouping();
  void work_on_edges();
  bool superseded();
  void connect(const protocols::lane_name& which);
  void attach_to(protocols::rank_id peer);
  edge_end made_end(const process& peer, protocols::cache_epoch epoch, protocols::channel_kind channel) const;
  void adopt(const protocols::lane_name& which);
  void fail_edges(std::optional<protocols::rank_id> peer, protocols::failure cause);
  void finish_edges(protocols::result<void> done);
  void load();

  void beat();
  void look();
  void judge_peers();

  process& rank_;
  protocols::rank_life_machine life_;
  protocols::edge_machine edges_;
  protocols::generation heard_of_{1}; ///< the newest that takes the place of a lost one
  protocols::roster roster_;
  std::deque<life_order> orders_;
  protocols::rank_inbox mail_;
  std::map<protocols::lane_name, edge_end> lanes_; ///< made, and taken by nobody yet
  std::optional<edge_work> work_;
  std::uint64_t works_ = 0;
  bool in_turn_ = false;

  std::vector<protocols::watchdog_machine::peer_view> seen_;
  std::optional<protocols::watchdog_machine> watchdog_;
  std::uint64_t beats_ = 0;
  std::optional<std::pair<protocols::rank_id, protocols::generation>> complaint_;
};

} // namespace troupe::sim
