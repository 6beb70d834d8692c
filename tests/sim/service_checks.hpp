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

/// Judges how requests are served: whether one is passed that should come first, waits for what is free, or is tried
/// again without need; and whether anybody still works for one that has ended. From what the front and the cells do.
class service_checks {
public:
  explicit service_checks(world& all) : all_(all) {}

  // ---- questions that wait to be read, by client
  void on_whole(protocols::client_id client, protocols::request_id request);
  /// Breach: the client has had a turn since another one has waited for its first.
  void on_ingest(protocols::client_id client, protocols::request_id request);
  void on_unread(protocols::request_id request);

  // ---- requests
  void on_admitted(protocols::request_id request, const sim_question& what);
  /// An attempt begins. Breach: it passes one that came first, or is one too many.
  void on_attempt(protocols::request_id request, const protocols::submit& work, protocols::rank_id prefill);
  void on_first_token(protocols::request_id request);
  void on_ended(protocols::request_id request);
  /// After an event of the front. Breach: a text waits though all that it needs is free.
  void on_look();

  // ---- work
  /// Somebody begins to work for an attempt. Breach: it ended long ago, as far as nothing keeps the word of it from
  /// those who work.
  void on_work(const process& by, protocols::request_id attempt, std::string_view what);
  /// A write of the room has failed. Breach, when its attempt goes on as if nothing had happened: nobody was told.
  void on_failed_write(const process& by, protocols::room_id room);
  /// What was handed over for the attempt is of another prompt. Breach: a token of it.
  void on_wrong_prompt(protocols::request_id attempt) { wrong_.insert(attempt); }
  void on_token(protocols::request_id attempt);
  /// A step writes into a block. Breach: that has been given to another request since.
  void on_step_writes(const process& by, protocols::request_id attempt, protocols::block_index block);

  // ---- losses, as the front hears of them
  void on_lost(const protocols::lost& news);
  void on_recovered(const protocols::recovered& news);
  /// The front has acted upon a loss. Breach: an attempt goes on that needs a rank which is lost.
  void after_loss();
  /// The front lets pixels be written into memory that the encode cell has lent. Breach: its next generation has not.
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
    // Of the attempt that is served now.
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
    std::set<protocols::request_id> whole; ///< text that waits to be read
    std::uint64_t since = 0;               ///< the turn at which the first of them was there
    std::uint64_t last = 0;                ///< the turn that it had last
  };

  void attempt_ends(request_state& of);
  bool fits(const request_state& of) const;
  /// Nothing keeps the front's word from `by`, nor either of them from acting.
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
  std::vector<protocols::request_id> order_;                    ///< of admission
  std::map<protocols::request_id, protocols::time_point> over_; ///< attempts
  std::map<protocols::room_id, protocols::request_id> rooms_;   ///< attempt
  std::map<protocols::request_id, protocols::request_id> request_of_;
  std::set<protocols::request_id> wrong_;
  std::map<protocols::request_id, protocols::room_id> kv_rooms_; ///< by attempt
  std::map<protocols::rank_id, protocols::generation> lost_;     ///< and who comes after; what the front has heard
  std::set<protocols::rank_id> away_;                            ///< lost, and not back
  std::map<protocols::request_id, arrival> arrivals_;            ///< at decode, by attempt
};

} // namespace troupe::sim
