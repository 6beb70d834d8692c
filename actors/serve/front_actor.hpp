#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <caf/all.hpp>

#include "actors/role_actor.hpp"
#include "actors/serve/door/client_word.hpp"
#include "actors/serve/ingest_actor.hpp"
#include "actors/serve/serve_events.hpp"
#include "gpu/models/text_io.hpp"
#include "protocols/serve/front_machine.hpp"
#include "protocols/serve/message_partners.hpp"
#include "protocols/serve/session_machine.hpp"

namespace troupe::actors {

/// A frame of a client, as the wire saw it.
template <class Message>
struct from_client {
  fabric::link_queues::key client = 0;
  Message body;
};
struct client_gone {
  fabric::link_queues::key client = 0;
};
using drain_atom = caf::atom_constant<caf::atom("drain")>;

/// The front: takes questions from clients, carries out what `session_machine` and `front_machine` decide, turns tokens
/// into text. Contract: A3, C24, D5, I4, K9.
class front_actor : public role_actor {
public:
  struct parts {
    std::shared_ptr<const gpu::models::tokenizer> words;
    caf::actor ingest; ///< answers each `ingest_order` with one `ingested`; lives and dies with the front
    std::function<void()> on_drained;                                               ///< any thread's; called once
    std::function<void(fabric::link_queues::key, client_word)> tell_door = nullptr; ///< none: there is no door
  };
  front_actor(caf::actor_config& config, const rank_context& rank, parts made_of);

  const char* name() const override { return "front"; }

private:
  handlers make_handlers() override;

  /// What is held of a question; what becomes of it is `sessions_`' and `machine_`'s to decide.
  struct held_question {
    fabric::link_queues::key client = 0;
    std::uint64_t tag = 0;
    protocols::ask asked;  ///< until it is ingested
    bool as_it_is = false; ///< its prompt needs no template
    protocols::time_point since;
    std::vector<std::vector<std::byte>> files;      ///< until they are ingested
    std::shared_ptr<std::atomic<bool>> unwanted;    ///< tells the ingest
    protocols::front_machine::request request;      ///< until it is admitted
    std::vector<gpu::models::rgb_picture> pictures; ///< until the first token: an attempt before it may be repeated
    protocols::time_point started;                  ///< in cells, at the first attempt
    protocols::time_point first_token;
    protocols::time_point last_token;
    gpu::models::incremental_decoder text;
    std::vector<protocols::phase_time> phases;
    std::uint32_t prompt_tokens = 0;
    std::uint32_t answer_tokens = 0; ///< that the client was told
  };

  void on_ask(fabric::link_queues::key client, protocols::ask question, bool as_it_is = false);
  void on_door_question(const door_question& letter);
  void handled(fabric::link_queues::key client);
  void on_ingested(ingested& what);
  void on_pixels_written(const write_completed& end);
  void on_timing(const protocols::timing& news);

  void perform(protocols::session_machine::effects what, std::span<const std::byte> piece = {});
  void begin_ingest(protocols::request_id request);
  void admit(protocols::request_id request);

  void perform(protocols::front_machine::effects what);
  void write_pixels(const protocols::front_machine::write_pixels& write, std::vector<write_completed>& refused);
  void emit(const protocols::front_machine::emit_token& token);
  void finish(const protocols::front_machine::end_request& end);
  void note_started(const protocols::send_message& order);
  void count_token(held_question& of, std::uint32_t index);
  void count_end(const held_question& of, protocols::finish_reason how);
  void count_load();
  template <class Message>
  void tell(fabric::link_queues::key client, const Message& what);
  void refuse(fabric::link_queues::key client, std::uint64_t tag, const protocols::failure& why);

  parts parts_;
  protocols::front_machine machine_;
  protocols::session_machine sessions_;
  std::mt19937_64 seeds_{std::random_device{}()}; ///< of questions that bring none
  std::map<protocols::request_id, held_question> questions_;
};

} // namespace troupe::actors

namespace caf {
template <class Message>
struct allowed_unsafe_message_type<troupe::actors::from_client<Message>> : std::true_type {};
} // namespace caf
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::client_gone)
