#include "actors/ingest_actor.hpp"

#include <xxhash.h>

#include "runtime/base/clock.hpp"
#include "runtime/base/fault_point.hpp"

namespace troupe::actors {

using namespace protocols;

ingest_actor::ingest_actor(caf::actor_config& config, const rank_context& rank,
                           std::shared_ptr<const gpu::models::tokenizer> words)
    : rank_actor(config, rank, "ingest", actor_kind::ingest),
      prompts_(gpu::models::prompt_builder::open(std::move(words), rank.model, rank.facts)) {}

caf::behavior ingest_actor::make_behavior() {
  return {[this](ingest_order& order) {
    get_on();
    TROUPE_FAULT_POINT("front.ingesting");
    return prepare(std::move(order));
  }};
}

ingested ingest_actor::prepare(ingest_order order) {
  ingested out{.client = order.client,
               .question = order.question,
               .asked = order.asked,
               .ended = {},
               .request = {},
               .pictures = {},
               .problem = std::nullopt};
  out.request.sampling = order.question.sampling;
  out.request.max_tokens = order.question.max_tokens;
  if (auto prepared = prepare_pictures(order, out); !prepared)
    out.problem = prepared.error();
  if (!out.problem) {
    std::vector<std::uint32_t> image_tokens;
    for (const auto& each : out.request.pictures)
      image_tokens.push_back(each.tokens);
    const auto prompt =
        prompts_.and_then([&](const auto& prompts) { return prompts->build(order.question.prompt, image_tokens); });
    if (prompt) {
      out.request.prompt = prompt->ids;
      for (std::size_t i = 0; i < out.request.pictures.size(); ++i)
        out.request.pictures[i].first_token = prompt->first_token[i];
    } else {
      out.problem = prompt.error();
    }
  }
  out.ended = base::now();
  return out;
}

result<void> ingest_actor::prepare_pictures(const ingest_order& order, ingested& out) {
  const auto& facts = rank_.facts;
  if (!order.files.empty() && !facts.has_vision)
    return fail(fault::invalid_request, "the model " + facts.architecture + " takes no pictures");
  for (std::size_t i = 0; i < order.files.size(); ++i) {
    auto read =
        gpu::models::read_picture(order.files[i], order.question.picture_names[i], rank_.spec.limits.picture_side_max);
    get_on();
    if (!read)
      return tl::unexpected<failure>{read.error()};
    const auto shape = gpu::models::resized_shape(facts, read->height, read->width);
    if (!shape)
      return fail(shape.error().code, order.question.picture_names[i] + ": " + shape.error().what);
    auto resized = gpu::models::resize(*std::move(read), shape->first, shape->second);
    get_on();
    if (!resized)
      return tl::unexpected<failure>{resized.error()};
    auto& picture = *resized;
    const auto rows = picture.height / facts.patch_pixels;
    const auto columns = picture.width / facts.patch_pixels;
    out.request.pictures.push_back({.height = picture.height,
                                    .width = picture.width,
                                    .tokens = rows * columns / (facts.merge * facts.merge),
                                    .first_token = 0,
                                    .grid = {1, rows, columns},
                                    .content_hash = XXH3_64bits(picture.rgb.data(), picture.rgb.size())});
    out.pictures.push_back(std::move(picture));
  }
  return {};
}

} // namespace troupe::actors
