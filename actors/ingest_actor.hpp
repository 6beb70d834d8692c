#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <caf/all.hpp>

#include "actors/rank_actor.hpp"
#include "gpu/models/picture.hpp"
#include "gpu/models/text_io.hpp"
#include "protocols/front_machine.hpp"

namespace troupe::actors {

/// A client's question, whole.
struct ingest_order {
  fabric::wire::key client = 0;
  protocols::ask question;
  std::vector<std::vector<std::byte>> files; ///< of its pictures
  protocols::time_point asked;
};

/// What the front can admit: ids, and pictures resized as the model asks.
struct ingested {
  fabric::wire::key client = 0;
  protocols::ask question;
  protocols::time_point asked;
  protocols::time_point ended;
  protocols::front_machine::request request; ///< without its id
  std::vector<gpu::models::rgb_picture> pictures;
  std::optional<protocols::failure> problem;
};

/// Decodes and resizes pictures and tokenises, on its own thread: it is the front's only long computation, and tokens
/// of other requests must not wait behind it. Contract: I9, J11; errors: bad_picture, config_invalid, invalid_request,
/// for that request alone (C24).
/// Each picture that was decoded and each that was resized counts as getting on, for the watchdog (C4).
class ingest_actor : public rank_actor {
public:
  ingest_actor(caf::actor_config& config, const rank_context& rank,
               std::shared_ptr<const gpu::models::tokenizer> words);

  caf::behavior make_behavior() override;
  const char* name() const override { return "ingest"; }

private:
  ingested prepare(ingest_order order);
  protocols::result<void> prepare_pictures(const ingest_order& order, ingested& out);

  /// Read once; where the model's folder has no template that is understood, the answer to every question.
  protocols::result<std::shared_ptr<const gpu::models::prompt_builder>> prompts_;
};

} // namespace troupe::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::ingest_order)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::ingested)
