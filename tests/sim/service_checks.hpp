#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/life_messages.hpp"
#include "protocols/serve/request_messages.hpp"
#include "protocols/serve/session_machine.hpp"
#include "tests/sim/process.hpp"

namespace troupe::sim {

class world;
struct sim_question;

/// Checks how requests are served, from what the front and the cells do. It finds a request that is overtaken by a
/// later one, that waits although all it needs is free, or that is tried again without need; and work for a request
/// that has ended. Each breach is described at the call that finds it.
class service_checks {
public:
  explicit service_checks(world& all) : all_(all) {}

  // ---- questions that wait to be read, client by client
  void on_whole(protocols::client_id client, protocols::request_id request);
  /// Breach: another client has waited since before this client's last turn.
  void on_ingest(protocols::client_id client, protocols::request_id request);
  void on_unread(protocols::request_id request);

  // ---- requests
  void on_admitted(protocols::request_id request, const sim_question& what);
  /// An attempt begins. Breach: it overtakes an earlier request, or the request has had all its attempts.
  void on_attempt(protocols::request_id request, const protocols::submit& work, protocols::rank_id prefill);
  void on_first_token(protocols::request_id request);
  void on_ended(protocols::request_id request);
  /// After an event of the front. Breach: a request without pictures waits although all that it needs is free.
  void on_look();

  // ---- work
  /// A rank begins work for an attempt. Breach: the attempt ended long ago, and nothing keeps that news from the rank.
  void on_work(const process& by, protocols::request_id attempt, std::string_view what);
  /// A write of the room has failed. Breach, later: its attempt goes on as if the write had succeeded.
  void on_failed_write(const process& by, protocols::room_id room);
  /// The attempt's keys and values are those of another prompt. Breach, later: a token of it.
  void on_wrong_prompt(protocols::request_id attempt) { wrong_.insert(attempt); }
  void on_token(protocols::request_id attempt);
  /// A step writes into a block. Breach: the block has been given to another request since.
  void on_step_writes(const process& by, protocols::request_id attempt, protocols::block_index block);

  // ---- losses, as the front learns of them
  void on_lost(const protocols::lost& news);
  void on_recovered(const protocols::recovered& news);
  /// The front has handled a loss. Breach: an attempt goes on that needs a lost rank.
  void after_loss();
  /// The front begins to write pixels into memory that `lent_by`, a generation of the encode cell, has lent. Breach:
  /// the cell has a later generation.
  void on_pixels(const protocols::cell_plan& cell, protocols::generation lent_by);

  // ---- hand-overs
  void on_handover(protocols::request_id attempt);
  void on_arrived(protocols::request_id attempt, std::uint32_t place);

private:
  struct request_state {
    bool pictures = false;
    std::uint64_t prefill_blocks = 0;
    std::uint64_t decode_blocks = 0;
    std::uint32_t attempts = 0;
    bool spoke = false;
    // The attempt that is served now.
    std::optional<protocols::request_id> attempt = {};
    protocols::cell_id decode = {};
    protocols::rank_id prefill = {};
    std::vector<protocols::cell_id> encode = {};
  };
  struct arrival {
    bool handed_over = false;
    std::set<std::uint32_t> places = {};
    std::optional<protocols::time_point> whole = {};
  };
  struct waiting_client {
    std::set<protocols::request_id> whole; ///< questions that wait to be read
    std::uint64_t since = 0;               ///< the number of turns when the first of them came
    std::uint64_t last = 0;                ///< the number of its last turn
  };

  void attempt_ends(request_state& of);
  bool fits(const request_state& of) const;
  /// The front and `by` can both act, and nothing keeps the front's messages from `by`.
  bool hears_the_front(const process& by) const;
  protocols::duration patience() const;
  bool is_lost(protocols::cell_id cell) const;
  bool needs_the_lost(const request_state& of) const;
  void note_whole(protocols::request_id attempt);
  void check_stranded(const request_state& of) const;

  world& all_;
  std::uint64_t turns_ = 0;
  std::map<protocols::client_id, waiting_client> clients_;
  std::map<protocols::request_id, request_state> requests_;
  std::vector<protocols::request_id> order_;                    ///< of admission, oldest first
  std::map<protocols::request_id, protocols::time_point> over_; ///< when each attempt ended
  std::map<protocols::room_id, protocols::request_id> rooms_;   ///< whose attempt it is for
  std::map<protocols::request_id, protocols::request_id> request_of_;
  std::set<protocols::request_id> wrong_;
  std::map<protocols::request_id, protocols::room_id> kv_rooms_; ///< by attempt
  std::map<protocols::rank_id, protocols::generation>
      lost_;                          ///< lost ranks that the front knows of, and their next generations
  std::set<protocols::rank_id> away_; ///< ranks that are lost and not back
  std::map<protocols::request_id, arrival> arrivals_; ///< at decode, by attempt
};

} // namespace troupe::sim
