#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include <caf/all.hpp>

#include "actors/rank_actor.hpp"
#include "gpu/models/pictures/picture.hpp"
#include "gpu/models/text_io.hpp"
#include "protocols/serve/client_messages.hpp"
#include "protocols/serve/front_machine.hpp"
#include "protocols/serve/ingest_machine.hpp"

namespace troupe::actors {

/// A client's question, whole. It is answered once, by one `ingested`.
struct ingest_order {
  protocols::request_id request;
  protocols::ask question;
  std::vector<std::vector<std::byte>> files; ///< of its pictures
  protocols::time_point asked;
  /// Set when nobody waits for it any more: it is then read no further, and answered with `cancelled` within
  /// `tick_period`. Null: somebody will.
  std::shared_ptr<const std::atomic<bool>> unwanted = nullptr;
  bool as_it_is = false; ///< the question's prompt is the whole prompt, which no template has a part in

  bool is_wanted() const noexcept { return !unwanted || !unwanted->load(std::memory_order_relaxed); }
};

/// What the front can admit: ids, and pictures resized as the model asks. With a problem: whose it was, and no more.
struct ingested {
  protocols::ask question;
  protocols::time_point asked;
  protocols::time_point ended;
  protocols::front_machine::request request;
  std::vector<gpu::models::rgb_picture> pictures;
  std::optional<protocols::failure> problem;
};

/// An answer to that question, still empty.
ingested answer_to(const ingest_order& order);

/// To a reader: read this, for as long as nobody sets `stop` and it is wanted.
struct reading_order {
  std::shared_ptr<const ingest_order> what;
  std::shared_ptr<const std::atomic<bool>> stop;
};
/// Of a reader: what has come of its newest order.
struct reading_ended {
  std::uint32_t reader = 0;
  ingested outcome;
};

/// Has questions read, by threads of their own: it is the front's only long computation, and neither tokens of other
/// requests nor other questions may wait behind it. Carries out what `ingest_machine` decides.
/// Contract: K7, K9, C24.
class ingest_actor : public rank_actor {
public:
  ingest_actor(caf::actor_config& config, const rank_context& rank,
               std::shared_ptr<const gpu::models::tokenizer> words);

  const char* name() const override { return "ingest"; }

private:
  handlers make_handlers() override;
  using ticket = protocols::ingest_machine::ticket;

  void on_order(ingest_order order);
  void on_read(reading_ended& end);
  void on_tick();
  void perform(const protocols::ingest_machine::effects& what);
  void begin(const protocols::ingest_machine::begin_reading& what);
  void give_up(const protocols::ingest_machine::give_up& what);
  void answer(ingested what);

  protocols::ingest_machine machine_;
  std::vector<caf::actor> readers_;
  std::vector<std::shared_ptr<std::atomic<bool>>> stops_;            ///< by reader, of what it reads
  std::map<ticket, std::shared_ptr<const ingest_order>> unanswered_; ///< the readers' too, while they are read
};

} // namespace troupe::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::ingest_order)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::ingested)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::reading_order)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::reading_ended)
