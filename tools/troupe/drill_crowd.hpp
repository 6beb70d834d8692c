#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "protocols/ids.hpp"
#include "protocols/time.hpp"
#include "runtime/embed/client.hpp"

namespace troupe::tools {

/// A question whose answer is known.
struct known_question {
  std::string shown; ///< "label.png, note.png: Read the text."
  embed::question what;
  std::vector<protocols::token_id> answer; ///< with the end token, where one ends it
  std::optional<std::string> text;         ///< of the whole answer; nothing: the tokens alone are judged
};

/// How the questions of a crowd have fared.
struct crowd_counts {
  std::uint64_t asked = 0;
  std::uint64_t right = 0;     ///< answered to the end, token by token and letter by letter
  std::uint64_t cancelled = 0; ///< ended because its client asked for that, right as far as it came
  std::uint64_t left = 0;      ///< its client had gone
  std::uint64_t failed = 0;    ///< ended with a cause
  std::uint64_t refused = 0;   ///< never taken
  std::uint64_t wrong = 0;     ///< a token or a text that the answer does not have there
  std::uint64_t doubled = 0;   ///< a token or an end that came twice, or after the end
  std::uint64_t lost = 0;      ///< taken and never ended

  bool operator==(const crowd_counts&) const = default;
};

/// Clients of a front that come, ask, cancel and go, each on a connection of its own, and what they are answered.
/// Every answer is compared with the known one; of a question that did not come to its end, what came must be its
/// beginning.
/// Threads: one. Never blocks, except for a connection.
class drill_crowd {
public:
  using client_id = std::uint32_t;

  /// `questions` must outlive this.
  drill_crowd(const std::vector<known_question>& questions, std::string socket, protocols::rank_id front);

  /// Somebody who is not there yet comes first. Errors: gone, timeout, overloaded.
  embed::result<void> ask(client_id who, std::size_t question);
  /// Orders the end of the latest question of `who` that is open; false: there is none.
  bool cancel(client_id who);
  /// Closes the connection, whatever is open on it; false: `who` is not there.
  bool leave(client_id who);

  /// Hears what there is.
  void step(protocols::time_point now);

  std::size_t open() const noexcept;
  bool has_token() const noexcept { return has_token_; }
  std::vector<client_id> present() const;
  const crowd_counts& counts() const noexcept { return counts_; }
  /// What became of everything, if nothing more comes: what is open now is lost, or was refused.
  crowd_counts conclude() const;

  /// Of the first few: question, both texts.
  const std::vector<std::string>& complaints() const noexcept { return complaints_; }
  /// Why questions failed or were refused, and how many.
  const std::map<std::string, std::uint64_t>& causes() const noexcept { return causes_; }

private:
  struct open_question {
    const known_question* known;
    bool accepted = false;
    bool cancelled = false;
    bool wrong = false; ///< counted already
    std::size_t tokens = 0;
    std::string text;
  };
  struct client {
    embed::client front;
    std::map<std::uint64_t, open_question> open; ///< by tag
  };

  /// False: the connection has ended.
  bool read_events(client_id who, client& from, protocols::time_point now);
  void take(client_id who, client& from, const embed::accepted& said);
  void take(client_id who, client& from, const embed::token& said);
  void take(client_id who, client& from, const embed::finished& said);
  void take(client_id who, client& from, const embed::refused& said);
  void judge_end(client_id who, std::uint64_t tag, open_question& asked, const embed::finished& said);
  void call_wrong(client_id who, std::uint64_t tag, open_question& asked, const std::string& what);
  void call_doubled(client_id who, std::uint64_t tag, const std::string& what);
  void complain(std::string what);

  const std::vector<known_question>& questions_;
  std::string socket_;
  protocols::rank_id front_;
  std::map<client_id, client> clients_;
  crowd_counts counts_;
  bool has_token_ = false;
  std::vector<std::string> complaints_;
  std::map<std::string, std::uint64_t> causes_;
};

} // namespace troupe::tools
