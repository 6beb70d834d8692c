#pragma once

#include "actors/serve/ingest_actor.hpp"

namespace troupe::actors {

/// Decodes and resizes pictures and builds prompts, one question at a time, on its own thread.
/// Each step, which is a row of a picture or less, counts as getting on for the watchdog (C4), and is where it stops
/// when the question is wanted no more.
/// Contract: K7, I9, J11, C8. Errors: bad_picture, config_invalid, invalid_request, no_memory, for that question alone
/// (C24).
class reader_actor : public rank_actor {
public:
  using prompt_source = protocols::result<std::shared_ptr<const gpu::models::prompt_builder>>;

  /// `from`: read once; where the model's folder has no template that is understood, the answer to every question.
  reader_actor(caf::actor_config& config, const rank_context& rank, std::uint32_t self, prompt_source from,
               std::shared_ptr<const gpu::models::tokenizer> words);

  const char* name() const override { return "reader"; }

private:
  handlers make_handlers() override;
  ingested read(const ingest_order& order, const gpu::models::keeps_on& goes_on) const;
  protocols::result<void> read_pictures(const ingest_order& order, const gpu::models::keeps_on& goes_on,
                                        ingested& out) const;
  protocols::result<gpu::models::rgb_picture> read_picture(std::span<const std::byte> file, const std::string& name,
                                                           const gpu::models::keeps_on& goes_on) const;
  protocols::result<void> encode_prompt(const ingest_order& order, ingested& out) const;
  protocols::result<void> build_prompt(const ingest_order& order, ingested& out) const;

  std::uint32_t self_;
  prompt_source prompts_;
  std::shared_ptr<const gpu::models::tokenizer> words_;
};

} // namespace troupe::actors
