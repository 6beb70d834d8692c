#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/serve/session_machine.hpp"
#include "tests/sim/simulated_model.hpp"

namespace troupe::sim {

class world;

/// Everybody who asks, and what becomes of each question. Also the check of answers: what a client gets is held against
/// what the same question gives alone.
class clients {
public:
  explicit clients(world& all);

  /// Questions, at drawn times after `begin`, by drawn clients.
  void plan(std::size_t questions);
  void begin();
  /// Connections to the front have ended.
  void front_gone();
  /// The front says that nothing is left to do. Breach: a question that it has accepted has not ended.
  void front_drained();
  /// One question of somebody who waits for the answer.
  void ask_one();
  void ask_one(sim_question what);
  /// Questions that need all the memory of a cell, several at once: what a cell has lost for ever shows.
  void ask_whole();
  bool all_ended() const;
  /// Questions that ended with a cause that is not their own.
  std::size_t failed() const;
  std::size_t answered() const;
  std::size_t asked() const noexcept { return questions_.size(); }
  const sim_question& question(std::size_t number) const { return questions_.at(number).what; }
  /// What has not ended, in words.
  std::string open() const;

  // What the front tells; it reaches the client at once.
  void accepted(protocols::client_id client, std::uint64_t tag);
  void refused(protocols::client_id client, std::uint64_t tag, const protocols::failure& why);
  void token(protocols::client_id client, std::uint64_t tag, std::uint32_t index, protocols::token_id id);
  void finished(protocols::client_id client, std::uint64_t tag, protocols::finish_reason reason,
                const std::optional<protocols::failure>& cause);

private:
  struct asked_question {
    sim_question what;
    sim_answer alone;
    protocols::client_id client;
    std::uint64_t tag = 0;
    protocols::time_point since;
    std::vector<protocols::token_id> got;
    bool gone = false; ///< the client has left
    bool withdrawn = false;
    bool front_knows = false;   ///< of its withdrawal, or that its client has left
    bool half = false;          ///< its pictures never come whole
    bool deaf = false;          ///< nobody reads its answer
    protocols::duration slow{}; ///< from the first half of each picture to the second
    bool accepted = false;
    bool told = false;   ///< by the front that it has ended
    bool ended = false;  ///< for its client
    bool failed = false; ///< by the front, with a cause
    bool was_refused = false;
    std::string why;
  };

  sim_question draw_question();
  void ask(std::size_t number);
  void upload(std::size_t number, std::uint32_t picture);
  void withdraw(std::size_t number);
  void leave(protocols::client_id client);
  asked_question* find(protocols::client_id client, std::uint64_t tag);
  void to_front(protocols::client_id client, std::function<void()> what);
  void check_in_time(const asked_question& one);
  void end(asked_question& one);
  std::string name_of(const asked_question& one) const;

  void draw_questions(std::size_t questions);
  /// It may fail by its deadline, and nobody is to blame: what is asked, or to be read, takes as long.
  bool may_be_late(const asked_question& one) const;

  world& all_;
  std::size_t planned_ = 0;
  protocols::duration work_{}; ///< of all that was planned, one after the other
  bool nothing_late_ = true;   ///< in the weather that the run began with
  std::vector<asked_question> questions_;
  std::map<protocols::client_id, protocols::time_point> last_; ///< arrival of the newest frame of each client
  std::map<std::pair<protocols::client_id, std::uint64_t>, std::size_t> by_tag_;
  std::uint64_t next_client_ = 1;
};

} // namespace troupe::sim
