#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "protocols/serve/client_messages.hpp"
#include "protocols/serve/front_machine.hpp"
#include "protocols/serve/ingest_machine.hpp"
#include "protocols/serve/serve_message.hpp"
#include "protocols/serve/session_machine.hpp"
#include "tests/sim/process.hpp"

namespace troupe::sim {

/// The front's roles: sessions, ingest and the ledger of requests, joined as `front_actor` and `ingest_actor` join
/// them.
class front_desk {
public:
  explicit front_desk(process& rank);

  void start();
  /// From clients, in the front's thread.
  void on_ask(protocols::client_id client, const protocols::ask& question);
  void on_piece(protocols::client_id client, std::uint64_t tag, std::uint32_t picture, std::size_t bytes);
  void on_withdraw(protocols::client_id client, std::uint64_t tag);
  void on_client_gone(protocols::client_id client);

  void hear(protocols::rank_id from, protocols::serve_message body);
  void written(protocols::room_id room, const protocols::result<void>& outcome);
  void lose(const protocols::lost& news);
  void recover(const protocols::recovered& news);
  void drain();
  bool serves(protocols::request_id attempt) const { return machine_.request_of(attempt).has_value(); }
  /// Calls `add` with how many of what it holds.
  void count_held(const std::function<void(std::size_t, const char*)>& add) const;

private:
  struct held_question {
    protocols::client_id client;
    std::uint64_t tag = 0;
    std::size_t number = 0; ///< of `clients`
    protocols::time_point since;
    std::optional<protocols::ingest_machine::ticket> reading = {};
    bool unwanted = false;
  };

  void perform(protocols::session_machine::effects what);
  void perform(protocols::front_machine::effects what);
  void forget(protocols::request_id request);
  void begin_ingest(protocols::request_id request);
  void perform(const protocols::ingest_machine::effects& what);
  void let_read(std::uint32_t reader, protocols::duration time);
  void read(std::uint32_t reader, protocols::ingest_machine::ticket of);
  void admit(protocols::request_id request);
  void ingested(protocols::request_id request, const std::optional<protocols::failure>& problem);
  void write_pixels(const protocols::front_machine::write_pixels& what,
                    std::vector<std::pair<protocols::room_id, protocols::failure>>& refused);
  void finish(const protocols::front_machine::end_request& end);
  void tick();
  void audit();

  process& rank_;
  protocols::front_machine machine_;
  protocols::session_machine sessions_;
  protocols::ingest_machine ingest_;
  std::map<protocols::request_id, held_question> questions_;
  std::map<protocols::ingest_machine::ticket, protocols::request_id> tickets_;
  std::map<std::uint32_t, protocols::ingest_machine::ticket> reading_; ///< by reader
};

} // namespace troupe::sim
