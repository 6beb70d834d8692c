#include "actors/serve/front_actor.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "actors/periods.hpp"
#include "actors/serve/serve_routing.hpp"
#include "protocols/serve/fault_points.hpp"
#include "protocols/serve/flight_names.hpp"
#include "protocols/serve/machine_options.hpp"
#include "protocols/serve/roles.hpp"
#include "protocols/serve/serve_metrics.hpp"
#include "protocols/serve/serve_program.hpp"
#include "protocols/wire/codec.hpp"
#include "runtime/base/fault_point.hpp"

namespace troupe::actors {

using namespace protocols;

namespace {

std::uint64_t ns_between(time_point began, time_point ended) noexcept {
  return static_cast<std::uint64_t>(std::max<std::int64_t>((ended - began).count(), 0));
}

metric_number metric_of(finish_reason how) noexcept {
  switch (how) {
  case finish_reason::stop:
    return serve_metric::ended_by_stop;
  case finish_reason::length:
    return serve_metric::ended_by_length;
  case finish_reason::cancelled:
    return serve_metric::ended_by_client;
  case finish_reason::none:
  case finish_reason::failed:
    break;
  }
  return serve_metric::ended_by_fault;
}

failure failure_in(const write_completed& end) {
  return end.outcome ? failure{} : failure{end.outcome.error().code, "pixels: " + end.outcome.error().what};
}

} // namespace

front_actor::front_actor(caf::actor_config& config, const rank_context& rank, parts made_of)
    : role_actor(config, rank, "front", serve_actor::front), parts_(std::move(made_of)),
      machine_(rank.plan, front_options(rank.plan, rank.spec, rank.facts.bounds())),
      sessions_(session_options(rank.spec)) {
  link_to(parts_.ingest);
}

rank_actor::handlers front_actor::make_handlers() {
  delayed_send(this, tick_period, tick_atom::value);
  return on(
      [this](from_client<ask>& letter) {
        on_ask(letter.client, std::move(letter.body));
        handled(letter.client);
      },
      [this](const from_client<picture_chunk>& letter) {
        const auto& [tag, picture, bytes] = letter.body;
        perform(sessions_.on_piece(client_id{letter.client}, tag, picture, bytes.size()), bytes);
        handled(letter.client);
      },
      [this](const from_client<withdraw>& letter) {
        perform(sessions_.on_withdraw(client_id{letter.client}, letter.body.tag));
        handled(letter.client);
      },
      [this](const door_question& letter) { on_door_question(letter); },
      [this](const client_gone& news) { perform(sessions_.on_client_gone(client_id{news.client})); },
      [this](ingested& what) { on_ingested(what); },
      [this](const envelope<grant_pixels>& grant) {
        perform(machine_.on_pixel_credits(grant.source, grant.body, rank_.now()));
      },
      [this](const envelope<tokens>& batch) { perform(machine_.on_tokens(batch.source, batch.body, rank_.now())); },
      [this](const envelope<ack>& word) { machine_.on_ack(word.source, word.body); },
      [this](const envelope<error>& problem) { perform(machine_.on_error(problem.source, problem.body, rank_.now())); },
      [this](const envelope<timing>& news) { on_timing(news.body); },
      [this](const write_completed& end) { on_pixels_written(end); },
      [this](const lost& news) { perform(machine_.on_lost(news, rank_.now())); },
      [this](const recovered& news) { perform(machine_.on_recovered(news, rank_.now())); },
      [this](drain_atom) {
        perform(sessions_.on_drain());
        perform(machine_.on_drain(rank_.now()));
      },
      [this](tick_atom) {
        TROUPE_FAULT_POINT_OF(serve_fault_points, "front.idle");
        perform(sessions_.on_tick(rank_.now()));
        perform(machine_.on_tick(rank_.now()));
        delayed_send(this, tick_period, tick_atom::value);
      });
}

// ---- questions ----------------------------------------------------------------------------------------------------

void front_actor::on_ask(fabric::link_queues::key client, ask question, bool as_it_is) {
  TROUPE_FAULT_POINT_OF(serve_fault_points, "front.preflight");
  const auto now = rank_.now();
  const auto taken = sessions_.on_ask(client_id{client}, question, now);
  if (!taken)
    return refuse(client, question.tag, taken.error());
  const auto pictures = question.picture_bytes.size();
  if (question.draws_seed)
    question.sampling.seed = seeds_();
  questions_.emplace(*taken, held_question{.client = client,
                                           .tag = question.tag,
                                           .asked = std::move(question),
                                           .as_it_is = as_it_is,
                                           .since = now,
                                           .files = std::vector<std::vector<std::byte>>(pictures),
                                           .unwanted = {},
                                           .request = {},
                                           .pictures = {},
                                           .started = {},
                                           .first_token = {},
                                           .last_token = {},
                                           .text = gpu::models::incremental_decoder{parts_.words},
                                           .phases = {},
                                           .prompt_tokens = 0,
                                           .answer_tokens = 0});
  perform(session_machine::effects{});
}

/// What a client of the wire sends in frames is here already.
void front_actor::on_door_question(const door_question& letter) {
  const auto tag = letter.asked.tag;
  on_ask(letter.client, letter.asked, letter.as_it_is);
  for (std::uint32_t i = 0; i < letter.files->size(); ++i) {
    const auto& file = (*letter.files)[i];
    perform(sessions_.on_piece(client_id{letter.client}, tag, i, file.size()), file);
  }
}

/// The wire reads on from a client of its own.
void front_actor::handled(fabric::link_queues::key client) {
  if (!is_door_client(client))
    rank_.wire->handled(client);
}

/// After any event of the sessions somebody's turn to be ingested may have come.
void front_actor::perform(session_machine::effects what, std::span<const std::byte> piece) {
  const auto next = sessions_.next_ingests();
  what.insert(what.end(), next.begin(), next.end());
  for (const auto& effect : what) {
    if (const auto* const kept = std::get_if<session_machine::keep_piece>(&effect)) {
      auto& one = questions_.at(kept->request);
      auto& file = one.files[kept->picture];
      file.reserve(one.asked.picture_bytes[kept->picture]);
      file.insert(file.end(), piece.begin(), piece.end());
    } else if (const auto* const begun = std::get_if<session_machine::begin_ingest>(&effect))
      begin_ingest(begun->request);
    else if (const auto* const stopped = std::get_if<session_machine::stop_ingest>(&effect))
      questions_.at(stopped->request).unwanted->store(true);
    else if (const auto* const ready = std::get_if<session_machine::admit>(&effect))
      admit(ready->request);
    else if (const auto* const given_up = std::get_if<session_machine::cancel_request>(&effect))
      perform(machine_.on_cancel(given_up->request, rank_.now()));
    else if (const auto* const ended = std::get_if<session_machine::forget>(&effect))
      questions_.erase(ended->request);
    else if (const auto* const no = std::get_if<session_machine::tell_refused>(&effect))
      refuse(no->client.value, no->tag, no->why);
    else if (const auto* const end = std::get_if<session_machine::tell_cancelled>(&effect)) {
      rank_.counted->add(serve_metric::ended_by_client);
      tell(end->client.value, finished{.tag = end->tag,
                                       .reason = finish_reason::cancelled,
                                       .message = to_string({fault::cancelled, {}}),
                                       .time_to_first_token_ns = 0,
                                       .total_ns = 0,
                                       .phases = {},
                                       .text = {}});
    }
  }
  count_load();
}

void front_actor::begin_ingest(request_id request) {
  auto& one = questions_.at(request);
  one.unwanted = std::make_shared<std::atomic<bool>>(false);
  send(parts_.ingest, ingest_order{request, std::move(one.asked), std::exchange(one.files, {}), one.since, one.unwanted,
                                   one.as_it_is});
}

void front_actor::on_ingested(ingested& what) {
  const auto id = what.request.id;
  std::uint64_t bytes = 0;
  for (const auto& picture : what.pictures)
    bytes += picture.rgb.size();
  if (const auto found = questions_.find(id); found != questions_.end()) {
    auto& one = found->second;
    one.request = std::move(what.request);
    one.pictures = std::move(what.pictures);
    one.phases.push_back({phase::ingest, what.asked.time_since_epoch().count(), what.ended.time_since_epoch().count()});
  }
  perform(sessions_.on_ingested(id, what.problem, bytes));
}

void front_actor::admit(request_id request) {
  auto& one = questions_.at(request);
  const auto client = one.client;
  const auto tag = one.tag;
  one.prompt_tokens = static_cast<std::uint32_t>(one.request.prompt.size());
  one.request.asked = one.since;
  const auto& wanted = one.request;
  const accepted word{.tag = tag,
                      .request = request,
                      .prompt_tokens = one.prompt_tokens,
                      .seed = wanted.sampling.seed,
                      .max_tokens =
                          wanted.max_tokens != 0 ? wanted.max_tokens : machine_.answer_room(wanted.prompt.size())};
  auto taken = machine_.on_request(std::move(one.request), rank_.now());
  if (!taken) {
    refuse(client, tag, taken.error());
    return perform(sessions_.on_ended(request));
  }
  tell(client, word);
  perform(*std::move(taken));
  TROUPE_FAULT_POINT_OF(serve_fault_points, "front.submitted");
}

void front_actor::on_timing(const timing& news) {
  const auto request = machine_.request_of(news.request);
  if (const auto found = request ? questions_.find(*request) : questions_.end(); found != questions_.end())
    found->second.phases.push_back({news.part, news.began_ns, news.ended_ns});
}

// ---- effects ------------------------------------------------------------------------------------------------------

void front_actor::perform(front_machine::effects what) {
  std::vector<write_completed> refused;
  for (auto& effect : what) {
    if (auto* const message = std::get_if<send_message>(&effect)) {
      note_started(*message);
      deliver(rank_, serve_role::front, std::move(*message), epoch());
    } else if (const auto* const pixels = std::get_if<front_machine::write_pixels>(&effect))
      write_pixels(*pixels, refused);
    else if (const auto* const token = std::get_if<front_machine::emit_token>(&effect))
      emit(*token);
    else if (const auto* const end = std::get_if<front_machine::end_request>(&effect))
      finish(*end);
    else
      parts_.on_drained();
  }
  for (const auto& each : refused) // now that their orders are on the way
    perform(machine_.on_pixels_written(each.room, front_machine::write_end::refused, failure_in(each), rank_.now()));
  count_load();
}

void front_actor::write_pixels(const front_machine::write_pixels& write, std::vector<write_completed>& refused) {
  const auto& picture = questions_.at(write.request).pictures[write.picture];
  const auto& source = rank_.regions.at("staging");
  const auto offset = write.staging.value * source.card.slot_bytes;
  const auto bytes = picture.rgb.size();
  std::memcpy(source.bytes.data() + offset, picture.rgb.data(), bytes);

  const auto& cell = rank_.plan.cell(write.encode_cell);
  const auto until = rank_.now() + std::chrono::milliseconds{rank_.spec.timeouts.transfer_ms};
  for (std::uint32_t place = 0; place < cell.ranks.size(); ++place) {
    const auto target = rank_.peer_regions.at(cell.ranks[place], "pixels");
    const auto posted = rank_.transfers->post({.to = cell.ranks[place],
                                               .source_region = source.id,
                                               .target_region = target.region,
                                               .pieces = {{.source_offset = offset,
                                                           .target_offset = write.slot.slot.value * target.slot_bytes,
                                                           .bytes = bytes}},
                                               .completion_data = completion_data(serve_transfer::pixels, write.room),
                                               .lease = {write.owner, until},
                                               .deadline = until,
                                               .cookie = cookie_of(serve_transfer::pixels, write.room, place)},
                                              fabric::ready_event::already());
    if (!posted)
      refused.push_back(write_completed{serve_transfer::pixels, write.room, place, posted});
  }
  TROUPE_FAULT_POINT_OF(serve_fault_points, "front.pixels_posted");
}

void front_actor::on_pixels_written(const write_completed& end) {
  const auto how = end.outcome ? front_machine::write_end::delivered : front_machine::write_end::failed;
  perform(machine_.on_pixels_written(end.room, how, failure_in(end), rank_.now()));
}

void front_actor::emit(const front_machine::emit_token& token) {
  auto& one = questions_.at(token.request);
  count_token(one, token.index);
  if (token.index == 0) {
    one.pictures.clear();
    sessions_.on_pictures_used(token.request);
    perform(session_machine::effects{});
  }
  // A token that ends the answer is none of its text, whatever its bytes are.
  const bool ends = token.finish == finish_reason::stop;
  answer said{.tag = one.tag,
              .index = token.index,
              .id = token.id,
              .text = ends ? std::string{} : one.text.push(token.id),
              .logprobs = {}};
  for (const auto& each : token.logprobs)
    said.logprobs.push_back({each.id, each.value, std::string{parts_.words->bytes_of(each.id)}});
  tell(one.client, said);
  TROUPE_FAULT_POINT_OF(serve_fault_points, "front.emitted");
}

void front_actor::finish(const front_machine::end_request& end) {
  const auto found = questions_.find(end.request);
  if (found == questions_.end())
    return;
  auto& one = found->second;
  const auto now = rank_.now();
  count_end(one, end.reason);
  if (one.first_token != time_point{})
    one.phases.push_back({phase::decode, one.first_token.time_since_epoch().count(), now.time_since_epoch().count()});
  tell(one.client,
       finished{.tag = one.tag,
                .reason = end.reason,
                .message = end.cause ? to_string(*end.cause) : std::string{},
                .time_to_first_token_ns = one.first_token == time_point{} ? 0 : (one.first_token - one.since).count(),
                .total_ns = (now - one.since).count(),
                .phases = std::move(one.phases),
                .text = one.text.finish(),
                .prompt_tokens = one.prompt_tokens,
                .answer_tokens = one.answer_tokens});
  perform(sessions_.on_ended(end.request));
}

// ---- what is counted ----------------------------------------------------------------------------------------------

void front_actor::note_started(const send_message& order) {
  const auto* const work = std::get_if<submit>(&order.body);
  const auto request = work != nullptr ? machine_.request_of(work->request) : std::nullopt;
  if (const auto found = request ? questions_.find(*request) : questions_.end(); found != questions_.end())
    if (auto& one = found->second; one.started == time_point{}) {
      one.started = rank_.now();
      rank_.counted->observe(serve_metric::queue_time, ns_between(one.since, one.started));
    }
}

void front_actor::count_token(held_question& of, std::uint32_t index) {
  const auto now = rank_.now();
  auto& counted = *rank_.counted;
  counted.add(serve_metric::generation_tokens);
  ++of.answer_tokens;
  if (index > 0) {
    counted.observe(serve_metric::inter_token, ns_between(of.last_token, now));
  } else {
    of.first_token = now;
    counted.add(serve_metric::prompt_tokens, of.prompt_tokens);
    counted.observe(serve_metric::time_to_first_token, ns_between(of.since, now));
    counted.observe(serve_metric::prefill_time, ns_between(of.started, now));
  }
  of.last_token = now;
}

/// Times and lengths are those of whole answers.
void front_actor::count_end(const held_question& of, finish_reason how) {
  auto& counted = *rank_.counted;
  counted.add(metric_of(how));
  if (how != finish_reason::stop && how != finish_reason::length)
    return;
  const auto now = rank_.now();
  counted.observe(serve_metric::request_time, ns_between(of.since, now));
  counted.observe(serve_metric::decode_time, ns_between(of.first_token, of.last_token));
  counted.observe(serve_metric::inference_time, ns_between(of.started, now));
  counted.observe(serve_metric::prompt_length, of.prompt_tokens);
  counted.observe(serve_metric::generation_length, of.answer_tokens);
}

void front_actor::count_load() {
  const auto running = machine_.in_flight();
  rank_.counted->set(serve_metric::requests_running, running);
  rank_.counted->set(serve_metric::requests_waiting, questions_.size() - std::min(questions_.size(), running));
}

/// A client that does not read for a whole queue is let go; what it asked for is cancelled then.
template <class Message>
void front_actor::tell(fabric::link_queues::key client, const Message& what) {
  if (is_door_client(client))
    return parts_.tell_door(client, what);
  std::vector<std::byte> payload;
  encode_payload(what, payload);
  const auto posted = rank_.wire->post(client, {.type = Message::type}, std::move(payload));
  if (posted)
    return;
  if (posted.error().code == fault::queue_full)
    rank_.wire->remove(client);
  caf::anon_send(this, client_gone{client});
}

void front_actor::refuse(fabric::link_queues::key client, std::uint64_t tag, const failure& why) {
  rank_.counted->add(serve_metric::requests_refused);
  tell(client, refused{tag, static_cast<std::uint16_t>(why.code), why.what});
}

} // namespace troupe::actors
