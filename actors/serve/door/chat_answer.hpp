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

/// Writes the HTTP answer of one request from the front's messages about its questions: one JSON object, or a stream of
/// server-sent events. The status line is sent with the first token, so a failure before it has an error status; a
/// later failure is the last event of the stream, and no `[DONE]` follows. A request has `n` questions, with the tags 1
/// to n. Contract: D7, K9. Threads: the door's.
class chat_answer {
public:
  /// What the answer is made with.
  struct parts {
    body_form form = body_form::chat;
    std::string id;           ///< of the request
    std::string model;        ///< the name that the answer states
    std::int64_t created = 0; ///< seconds since 1970
    std::uint32_t n = 1;
    bool stream = false;
    bool includes_usage = false;
    bool logprobs = false;
    std::vector<std::string> stops;
    std::shared_ptr<door::reply> to;
  };
  explicit chat_answer(parts made_of);

  void on(const protocols::accepted& said);
  /// True: withdraw the question, because its answer has reached a stop text.
  bool on(const protocols::answer& said);
  void on(const protocols::finished& said);
  /// Ends the whole request with an error. `retry_after`: in seconds, if the client may repeat the request.
  void fail(const fault_answer& why, std::int64_t retry_after);

  bool has_ended() const noexcept { return ended_; }
  /// Whether the answer to this question goes on; messages about any other question are dropped.
  bool is_open(std::uint64_t tag) const noexcept;

private:
  struct choice {
    protocols::stop_text stops;
    std::string text;     ///< only of an answer that is not streamed
    std::string logprobs; ///< JSON entries that are not sent yet
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
  std::string head_; ///< what every event begins with, up to `choices`
  bool begun_ = false;
  bool ended_ = false;
};

} // namespace troupe::actors
