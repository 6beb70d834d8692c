#include "actors/serve/reader_actor.hpp"

#include <chrono>
#include <ctime>
#include <new>

#include <xxhash.h>

#include "protocols/serve/fault_points.hpp"
#include "protocols/serve/flight_names.hpp"
#include "runtime/base/fault_point.hpp"

namespace troupe::actors {

using namespace protocols;

namespace {

/// For templates that write the date, as their authors' own machines would: in the host's time zone.
std::tm today() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm out{};
  localtime_r(&now, &out);
  return out;
}

} // namespace

reader_actor::reader_actor(caf::actor_config& config, const rank_context& rank, std::uint32_t self, prompt_source from,
                           std::shared_ptr<const gpu::models::tokenizer> words)
    : rank_actor(config, rank, "reader", serve_actor::reader), self_(self), prompts_(std::move(from)),
      words_(std::move(words)) {}

rank_actor::handlers reader_actor::make_handlers() {
  return on([this](const reading_order& order) {
    base::flight_span reading{record_of(serve_actor::reader, order.what->question.tag)};
    const gpu::models::keeps_on goes_on = [this, &order] {
      note_progress();
      return !order.stop->load(std::memory_order_relaxed) && order.what->is_wanted();
    };
    goes_on();
    TROUPE_FAULT_POINT_OF(serve_fault_points, "front.ingesting");
    return reading_ended{self_, read(*order.what, goes_on)};
  });
}

ingested reader_actor::read(const ingest_order& order, const gpu::models::keeps_on& goes_on) const {
  auto out = answer_to(order);
  out.request.sampling = order.question.sampling;
  out.request.max_tokens = order.question.max_tokens;
  out.request.timeout_ms = order.question.timeout_ms;
  out.request.priority = order.question.priority;
  out.request.trace = order.question.trace;
  try {
    const auto read_all = read_pictures(order, goes_on, out).and_then([&] { return build_prompt(order, out); });
    if (!read_all)
      out.problem = read_all.error();
  } catch (const std::bad_alloc&) { // the largest thing that the front makes room for is what a client sends
    out.pictures.clear();
    out.problem = failure{fault::no_memory, "the front has no memory for these pictures"};
  }
  out.ended = rank_.now();
  return out;
}

result<void> reader_actor::read_pictures(const ingest_order& order, const gpu::models::keeps_on& goes_on,
                                         ingested& out) const {
  const auto& facts = rank_.facts;
  if (!order.files.empty() && !facts.has_vision)
    return fail(fault::invalid_request, "the model " + facts.architecture + " takes no pictures");
  for (std::size_t i = 0; i < order.files.size(); ++i) {
    auto picture = read_picture(order.files[i], order.question.picture_names[i], goes_on);
    if (!picture)
      return tl::unexpected<failure>{picture.error()};
    const auto rows = picture->height / facts.patch_pixels;
    const auto columns = picture->width / facts.patch_pixels;
    out.request.pictures.push_back({.height = picture->height,
                                    .width = picture->width,
                                    .tokens = rows * columns / (facts.merge * facts.merge),
                                    .first_token = 0,
                                    .grid = {1, rows, columns},
                                    .content_hash = XXH3_64bits(picture->rgb.data(), picture->rgb.size())});
    out.pictures.push_back(*std::move(picture));
  }
  return {};
}

result<gpu::models::rgb_picture> reader_actor::read_picture(std::span<const std::byte> file, const std::string& name,
                                                            const gpu::models::keeps_on& goes_on) const {
  auto read = gpu::models::read_picture(file, name, rank_.spec.limits.picture_side_max, goes_on);
  if (!read)
    return read;
  const auto shape = gpu::models::resized_shape(rank_.facts, read->height, read->width);
  if (!shape)
    return fail(shape.error().code, name + ": " + shape.error().what);
  return gpu::models::resize(*std::move(read), shape->first, shape->second, goes_on);
}

/// A text to go on with: words that look like a special token are the user's own, and stay text.
result<void> reader_actor::encode_prompt(const ingest_order& order, ingested& out) const {
  out.request.prompt = words_->encode(order.question.prompt, false);
  for (const auto id : out.request.prompt)
    if (id < 0 || static_cast<std::uint32_t>(id) >= rank_.facts.vocabulary)
      return fail(fault::invalid_request, "the prompt has token " + std::to_string(id) + "; the model has 0 to " +
                                              std::to_string(rank_.facts.vocabulary - 1));
  return {};
}

result<void> reader_actor::build_prompt(const ingest_order& order, ingested& out) const {
  if (order.as_it_is)
    return encode_prompt(order, out);
  std::vector<std::uint32_t> image_tokens;
  for (const auto& each : out.request.pictures)
    image_tokens.push_back(each.tokens);
  const auto& asked = order.question;
  const auto said = asked.said.empty() ? one_turn(asked.prompt, order.files.size()) : asked.said;
  const auto prompt =
      prompts_.and_then([&](const auto& builder) { return builder->build(said, image_tokens, today()); });
  if (!prompt)
    return tl::unexpected<failure>{prompt.error()};
  out.request.prompt = prompt->ids;
  for (std::size_t i = 0; i < out.request.pictures.size(); ++i)
    out.request.pictures[i].first_token = prompt->first_token[i];
  return {};
}

} // namespace troupe::actors
