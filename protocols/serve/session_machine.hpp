#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/invariant.hpp"
#include "protocols/serve/client_messages.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// A connection to the front.
using client_id = strong_id<struct client_tag, std::uint64_t>;

/// Follows each question of each client from its first frame to its end.
///
/// A question arrives (its pictures follow it in pieces), is ingested (pictures decoded, prompt tokenised), and is
/// admitted to `front_machine`. What a question holds on the way is counted, in number and in bytes, for its client and
/// for all clients. Each count has a bound; the bound of one client is below that of all, so no client shuts out the
/// others. Bytes are counted when they are announced, so a question that is accepted can always be sent whole.
/// The request's deadline runs from its first frame, so a question whose pictures never come ends at that deadline.
/// A cancel, or the end of the connection, ends the question in whatever stage it is.
///
/// At most `ingests_max` questions are ingested at a time, and clients take turns, so a client that sends many large
/// pictures delays only itself. Decoded pictures count until `on_pictures_used`. While they hold `client_bytes_max` of
/// a client, or `bytes_max` of all, no further pictures are decoded.
///
/// Contract: K3, K7, K9, K16. Threads: the front actor's.
class session_machine {
public:
  struct options {
    std::uint32_t arriving_max = 128;       ///< questions before their admission, of all clients
    std::uint32_t client_questions_max = 1; ///< of one client, to the end of the answer; at most `arriving_max`
    std::uint32_t ingests_max = 1;          ///< at a time
    std::uint64_t picture_bytes_max = 0;    ///< of a picture file
    std::uint64_t client_bytes_max = 0;     ///< of one client's arriving files, and separately of its decoded pictures
    std::uint64_t bytes_max = 0;            ///< the same, of all clients together
    duration request_deadline{};            ///< from the question's first frame
  };

  /// Add the piece's bytes to the question's picture.
  struct keep_piece {
    request_id request;
    std::uint32_t picture = 0;
    bool operator==(const keep_piece&) const = default;
  };
  /// The question is whole; `on_ingested` follows.
  struct begin_ingest {
    request_id request;
    bool operator==(const begin_ingest&) const = default;
  };
  /// Nobody waits for this ingest any more. `on_ingested` still follows.
  struct stop_ingest {
    request_id request;
    bool operator==(const stop_ingest&) const = default;
  };
  /// Hand the ingested question to the front machine; `on_ended` follows.
  struct admit {
    request_id request;
    bool operator==(const admit&) const = default;
  };
  /// The front machine has this request; `on_ended` follows.
  struct cancel_request {
    request_id request;
    bool operator==(const cancel_request&) const = default;
  };
  /// Drop what is held of the question.
  struct forget {
    request_id request;
    bool operator==(const forget&) const = default;
  };
  struct tell_refused {
    client_id client;
    std::uint64_t tag = 0;
    failure why;
    bool operator==(const tell_refused&) const = default;
  };
  struct tell_cancelled {
    client_id client;
    std::uint64_t tag = 0;
    bool operator==(const tell_cancelled&) const = default;
  };
  using effect =
      std::variant<keep_piece, begin_ingest, stop_ingest, admit, cancel_request, forget, tell_refused, tell_cancelled>;
  using effects = std::vector<effect>;

  explicit session_machine(options bounds) : bounds_(bounds) {}

  /// Takes the question's first frame and gives it its id. Call `next_ingests` next.
  /// Errors: invalid_request, bad_picture, queue_full (naming the bound), shutting_down; nothing is kept then.
  result<request_id> on_ask(client_id client, const ask& question, time_point now);
  effects on_piece(client_id client, std::uint64_t tag, std::uint32_t picture, std::size_t bytes);
  /// Questions whose turn it is.
  effects next_ingests();
  /// `prepared_bytes`: the size of the decoded pictures, held until `on_pictures_used` or the end.
  effects on_ingested(request_id request, const std::optional<failure>& problem, std::uint64_t prepared_bytes);
  /// The request's pictures are not needed any more.
  void on_pictures_used(request_id request);
  /// An admitted question has ended, or the front machine has refused it.
  effects on_ended(request_id request);
  effects on_withdraw(client_id client, std::uint64_t tag);
  effects on_client_gone(client_id client);
  /// Nothing is admitted any more.
  effects on_drain();
  effects on_tick(time_point now);

  /// Contract: K3. Says how the counts differ from what is held; empty when they agree.
  std::string audit() const;
  std::size_t questions() const noexcept { return questions_.size(); }

private:
  friend class keeps_invariants<session_machine>;
  void check_invariants() const;
  void show_states(state_view& view) const;
  enum class stage {
    arriving,  ///< pieces of its pictures are on their way
    whole,     ///< waits for its turn
    ingesting, ///< with the ingest
    abandoned, ///< with the ingest, but ended for its client
    admitted,  ///< with the front machine
  };
  struct question {
    client_id client;
    std::uint64_t tag = 0;
    stage at = stage::arriving;
    time_point deadline;
    std::vector<std::uint64_t> missing; ///< bytes of each picture that have not come
    std::uint64_t file_bytes = 0;       ///< announced; counted until they are ingested
    std::uint64_t prepared_bytes = 0;   ///< decoded; counted until they are used
  };
  struct totals {
    std::uint32_t questions = 0;
    std::uint32_t arriving = 0; ///< of these, those that are not admitted
    std::uint64_t file_bytes = 0;
    std::uint64_t prepared_bytes = 0;
    bool operator==(const totals&) const = default;
  };
  struct session {
    totals of;
    std::deque<request_id> whole; ///< complete questions, in the order in which they became complete
  };
  using iterator = std::map<request_id, question>::iterator;

  std::optional<failure> judge(client_id client, const ask& asked, std::uint64_t bytes) const;
  std::optional<failure> validate_pictures(const ask& asked, std::uint64_t bytes) const;
  iterator find(client_id client, std::uint64_t tag);
  template <class Change>
  void count(const question& one, Change change);
  bool may_ingest(const session& of) const;
  void leave_whole(iterator which);
  /// Ends a question that is not admitted. True: tell its client.
  bool end_early(iterator which, effects& out);
  void erase(iterator which);
  std::vector<request_id> of_client(client_id client) const;

  options bounds_;
  std::map<request_id, question> questions_;
  std::map<std::pair<client_id, std::uint64_t>, request_id> tags_; ///< of questions that have not ended
  std::map<client_id, session> clients_;                           ///< with a question
  totals all_;
  std::uint32_t ingests_ = 0;
  client_id last_served_{};
  request_id next_request_{1};
  bool draining_ = false;
};

} // namespace troupe::protocols
