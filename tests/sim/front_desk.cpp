#include "tests/sim/front_desk.hpp"

#include "actors/periods.hpp"
#include "protocols/serve/machine_options.hpp"
#include "protocols/serve/roles.hpp"
#include "tests/sim/clients.hpp"
#include "tests/sim/reach.hpp"
#include "tests/sim/serve_node.hpp"
#include "tests/sim/transfers.hpp"
#include "tests/sim/world.hpp"

namespace troupe::sim {

using namespace protocols;

front_desk::front_desk(process& rank)
    : rank_(rank),
      machine_(rank.all.plan(), front_options(rank.all.plan(), rank.all.spec(), rank.all.cluster.facts.bounds())),
      sessions_(session_options(rank.all.spec())), ingest_(ingest_options(rank.all.spec())) {}

void front_desk::start() {
  rank_.wake(actors::tick_period, [this] { tick(); });
}

void front_desk::tick() {
  rank_.hand(thread::front, [this] {
    perform(sessions_.on_tick(rank_.now()));
    perform(machine_.on_tick(rank_.now()));
    rank_.all.service.on_look();
    audit();
  });
  rank_.hand(thread::ingest, [this] {
    std::vector<ingest_machine::ticket> unwanted;
    for (const auto& [ticket, request] : tickets_)
      if (const auto found = questions_.find(request); found == questions_.end() || found->second.unwanted)
        unwanted.push_back(ticket);
    for (const auto ticket : unwanted)
      perform(ingest_.on_cancel(ticket, rank_.now()));
    perform(ingest_.on_tick(rank_.now()));
  });
  rank_.wake(actors::tick_period, [this] { tick(); });
}

/// What the machines say of their own sums.
void front_desk::audit() {
  auto& past = rank_.all.past;
  if (const auto wrong = machine_.audit(); !wrong.empty())
    past.violate("sums of the front", wrong);
  if (const auto wrong = sessions_.audit(); !wrong.empty())
    past.violate("sums of the sessions", wrong);
}

// ---- questions ----------------------------------------------------------------------------------------------------

void front_desk::on_ask(client_id client, const ask& question) {
  const auto now = rank_.now();
  const auto taken = sessions_.on_ask(client, question, now);
  if (!taken)
    return rank_.all.users->refused(client, question.tag, taken.error());
  questions_[*taken] = {.client = client, .tag = question.tag, .number = std::stoul(question.prompt), .since = now};
  if (question.picture_bytes.empty())
    rank_.all.service.on_whole(client, *taken);
  perform(session_machine::effects{});
}

void front_desk::on_piece(client_id client, std::uint64_t tag, std::uint32_t picture, std::size_t bytes) {
  perform(sessions_.on_piece(client, tag, picture, bytes));
}

void front_desk::on_withdraw(client_id client, std::uint64_t tag) {
  perform(sessions_.on_withdraw(client, tag));
}

void front_desk::on_client_gone(client_id client) {
  perform(sessions_.on_client_gone(client));
}

/// After any event of the sessions somebody's turn to be ingested may have come.
void front_desk::perform(session_machine::effects what) {
  const auto next = sessions_.next_ingests();
  what.insert(what.end(), next.begin(), next.end());
  reach_count::mine().on_effects(what);
  for (const auto& effect : what) {
    if (const auto* const begun = std::get_if<session_machine::begin_ingest>(&effect))
      begin_ingest(begun->request);
    else if (const auto* const stopped = std::get_if<session_machine::stop_ingest>(&effect))
      questions_.at(stopped->request).unwanted = true;
    else if (const auto* const ready = std::get_if<session_machine::admit>(&effect))
      admit(ready->request);
    else if (const auto* const given_up = std::get_if<session_machine::cancel_request>(&effect))
      perform(machine_.on_cancel(given_up->request, rank_.now()));
    else if (const auto* const ended = std::get_if<session_machine::forget>(&effect))
      forget(ended->request);
    else if (const auto* const no = std::get_if<session_machine::tell_refused>(&effect))
      rank_.all.users->refused(no->client, no->tag, no->why);
    else if (const auto* const end = std::get_if<session_machine::tell_cancelled>(&effect))
      rank_.all.users->finished(end->client, end->tag, finish_reason::cancelled, std::nullopt);
  }
}

// ---- ingest -------------------------------------------------------------------------------------------------------

void front_desk::forget(request_id request) {
  rank_.all.service.on_unread(request);
  questions_.erase(request);
}

void front_desk::begin_ingest(request_id request) {
  rank_.all.service.on_ingest(questions_.at(request).client, request);
  rank_.hand(thread::ingest, [this, request, asked = questions_.at(request).since] {
    ingest_machine::effects out;
    const auto ticket = ingest_.on_question(
        {.pixels = 1, .deadline = asked + rank_.all.ms(rank_.all.spec().timeouts.request_ms)}, rank_.now(), out);
    tickets_[ticket] = request;
    perform(out);
  });
}

void front_desk::perform(const ingest_machine::effects& what) {
  reach_count::mine().on_effects(what);
  for (const auto& effect : what) {
    if (const auto* const begun = std::get_if<ingest_machine::begin_reading>(&effect)) {
      if (!reading_.try_emplace(begun->reader, begun->which).second)
        return rank_.all.past.violate("own reader", "a reader is given a question before it is done with the last");
      let_read(begun->reader, rank_.all.delay(rank_.all.sky.reading));
    } else if (const auto* const stopped = std::get_if<ingest_machine::stop_reading>(&effect)) {
      let_read(stopped->reader, rank_.all.delay(rank_.all.sky.compute)); // it looks now and then
    } else if (const auto* const given_up = std::get_if<ingest_machine::give_up>(&effect)) {
      const auto request = tickets_.extract(given_up->which).mapped();
      rank_.hand(thread::front, [this, request, cause = given_up->cause] { ingested(request, cause); });
    }
  }
}

/// So long, or less when it is told to stop.
void front_desk::let_read(std::uint32_t reader, duration time) {
  rank_.wake(time, [this, reader, which = reading_.at(reader)] {
    rank_.hand(thread::ingest, [this, reader, which] {
      const auto now_read = reading_.find(reader);
      if (now_read != reading_.end() && now_read->second == which)
        read(reader, which);
    });
  });
}

void front_desk::read(std::uint32_t reader, ingest_machine::ticket of) {
  ingest_machine::effects out;
  reading_.erase(reader);
  if (const auto which = ingest_.on_read(reader, rank_.now(), out)) {
    if (*which != of)
      return rank_.all.past.violate("own reader", "a reader is given a question before it is done with the last");
    const auto request = tickets_.extract(*which).mapped();
    std::optional<failure> problem;
    if (rank_.all.dice.chance(rank_.all.sky.no_memory))
      problem = {fault::no_memory, "a question that is read"};
    rank_.hand(thread::front, [this, request, problem] { ingested(request, problem); });
  }
  perform(out);
}

void front_desk::ingested(request_id request, const std::optional<failure>& problem) {
  std::uint64_t bytes = 0;
  if (const auto found = questions_.find(request); found != questions_.end())
    for (const auto& picture : rank_.all.users->question(found->second.number).pictures)
      bytes += picture.tokens() * rank_.memory->at(area::staging).unit_bytes;
  perform(sessions_.on_ingested(request, problem, bytes));
}

void front_desk::admit(request_id request) {
  const auto& one = questions_.at(request);
  const auto& question = rank_.all.users->question(one.number);
  const auto& facts = rank_.all.cluster.facts;
  const auto side = facts.patch_pixels * facts.merge;
  front_machine::request wanted;
  wanted.id = request;
  wanted.prompt = question.prompt;
  wanted.max_tokens = question.max_tokens;
  wanted.sampling = question.sampling;
  wanted.asked = one.since;
  for (std::size_t i = 0; i < question.pictures.size(); ++i) {
    const auto& picture = question.pictures[i];
    wanted.pictures.push_back({.height = picture.rows * side,
                               .width = picture.columns * side,
                               .tokens = picture.tokens(),
                               .first_token = question.first_tokens[i],
                               .grid = {1, picture.rows * facts.merge, picture.columns * facts.merge},
                               .content_hash = picture.content});
  }
  auto taken = machine_.on_request(std::move(wanted), rank_.now());
  if (!taken) {
    rank_.all.users->refused(one.client, one.tag, taken.error());
    return perform(sessions_.on_ended(request));
  }
  rank_.all.users->accepted(one.client, one.tag);
  rank_.all.service.on_admitted(request, question);
  perform(*std::move(taken));
}

// ---- requests -----------------------------------------------------------------------------------------------------

void front_desk::hear(rank_id from, serve_message body) {
  const auto now = rank_.now();
  if (const auto* const credits = std::get_if<grant_pixels>(&body))
    perform(machine_.on_pixel_credits(from, *credits, now));
  else if (const auto* const batch = std::get_if<tokens>(&body))
    perform(machine_.on_tokens(from, *batch, now));
  else if (const auto* const word = std::get_if<ack>(&body))
    machine_.on_ack(from, *word);
  else if (const auto* const problem = std::get_if<error>(&body))
    perform(machine_.on_error(from, *problem, now));
}

void front_desk::perform(front_machine::effects what) {
  reach_count::mine().on_effects(what);
  std::vector<std::pair<room_id, failure>> refused;
  for (auto& effect : what) {
    if (auto* const message = std::get_if<send_message>(&effect)) {
      if (const auto* const work = std::get_if<submit>(&message->body))
        if (const auto known = machine_.request_of(work->request))
          rank_.all.service.on_attempt(*known, *work, message->to);
      rank_.serves->deliver(serve_role::front, std::move(*message));
    } else if (const auto* const pixels = std::get_if<front_machine::write_pixels>(&effect))
      write_pixels(*pixels, refused);
    else if (const auto* const token = std::get_if<front_machine::emit_token>(&effect)) {
      const auto& one = questions_.at(token->request);
      if (token->index == 0) {
        rank_.all.service.on_first_token(token->request);
        sessions_.on_pictures_used(token->request);
        perform(session_machine::effects{});
      }
      rank_.all.users->token(one.client, one.tag, token->index, token->id);
    } else if (const auto* const end = std::get_if<front_machine::end_request>(&effect))
      finish(*end);
    else
      rank_.all.on_drained(rank_);
  }
  for (const auto& [room, cause] : refused)
    perform(machine_.on_pixels_written(room, front_machine::write_end::refused, cause, rank_.now()));
}

void front_desk::write_pixels(const front_machine::write_pixels& write,
                              std::vector<std::pair<room_id, failure>>& refused) {
  const auto& picture = rank_.all.users->question(questions_.at(write.request).number).pictures[write.picture];
  auto& staging = rank_.memory->at(area::staging);
  staging.holders.at(write.staging.value) = write.room;
  auto slot = staging.slot(write.staging);
  for (std::uint32_t patch = 0; patch < picture.tokens(); ++patch)
    slot[patch] = pixel_word(picture.content, patch);
  const auto until = rank_.now() + rank_.all.ms(rank_.all.spec().timeouts.transfer_ms);
  const auto& cell = rank_.all.plan().cell(write.encode_cell);
  rank_.all.service.on_pixels(cell, write.owner);
  for (std::uint32_t place = 0; place < cell.ranks.size(); ++place) {
    rank_.all.judge.on_pixels_lent(cell.ranks[place], write.owner, write.slot.slot, write.room);
    auto posted = post(rank_, {.kind = serve_transfer::pixels,
                               .room = write.room,
                               .part = place,
                               .to = cell.ranks[place],
                               .source = area::staging,
                               .target = area::pixels,
                               .pieces = {{.source_offset = write.staging.value * staging.slot_bytes,
                                           .target_offset = write.slot.slot.value * staging.slot_bytes,
                                           .bytes = picture.tokens() * staging.unit_bytes}},
                               .lease = {write.owner, until},
                               .deadline = until});
    if (!posted)
      refused.emplace_back(write.room, posted.error());
  }
}

void front_desk::written(room_id room, const result<void>& outcome) {
  const auto how = outcome ? front_machine::write_end::delivered : front_machine::write_end::failed;
  perform(machine_.on_pixels_written(room, how, outcome ? failure{} : outcome.error(), rank_.now()));
}

void front_desk::finish(const front_machine::end_request& end) {
  const auto found = questions_.find(end.request);
  if (found == questions_.end())
    return rank_.all.past.violate("one end", "a request ends that has ended or was never asked");
  rank_.all.service.on_ended(end.request);
  rank_.all.users->finished(found->second.client, found->second.tag, end.reason, end.cause);
  perform(sessions_.on_ended(end.request));
}

void front_desk::lose(const lost& news) {
  rank_.all.service.on_lost(news);
  perform(machine_.on_lost(news, rank_.now()));
  rank_.all.service.after_loss();
}

void front_desk::recover(const recovered& news) {
  rank_.all.service.on_recovered(news);
  perform(machine_.on_recovered(news, rank_.now()));
}

void front_desk::drain() {
  perform(sessions_.on_drain());
  perform(machine_.on_drain(rank_.now()));
}

void front_desk::count_held(const std::function<void(std::size_t, const char*)>& add) const {
  add(machine_.in_flight(), "requests started");
  add(machine_.waiting(), "requests waiting");
  add(sessions_.questions(), "questions");
  add(ingest_.waiting(), "ingests");
  add(machine_.at_rest() ? 0 : 1, "front that keeps staging");
}

} // namespace troupe::sim
