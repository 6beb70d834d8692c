#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/serve/door/chat_body.hpp"
#include "actors/serve/door/fault_answer.hpp"
#include "protocols/door/stop_text.hpp"
#include "protocols/door/usage.hpp"
#include "runtime/door/door.hpp"

namespace troupe::actors {

/// Makes one HTTP answer out of what the front says of the questions that a request asked: one JSON object, or
/// server-sent events. The status line goes out with the first token, so what fails before keeps its status; what fails
/// later is the stream's last event, without `[DONE]`.
/// Questions have the tags 1 to n. Contract: D7, K9. Threads: the door's.
class chat_answer {
public:
  struct parts {
    body_form form = body_form::chat;
    std::string id;           ///< of the request
    std::string model;        ///< as it is answered
    std::int64_t created = 0; ///< seconds of the calendar
    std::uint32_t n = 1;
    bool stream = false;
    bool includes_usage = false;
    bool logprobs = false;
    std::vector<std::string> stops;
    std::shared_ptr<door::reply> to;
  };
  explicit chat_answer(parts made_of);

  void on(const protocols::accepted& said);
  /// True: the question needs no more tokens, because a stop text has come.
  bool on(const protocols::answer& said);
  void on(const protocols::finished& said);
  /// The request fails as a whole. `retry_after`: seconds, where it may be asked again.
  void fail(const fault_answer& why, std::int64_t retry_after);

  bool has_ended() const noexcept { return ended_; }
  /// Whether this question's end is still to be waited for, or whatever comes of it is dropped.
  bool is_open(std::uint64_t tag) const noexcept;

private:
  struct choice {
    protocols::stop_text stops;
    std::string text;     ///< whole answers only
    std::string logprobs; ///< entries that are not sent yet
    bool begun = false;
    bool ended = false;
    std::string_view finish;
  };

  void begin();
  void give(std::size_t which, std::string_view text);
  void end_choice(std::size_t which, std::string_view text, std::string_view finish);
  void write_event(std::size_t which, std::string_view delta, std::string_view logprobs, std::string_view finish);
  void add_logprobs(choice& one, const protocols::answer& said) const;
  void append_usage(std::string& out) const;
  void end();
  void answer_whole();

  parts parts_;
  std::vector<choice> choices_;
  protocols::usage usage_;
  std::string head_; ///< of each event, up to its choice
  bool begun_ = false;
  bool ended_ = false;
};

} // namespace troupe::actors
