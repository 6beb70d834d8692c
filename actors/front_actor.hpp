#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <caf/all.hpp>

#include "actors/ingest_actor.hpp"
#include "actors/rank_actor.hpp"
#include "gpu/models/text_io.hpp"
#include "protocols/front_machine.hpp"

namespace troupe::actors {

/// A frame of a client, as the wire saw it.
template <class Message>
struct from_client {
  fabric::wire::key client = 0;
  Message body;
};
struct client_gone {
  fabric::wire::key client = 0;
};
using drain_atom = caf::atom_constant<caf::atom("drain")>;

/// The front: takes questions from clients, carries out what `front_machine` decides, turns tokens into text.
/// Contract: A3, C24, D5, I4.
class front_actor : public rank_actor {
public:
  struct parts {
    std::shared_ptr<const gpu::models::tokenizer> words;
    std::function<void()> on_drained; ///< any thread's; called once
  };
  front_actor(caf::actor_config& config, const rank_context& rank, parts made_of);

  caf::behavior make_behavior() override;
  const char* name() const override { return "front"; }

private:
  /// A question whose pictures are still arriving.
  struct arriving {
    protocols::ask question;
    std::vector<std::vector<std::byte>> files;
    protocols::time_point asked;
  };
  struct serving {
    fabric::wire::key client = 0;
    std::uint64_t tag = 0;
    protocols::time_point asked;
    protocols::time_point first_token;
    std::vector<gpu::models::rgb_picture> pictures; ///< until the first token: an attempt before it may be repeated
    gpu::models::incremental_decoder text;
    std::vector<protocols::phase_time> phases;
  };
  void on_ask(fabric::wire::key client, protocols::ask question);
  void on_chunk(fabric::wire::key client, const protocols::picture_chunk& chunk);
  void ingest_if_whole(std::map<std::pair<fabric::wire::key, std::uint64_t>, arriving>::iterator which);
  void on_ingested(ingested& what);
  void on_client_gone(fabric::wire::key client);

  void perform(protocols::front_machine::effects what);
  void write_pixels(const protocols::front_machine::write_pixels& write, std::vector<cargo_delivered>& refused);
  void on_pixels_written(const cargo_delivered& end);
  void emit(const protocols::front_machine::emit_token& token);
  void finish(const protocols::front_machine::end_request& end);
  template <class Message>
  void tell(fabric::wire::key client, const Message& what);
  void refuse(fabric::wire::key client, std::uint64_t tag, const protocols::failure& why);

  parts parts_;
  caf::actor ingest_;
  protocols::front_machine machine_;
  std::map<std::pair<fabric::wire::key, std::uint64_t>, arriving> arriving_;
  std::map<protocols::request_id, serving> serving_;
  protocols::request_id next_request_{1};
  std::size_t ingesting_ = 0;
  bool draining_ = false;
};

} // namespace troupe::actors

namespace caf {
template <class Message>
struct allowed_unsafe_message_type<troupe::actors::from_client<Message>> : std::true_type {};
} // namespace caf
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::client_gone)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::protocols::lost)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::protocols::regained)
