#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "actors/rank_context.hpp"
#include "actors/serve/door/chat_answer.hpp"
#include "actors/serve/door/client_word.hpp"
#include "actors/serve/door/service_state.hpp"
#include "protocols/door/service_pace.hpp"
#include "runtime/door/door.hpp"

namespace troupe::actors {

/// The HTTP service of `serve`: the routes of an OpenAI-compatible API, and the answers that are open. Each HTTP
/// request is a client of the front and asks `n` questions; when the HTTP client leaves, the front cancels them. The
/// messages of one turn of the front reach the door's thread together, so a decode step wakes that thread once.
/// Contract: K7, K9. Threads: the door's; `tell` and `close`: any.
class chat_door {
public:
  chat_door(const rank_context& rank, const service_state& service, door::door& at);

  std::vector<door::route> routes();
  /// Takes a message of the front to the client.
  void tell(fabric::link_queues::key client, client_word what);
  /// To be called before the door ends: nothing is posted to it afterwards.
  void close();

private:
  using key = fabric::link_queues::key;

  void ask(body_form form, door::request what, const std::shared_ptr<door::reply>& to);
  void hear();
  void hear(key client, const client_word& what);
  void withdraw(key client, std::uint64_t tag) const;
  void leave(key client);
  void show_models(const door::request& what, door::reply& to) const;
  std::int64_t retry_after() const;
  bool is_model(std::string_view name) const;
  door::response no_such_model(std::string_view name) const;

  const rank_context& rank_;
  const service_state& service_;
  std::vector<std::string> names_; ///< of the model; the first is that of its folder
  std::int64_t since_;
  std::uint64_t last_ = 0;
  std::map<key, chat_answer> open_;
  protocols::service_pace pace_;

  std::mutex mutex_; ///< guards what follows
  door::door* door_;
  std::vector<std::pair<key, client_word>> said_;
};

} // namespace troupe::actors
