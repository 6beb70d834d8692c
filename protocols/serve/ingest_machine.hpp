#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <variant>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/invariant.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// Assigns the front's readers to the questions whose pictures and prompts are to be read.
/// No question may block the others: questions of many pixels occupy at most `readers_large` readers, so the rest stay
/// free for small ones. One reader for each question was rejected: clients would then set the number of threads and the
/// memory. Large questions are served in order of arrival, and so are small ones.
/// A question ends once: read, cancelled, or late, which fails it alone. The reader of a question that ended early is
/// told to stop, and gets the next question only when it has stopped.
///
/// Contract: K7, K9, C24.
/// Threads: the ingest actor's.
class ingest_machine {
public:
  struct options {
    std::uint32_t readers = 0;
    std::uint32_t readers_large = 0; ///< of them, for questions of more than `large_pixels`; less than `readers`
    std::uint64_t large_pixels = 0;
    std::size_t questions_max = 0;
    duration reading_deadline{}; ///< from when a reader begins the question
  };
  enum class ticket : std::uint64_t {}; ///< of one question; never used twice

  struct question {
    std::uint64_t pixels = 0; ///< that its pictures promise
    time_point deadline;      ///< of the whole question
  };

  struct begin_reading {
    ticket which{};
    std::uint32_t reader = 0;
    bool operator==(const begin_reading&) const = default;
  };
  /// The reader is to stop; `on_read` follows when it has.
  struct stop_reading {
    std::uint32_t reader = 0;
    bool operator==(const stop_reading&) const = default;
  };
  /// Answer the question with `cause`; a result that its reader still delivers is dropped.
  struct give_up {
    ticket which{};
    failure cause;
    bool operator==(const give_up&) const = default;
  };
  using effect = std::variant<begin_reading, stop_reading, give_up>;
  using effects = std::vector<effect>;

  explicit ingest_machine(options bounds);

  /// Returns the ticket that the effects name the question by.
  ticket on_question(const question& what, time_point now, effects& out);
  /// The reader at `place` is free. Returns the question that it has read, or nothing if that ended before.
  std::optional<ticket> on_read(std::uint32_t place, time_point now, effects& out);
  /// The client has cancelled the question, or is gone.
  effects on_cancel(ticket which, time_point now);
  effects on_tick(time_point now);

  std::size_t waiting() const noexcept { return waiting_.size(); }

private:
  friend class keeps_invariants<ingest_machine>;
  void check_invariants() const;
  void show_states(state_view& view) const;
  struct entry {
    ticket which{};
    question what;
  };
  struct reader {
    bool at_work = false;
    bool large = false;
    std::optional<entry> reads; ///< none while at work: it has been told to stop
    time_point until;
  };

  bool is_large(const question& what) const noexcept { return what.pixels > bounds_.large_pixels; }
  void share_out(effects& out, time_point now);
  bool begin(const entry& next, effects& out, time_point now);
  /// Ends every question for which `cause_of` gives a cause.
  template <class CauseOf>
  void end_those(CauseOf cause_of, effects& out);

  options bounds_;
  std::deque<entry> waiting_;
  std::vector<reader> readers_;
  std::uint64_t tickets_ = 0;
};

} // namespace troupe::protocols
