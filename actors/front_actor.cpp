#include "actors/front_actor.hpp"

#include <algorithm>
#include <cstring>

#include "actors/periods.hpp"
#include "protocols/codec.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/fault_point.hpp"

namespace troupe::actors {

using namespace protocols;

namespace {

front_machine::options options_of(const rank_context& rank) {
  const auto& spec = rank.spec;
  const auto encode_cells = static_cast<std::uint32_t>(rank.plan.cells_of(role_kind::encode).size());
  return {.in_flight_max = spec.limits.in_flight_max,
          .context_max = rank.facts.context_max,
          .kv_tokens_max = spec.limits.kv_tokens_max / limits::kv_block_tokens * limits::kv_block_tokens,
          .row_slots = spec.limits.row_slots,
          .pixel_slots = spec.limits.pixel_slots,
          .staging_slots = spec.limits.pixel_slots * encode_cells,
          .picture_tokens_max = rank.facts.picture_tokens_max(),
          .end_tokens = rank.facts.end_tokens,
          .request_deadline = std::chrono::milliseconds{spec.timeouts.request_ms},
          .ack_deadline = std::chrono::milliseconds{spec.timeouts.kill_ms},
          // The rest of drain_ms is for the other ranks, which leave after the front.
          .drain_deadline = std::chrono::milliseconds{spec.timeouts.drain_ms / 4 * 3}};
}

failure failure_of(const cargo_delivered& end) {
  return end.outcome ? failure{} : failure{end.outcome.error().code, "pixels: " + end.outcome.error().what};
}

} // namespace

front_actor::front_actor(caf::actor_config& config, const rank_context& rank, parts made_of)
    : rank_actor(config, rank, "front", actor_kind::front), parts_(std::move(made_of)),
      ingest_(spawn<ingest_actor, caf::linked + caf::detached>(rank, parts_.words)),
      machine_(rank.plan, options_of(rank)) {}

caf::behavior front_actor::make_behavior() {
  delayed_send(this, tick_period, tick_atom::value);
  return {
      [this](from_client<ask>& letter) { on_ask(letter.client, std::move(letter.body)); },
      [this](const from_client<picture_chunk>& letter) { on_chunk(letter.client, letter.body); },
      [this](const from_client<cancel>& letter) {
        for (const auto& [request, one] : serving_)
          if (one.client == letter.client && one.tag == letter.body.request.value) {
            perform(machine_.on_cancel(request, base::now()));
            return;
          }
      },
      [this](const client_gone& news) { on_client_gone(news.client); },
      [this](ingested& what) { on_ingested(what); },
      [this](const envelope<grant_pixels>& grant) {
        perform(machine_.on_pixel_credits(grant.source, grant.body, base::now()));
      },
      [this](const envelope<tokens>& batch) { perform(machine_.on_tokens(batch.source, batch.body, base::now())); },
      [this](const envelope<ack>& word) { machine_.on_ack(word.source, word.body); },
      [this](const envelope<error>& problem) { perform(machine_.on_error(problem.source, problem.body, base::now())); },
      [this](const envelope<timing>& news) {
        const auto request = machine_.request_of(news.body.request);
        if (const auto found = request ? serving_.find(*request) : serving_.end(); found != serving_.end())
          found->second.phases.push_back({news.body.part, news.body.began_ns, news.body.ended_ns});
      },
      [this](const cargo_delivered& end) { on_pixels_written(end); },
      [this](const lost& news) { perform(machine_.on_lost(news, base::now())); },
      [this](const regained& news) { perform(machine_.on_regained(news, base::now())); },
      [this](drain_atom) {
        draining_ = true;
        perform(machine_.on_drain(base::now()));
      },
      [this](tick_atom) {
        TROUPE_FAULT_POINT("front.idle");
        perform(machine_.on_tick(base::now()));
        delayed_send(this, tick_period, tick_atom::value);
      },
  };
}

// ---- questions ----------------------------------------------------------------------------------------------------

void front_actor::on_ask(fabric::wire::key client, ask question) {
  TROUPE_FAULT_POINT("front.preflight");
  const auto tag = question.tag;
  const auto announced = question.picture_bytes.size();
  const auto largest = rank_.spec.limits.picture_bytes_max;
  if (draining_)
    return refuse(client, tag, {fault::shutting_down, {}});
  if (announced != question.picture_names.size() || announced > limits::pictures_per_request_max)
    return refuse(client, tag,
                  {fault::invalid_request, std::to_string(announced) + " pictures; at most " +
                                               std::to_string(limits::pictures_per_request_max)});
  for (std::size_t i = 0; i < announced; ++i)
    if (question.picture_bytes[i] == 0 || question.picture_bytes[i] > largest)
      return refuse(client, tag,
                    {fault::bad_picture, question.picture_names[i] + ": " + std::to_string(question.picture_bytes[i]) +
                                             " bytes; 1 to " + std::to_string(largest) +
                                             " (limits.picture_bytes_max)"});
  if (arriving_.size() + ingesting_ >= 2 * std::size_t{rank_.spec.limits.in_flight_max})
    return refuse(client, tag, {fault::queue_full, "questions are still arriving"});
  const auto [which, fresh] = arriving_.try_emplace({client, tag});
  if (!fresh)
    return refuse(client, tag, {fault::invalid_request, "tag " + std::to_string(tag) + " is in use"});
  which->second.files.resize(announced);
  which->second.question = std::move(question);
  which->second.asked = base::now();
  ingest_if_whole(which);
}

void front_actor::on_chunk(fabric::wire::key client, const picture_chunk& chunk) {
  const auto which = arriving_.find({client, chunk.tag});
  if (which == arriving_.end())
    return; // refused before; the rest of its bytes may still come
  auto& one = which->second;
  if (chunk.picture >= one.files.size() ||
      one.files[chunk.picture].size() + chunk.bytes.size() > one.question.picture_bytes[chunk.picture]) {
    arriving_.erase(which);
    return refuse(client, chunk.tag, {fault::invalid_request, "more picture bytes than announced"});
  }
  auto& file = one.files[chunk.picture];
  file.insert(file.end(), chunk.bytes.begin(), chunk.bytes.end());
  ingest_if_whole(which);
}

void front_actor::ingest_if_whole(std::map<std::pair<fabric::wire::key, std::uint64_t>, arriving>::iterator which) {
  auto& one = which->second;
  for (std::size_t i = 0; i < one.files.size(); ++i)
    if (one.files[i].size() < one.question.picture_bytes[i])
      return;
  ++ingesting_;
  send(ingest_, ingest_order{which->first.first, std::move(one.question), std::move(one.files), one.asked});
  arriving_.erase(which);
}

void front_actor::on_ingested(ingested& what) {
  --ingesting_;
  const auto tag = what.question.tag;
  if (what.problem)
    return refuse(what.client, tag, *what.problem);
  const auto id = next_request_;
  next_request_ = next_request_.next();
  what.request.id = id;
  what.request.asked = what.asked;
  const auto prompt_tokens = static_cast<std::uint32_t>(what.request.prompt.size());
  serving_.emplace(id, serving{.client = what.client,
                               .tag = tag,
                               .asked = what.asked,
                               .first_token = {},
                               .pictures = std::move(what.pictures),
                               .text = gpu::models::incremental_decoder{parts_.words},
                               .phases = {{phase::ingest, what.asked.time_since_epoch().count(),
                                           what.ended.time_since_epoch().count()}}});
  auto taken = machine_.on_request(std::move(what.request), base::now());
  if (!taken) {
    serving_.erase(id);
    return refuse(what.client, tag, taken.error());
  }
  tell(what.client, accepted{tag, id, prompt_tokens});
  perform(*std::move(taken));
  TROUPE_FAULT_POINT("front.submitted");
}

void front_actor::on_client_gone(fabric::wire::key client) {
  std::erase_if(arriving_, [&](const auto& each) { return each.first.first == client; });
  std::vector<request_id> orphans;
  for (const auto& [request, one] : serving_)
    if (one.client == client)
      orphans.push_back(request);
  for (const auto request : orphans)
    perform(machine_.on_cancel(request, base::now()));
}

// ---- effects ------------------------------------------------------------------------------------------------------

void front_actor::perform(front_machine::effects what) {
  std::vector<cargo_delivered> refused;
  for (auto& effect : what) {
    if (auto* const message = std::get_if<send_message>(&effect))
      deliver(rank_, role_kind::front, std::move(*message));
    else if (const auto* const pixels = std::get_if<front_machine::write_pixels>(&effect))
      write_pixels(*pixels, refused);
    else if (const auto* const token = std::get_if<front_machine::emit_token>(&effect))
      emit(*token);
    else if (const auto* const end = std::get_if<front_machine::end_request>(&effect))
      finish(*end);
    else
      parts_.on_drained();
  }
  for (const auto& each : refused) // now that their orders are on the way
    perform(machine_.on_pixels_written(each.room, front_machine::write_end::refused, failure_of(each), base::now()));
}

void front_actor::write_pixels(const front_machine::write_pixels& write, std::vector<cargo_delivered>& refused) {
  const auto& picture = serving_.at(write.request).pictures[write.picture];
  const auto& source = rank_.regions.at("staging");
  const auto offset = write.staging.value * source.card.slot_bytes;
  const auto bytes = picture.rgb.size();
  std::memcpy(source.bytes.data() + offset, picture.rgb.data(), bytes);

  const auto& cell = rank_.plan.cell(write.encode_cell);
  const auto until = base::now() + std::chrono::milliseconds{rank_.spec.timeouts.transfer_ms};
  for (std::uint32_t place = 0; place < cell.ranks.size(); ++place) {
    const auto target = rank_.peer_regions.at(cell.ranks[place], "pixels");
    const auto posted = rank_.transfers->post({.to = cell.ranks[place],
                                               .source_region = source.id,
                                               .target_region = target.region,
                                               .pieces = {{.source_offset = offset,
                                                           .target_offset = write.slot.slot.value * target.slot_bytes,
                                                           .bytes = bytes}},
                                               .completion_data = completion_data(cargo::pixels, write.room),
                                               .lease = {write.owner, until},
                                               .deadline = until,
                                               .cookie = cookie_of(cargo::pixels, write.room, place)},
                                              fabric::ready_event::already());
    if (!posted)
      refused.push_back(cargo_delivered{cargo::pixels, write.room, place, posted});
  }
  TROUPE_FAULT_POINT("front.pixels_posted");
}

void front_actor::on_pixels_written(const cargo_delivered& end) {
  const auto how = end.outcome ? front_machine::write_end::delivered : front_machine::write_end::failed;
  perform(machine_.on_pixels_written(end.room, how, failure_of(end), base::now()));
}

void front_actor::emit(const front_machine::emit_token& token) {
  auto& one = serving_.at(token.request);
  if (token.index == 0) {
    one.first_token = base::now();
    one.pictures.clear();
  }
  tell(one.client, answer{one.tag, token.index, token.id, one.text.push(token.id)});
  TROUPE_FAULT_POINT("front.emitted");
}

void front_actor::finish(const front_machine::end_request& end) {
  const auto found = serving_.find(end.request);
  if (found == serving_.end())
    return;
  auto& one = found->second;
  const auto now = base::now();
  if (one.first_token != time_point{})
    one.phases.push_back({phase::decode, one.first_token.time_since_epoch().count(), now.time_since_epoch().count()});
  tell(one.client,
       finished{.tag = one.tag,
                .reason = end.reason,
                .message = end.cause ? to_string(*end.cause) : std::string{},
                .time_to_first_token_ns = one.first_token == time_point{} ? 0 : (one.first_token - one.asked).count(),
                .total_ns = (now - one.asked).count(),
                .phases = std::move(one.phases),
                .text = one.text.finish()});
  serving_.erase(found);
}

/// A client that does not read for a whole queue is let go; what it asked for is cancelled then.
template <class Message>
void front_actor::tell(fabric::wire::key client, const Message& what) {
  std::vector<std::byte> payload;
  encode_payload(what, payload);
  const auto posted = rank_.wire->post(client, Message::type, call_id{}, std::move(payload));
  if (!posted && posted.error().code == fault::queue_full) {
    rank_.wire->remove(client);
    caf::anon_send(this, client_gone{client});
  }
}

void front_actor::refuse(fabric::wire::key client, std::uint64_t tag, const failure& why) {
  tell(client, refused{tag, static_cast<std::uint16_t>(why.code), why.what});
}

} // namespace troupe::actors
