#include "actors/serve/ingest_actor.hpp"

#include "actors/periods.hpp"
#include "actors/serve/reader_actor.hpp"
#include "protocols/serve/flight_names.hpp"
#include "protocols/serve/machine_options.hpp"
#include "protocols/serve/roles.hpp"

namespace troupe::actors {

using namespace protocols;

namespace {

std::uint64_t pixels_of(const ingest_order& order) {
  std::uint64_t pixels = 0;
  for (const auto& file : order.files)
    pixels += gpu::models::pixels_promised(file);
  return pixels;
}

} // namespace

ingested answer_to(const ingest_order& order) {
  ingested answer;
  answer.question = order.question;
  answer.asked = order.asked;
  answer.request.id = order.request;
  return answer;
}

ingest_actor::ingest_actor(caf::actor_config& config, const rank_context& rank,
                           std::shared_ptr<const gpu::models::tokenizer> words)
    : rank_actor(config, rank, "ingest", serve_actor::ingest), machine_(ingest_options(rank.spec)),
      stops_(limits::readers) {
  const auto prompts = gpu::models::prompt_builder::open(words, rank.model, rank.facts);
  for (std::uint32_t i = 0; i < limits::readers; ++i)
    readers_.push_back(spawn<reader_actor, caf::linked + caf::detached>(rank, i, prompts, words));
}

rank_actor::handlers ingest_actor::make_handlers() {
  delayed_send(this, tick_period, tick_atom::value);
  return on([this](ingest_order& order) { on_order(std::move(order)); }, [this](reading_ended& end) { on_read(end); },
            [this](tick_atom) {
              on_tick();
              delayed_send(this, tick_period, tick_atom::value);
            });
}

void ingest_actor::on_order(ingest_order order) {
  const std::chrono::milliseconds whole{rank_.spec.timeouts.request_ms};
  ingest_machine::effects out;
  const auto which =
      machine_.on_question({.pixels = pixels_of(order), .deadline = order.asked + whole}, rank_.now(), out);
  unanswered_.emplace(which, std::make_shared<const ingest_order>(std::move(order)));
  perform(out);
}

void ingest_actor::on_tick() {
  std::vector<ticket> unwanted;
  for (const auto& [which, order] : unanswered_)
    if (!order->is_wanted())
      unwanted.push_back(which);
  for (const auto which : unwanted)
    perform(machine_.on_cancel(which, rank_.now()));
  perform(machine_.on_tick(rank_.now()));
}

void ingest_actor::on_read(reading_ended& end) {
  ingest_machine::effects out;
  if (const auto which = machine_.on_read(end.reader, rank_.now(), out)) {
    unanswered_.erase(*which);
    answer(std::move(end.outcome));
  }
  perform(out);
}

void ingest_actor::perform(const ingest_machine::effects& what) {
  for (const auto& effect : what) {
    if (const auto* const begun = std::get_if<ingest_machine::begin_reading>(&effect))
      begin(*begun);
    else if (const auto* const stopped = std::get_if<ingest_machine::stop_reading>(&effect))
      stops_[stopped->reader]->store(true, std::memory_order_relaxed);
    else
      give_up(std::get<ingest_machine::give_up>(effect));
  }
}

void ingest_actor::begin(const ingest_machine::begin_reading& what) {
  auto& stop = stops_[what.reader];
  stop = std::make_shared<std::atomic<bool>>(false);
  send(readers_[what.reader], reading_order{unanswered_.at(what.which), stop});
}

void ingest_actor::give_up(const ingest_machine::give_up& what) {
  const auto order = std::move(unanswered_.extract(what.which).mapped());
  auto out = answer_to(*order);
  out.ended = rank_.now();
  out.problem = what.cause;
  answer(std::move(out));
}

void ingest_actor::answer(ingested what) {
  caf::anon_send(*rank_.roles->find(serve_role::front), std::move(what));
}

} // namespace troupe::actors
