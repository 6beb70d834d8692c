#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <variant>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/life_messages.hpp"
#include "protocols/time.hpp"
#include "tests/tally/tally_messages.hpp"

namespace troupe::tally {

/// Which question is answered by which cell, and what becomes of it when the cell dies.
/// A cell has one round at a time: its memory is lent to one writer, so the answer of a round is the credit for the
/// next. A round ends with its sum, or with its cell; the question is then asked again, as a new round. A write whose
/// bytes may still arrive keeps its cell idle for the quarantine. However many pieces a question has, few are under
/// way: engines refuse writes beyond their bound, and a turn of an actor that begins them all would be taken for a
/// hang. Contract: K1.
class teller_machine {
public:
  struct options {
    std::uint32_t numbers_max = 0;   ///< of one rank in one round
    std::uint32_t piece_numbers = 1; ///< of one write
    std::uint32_t questions_max = 1;
    std::uint32_t rounds_max = 3;  ///< of one question
    std::uint32_t writes_max = 64; ///< of one cell, under way at a time
    protocols::duration question_deadline{};
  };

  /// A piece of the numbers, into the memory of one rank.
  struct write_numbers {
    protocols::rank_id to;
    protocols::generation owner;
    protocols::room_id round;
    std::uint32_t part = 0;        ///< of the round
    std::uint32_t slot = 0;        ///< of the teller's region: one a cell
    std::uint32_t source_at = 0;   ///< in numbers, from the slot's beginning
    std::uint32_t target_at = 0;   ///< in numbers, from the beginning of the rank's region
    std::uint32_t first_value = 0; ///< the others follow by one
    std::uint32_t amount = 0;
    bool operator==(const write_numbers&) const = default;
  };
  struct end_question {
    protocols::request_id question;
    std::optional<protocols::failure> why; ///< none: `value` is the answer
    float value = 0;
    std::uint32_t rounds = 0;
    bool operator==(const end_question&) const = default;
  };
  struct drained {
    bool operator==(const drained&) const = default;
  };
  using effects = std::vector<std::variant<send_tally, write_numbers, end_question, drained>>;

  teller_machine(const protocols::cluster_plan& plan, options how);

  /// Errors: queue_full, shutting_down, invalid_request (more numbers than a cell takes).
  protocols::result<effects> on_count(protocols::request_id question, std::uint32_t first, std::uint32_t amount,
                                      protocols::time_point now);
  effects on_lend(protocols::rank_id from, const lend& word, protocols::time_point now);
  effects on_written(protocols::room_id round, const protocols::result<void>& outcome, protocols::time_point now);
  effects on_sum(protocols::rank_id from, const sum& word, protocols::time_point now);
  effects on_lost(const protocols::lost& news, protocols::time_point now);
  effects on_recovered(const protocols::recovered& news, protocols::time_point now);
  effects on_drain(protocols::time_point now);
  effects on_tick(protocols::time_point now);

private:
  struct question {
    protocols::request_id id;
    std::uint32_t first = 0;
    std::uint32_t amount = 0;
    std::uint32_t rounds = 0; ///< begun so far
    protocols::time_point until;
  };
  struct cell {
    std::uint32_t slot = 0;
    std::vector<protocols::rank_id> ranks;
    std::map<protocols::rank_id, protocols::generation> lent;
    bool up = true;
    bool gone = false;             ///< nobody will start it again
    std::uint32_t writes_open = 0; ///< of all rounds
    protocols::time_point rests_until{};
    protocols::room_id round{}; ///< 0: idle
    question asked;             ///< of `round`
    // The next piece of `round`:
    std::uint32_t place = 0; ///< of the rank that it is for
    std::uint32_t at = 0;    ///< in numbers, from the beginning of that rank's share
    std::uint32_t done = 0;  ///< numbers of the ranks before
    std::uint32_t part = 0;

    /// Equal ones; the first ranks have one number more.
    std::uint32_t share_of(std::uint32_t rank_place) const {
      const auto size = static_cast<std::uint32_t>(ranks.size());
      return asked.amount / size + (rank_place < asked.amount % size ? 1 : 0);
    }
    bool is_idle(protocols::time_point now) const {
      return up && lent.size() == ranks.size() && writes_open == 0 && round == protocols::room_id{} &&
             now >= rests_until;
    }
  };

  cell* find(protocols::rank_id rank);
  void begin(cell& on, question asked, effects& out);
  void write_on(cell& on, effects& out);
  void ask_again(cell& on, const protocols::failure& why, effects& out);
  effects go_on(effects out, protocols::time_point now);

  options how_;
  std::vector<cell> cells_;
  std::deque<question> waiting_;
  std::map<protocols::room_id, std::pair<std::size_t, std::uint32_t>> writes_; ///< by round: place of its cell, open
  protocols::room_id newest_{};
  bool draining_ = false;
  bool drained_ = false;
};

} // namespace troupe::tally
