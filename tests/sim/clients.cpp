#include "tests/sim/clients.hpp"

#include <algorithm>

#include "protocols/serve/roles.hpp"
#include "tests/sim/front_desk.hpp"
#include "tests/sim/serve_node.hpp"
#include "tests/sim/world.hpp"

namespace troupe::sim {

using namespace protocols;

namespace {

constexpr std::uint64_t file_bytes = 1000; ///< of a picture as it is sent, in two pieces
/// So many tokens that wait for a client count as more than the front keeps for one that does not read.
constexpr std::size_t unread_max = 3;

} // namespace

clients::clients(world& all) : all_(all) {}

// ---- asking -------------------------------------------------------------------------------------------------------

namespace {

/// Of a third of the questions. It is the question's own, so that a schedule draws what it drew without it.
sampling_options draw_sampling(const sim_question& question) {
  draw dice{mix(question.prompt.size(), static_cast<std::uint64_t>(question.prompt.front()))};
  if (dice.below(3) != 0)
    return {};
  sampling_options made{.temperature = 0.5F, .seed = dice.next()};
  auto& rules = made.rules;
  rules.top_k = static_cast<std::uint32_t>(dice.below(50));
  rules.repetition_penalty = dice.below(2) == 0 ? 1.5F : 0.0F;
  if (dice.below(2) == 0)
    rules.bias = {{static_cast<token_id>(dice.below(800)), 1.5F}};
  rules.min_tokens = static_cast<std::uint32_t>(dice.below(question.max_tokens + 1));
  rules.ignore_eos = dice.below(4) == 0;
  if (dice.below(2) == 0)
    rules.stop_ids = {static_cast<token_id>(dice.between(10, 800))};
  return made;
}

} // namespace

sim_question clients::draw_question() {
  auto& dice = all_.dice;
  sim_question made;
  const auto& bounds = all_.spec().limits;
  const auto encode_cells = all_.plan().cells_of(serve_role::encode).size();
  const auto pictures_max =
      std::min({std::uint64_t{bounds.row_slots}, bounds.pixel_slots * std::uint64_t{encode_cells}, std::uint64_t{3}});
  const auto text = [&](std::uint64_t tokens) {
    for (; tokens > 0; --tokens)
      made.prompt.push_back(static_cast<token_id>(dice.between(10, 800)));
  };
  if (all_.floods) {
    text(dice.between(1, 12));
    made.max_tokens = static_cast<std::uint32_t>(dice.between(1, 4));
    return made;
  }
  const bool long_ones = bounds.kv_tokens_max > 3000 && dice.below(2) == 0; // prompts of several pieces
  const bool across = long_ones && dice.below(2) == 0;                      // a piece ends within a picture
  text(dice.between(1, 24));
  if (across)
    text(limits::prefill_chunk_tokens - made.prompt.size() - 1 - dice.below(12));
  if (dice.below(2) == 0)
    for (auto pictures = dice.below(pictures_max + 1); pictures > 0; --pictures) {
      const sim_picture one{dice.below(3) == 0 ? 77 : dice.next(), static_cast<std::uint32_t>(dice.between(1, 3)),
                            static_cast<std::uint32_t>(dice.between(1, 4))};
      made.first_tokens.push_back(static_cast<std::uint32_t>(made.prompt.size()));
      made.prompt.insert(made.prompt.end(), one.tokens(), image_token);
      made.pictures.push_back(one);
      text(dice.below(6));
    }
  if (long_ones)
    text(limits::prefill_chunk_tokens + dice.below(600));
  made.max_tokens = static_cast<std::uint32_t>(dice.between(1, dice.below(3) == 0 ? 40 : 8));
  made.sampling = draw_sampling(made);
  return made;
}

void clients::plan(std::size_t questions) {
  planned_ = questions;
  nothing_late_ = all_.sky.late == 0;
}

void clients::begin() {
  draw_questions(planned_);
}

void clients::front_gone() {
  for (auto& one : questions_)
    if (one.since != time_point{})
      end(one);
}

void clients::front_drained() {
  for (const auto& one : questions_)
    if (one.accepted && !one.told)
      all_.past.violate("a drain serves", name_of(one) + " was accepted and has not ended when the front has drained");
}

void clients::draw_questions(std::size_t questions) {
  questions_.reserve(questions + 64);
  auto when = all_.time.now();
  client_id client{next_client_++};
  std::uint64_t tag = 1;
  const bool flood = all_.dice.chance(all_.sky.flood) || all_.floods;
  for (std::size_t i = 0; i < questions; ++i) {
    if (all_.dice.below(3) == 0) {
      client = client_id{next_client_++};
      tag = 1;
    }
    if (!flood)
      when += all_.delay(all_.gap);
    const auto number = questions_.size();
    auto& one = questions_.emplace_back();
    one.what = draw_question();
    one.alone = answer_alone(one.what);
    one.client = client;
    one.tag = tag++;
    one.half = !one.what.pictures.empty() && all_.dice.chance(all_.sky.half);
    if (all_.dice.chance(all_.sky.slow))
      one.slow = all_.dice.below(static_cast<std::uint64_t>(all_.sky.slow_upload.count())) * 1ns;
    // What comes hardly in time may fail by its deadline, and nobody is to blame.
    one.half = one.half || one.slow > all_.ms(all_.spec().timeouts.request_ms) * 3 / 4;
    one.deaf = all_.dice.chance(all_.sky.deaf);
    by_tag_[{one.client, one.tag}] = number;
    work_ += all_.sky.compute * 3 * (one.what.max_tokens + 4 + 2 * one.what.pictures.size());
    all_.time.at(when, [this, number] { ask(number); });
    if (all_.dice.chance(all_.sky.cancel))
      all_.time.at(when + all_.delay(all_.sky.compute * 8), [this, number] { withdraw(number); });
    if (all_.dice.chance(all_.sky.leave))
      all_.time.at(when + all_.delay(all_.sky.compute * 8), [this, client] { leave(client); });
  }
}

void clients::ask_one() {
  ask_one(draw_question());
}

void clients::ask_one(sim_question what) {
  const auto number = questions_.size();
  auto& one = questions_.emplace_back();
  one.what = std::move(what);
  one.alone = answer_alone(one.what);
  one.client = client_id{next_client_++};
  one.tag = 1;
  by_tag_[{one.client, one.tag}] = number;
  ask(number);
}

void clients::ask_whole() {
  const auto& bounds = all_.spec().limits;
  const auto most = std::min<std::uint32_t>(all_.cluster.facts.context_max,
                                            bounds.kv_tokens_max / limits::kv_block_tokens * limits::kv_block_tokens);
  const auto encode_cells = all_.plan().cells_of(serve_role::encode).size();
  const auto pictures = std::min({std::uint64_t{bounds.row_slots}, bounds.pixel_slots * std::uint64_t{encode_cells},
                                  std::uint64_t{limits::pictures_per_request_max}});
  const auto number = questions_.size();
  auto& one = questions_.emplace_back();
  one.what.max_tokens = 2;
  for (std::uint64_t i = 0; i < pictures && one.what.prompt.size() + 4 < most; ++i) {
    one.what.first_tokens.push_back(static_cast<std::uint32_t>(one.what.prompt.size()));
    one.what.pictures.push_back({all_.dice.next(), 1, 1});
    one.what.prompt.push_back(image_token);
  }
  while (one.what.prompt.size() + one.what.max_tokens < most)
    one.what.prompt.push_back(static_cast<token_id>(all_.dice.between(10, 800)));
  one.alone = answer_alone(one.what);
  one.client = client_id{next_client_++};
  one.tag = 1;
  by_tag_[{one.client, one.tag}] = number;
  ask(number);
}

/// In order, as a socket has it.
void clients::to_front(client_id client, std::function<void()> what) {
  auto* const front = all_.at(all_.plan().front());
  if (front == nullptr || !front->serves)
    return;
  auto& last = last_[client];
  last = std::max(all_.time.now() + all_.delay(all_.sky.frame), last + duration{1});
  front->reach(last, [front, what = std::move(what)] { front->hand(thread::front, what); });
}

void clients::ask(std::size_t number) {
  auto& one = questions_[number];
  if (const auto* const front = all_.at(all_.plan().front()); one.gone || front == nullptr || !front->running)
    return end(one);
  one.since = all_.time.now();
  protocols::ask question;
  question.tag = one.tag;
  question.prompt = std::to_string(number);
  question.max_tokens = one.what.max_tokens;
  question.picture_bytes.assign(one.what.pictures.size(), file_bytes);
  question.picture_names.assign(one.what.pictures.size(), "p");
  all_.past.note(
      [&] {
        return "client " + std::to_string(one.client.value) + " asks " + name_of(one) + " (" +
               std::to_string(one.what.prompt.size()) + " tokens, " + std::to_string(one.what.pictures.size()) +
               " pictures, answer of " + std::to_string(one.alone.tokens.size()) + ")";
      },
      6, number);
  to_front(one.client, [this, client = one.client, question] {
    all_.at(all_.plan().front())->serves->front->on_ask(client, question);
  });
  for (std::uint32_t picture = 0; picture < one.what.pictures.size(); ++picture)
    upload(number, picture);
}

void clients::upload(std::size_t number, std::uint32_t picture) {
  const auto& one = questions_[number];
  const auto piece = [this, client = one.client, tag = one.tag, picture] {
    all_.at(all_.plan().front())->serves->front->on_piece(client, tag, picture, file_bytes / 2);
  };
  to_front(one.client, piece);
  if (one.slow > duration{})
    return all_.time.after(one.slow, [this, client = one.client, piece] { to_front(client, piece); });
  if (!one.half)
    to_front(one.client, piece);
}

void clients::withdraw(std::size_t number) {
  auto& one = questions_[number];
  if (one.ended || one.gone)
    return;
  one.withdrawn = true;
  all_.past.note([&] { return "client " + std::to_string(one.client.value) + " withdraws " + name_of(one); }, 7,
                 number);
  to_front(one.client, [this, client = one.client, tag = one.tag] {
    if (auto* const known = find(client, tag); known != nullptr && !known->told)
      known->front_knows = true;
    all_.at(all_.plan().front())->serves->front->on_withdraw(client, tag);
  });
}

void clients::leave(client_id client) {
  bool any = false;
  for (auto& one : questions_)
    if (one.client == client) {
      any = any || !one.gone;
      one.gone = true;
      if (one.since != time_point{})
        end(one);
    }
  if (!any)
    return;
  all_.past.note([&] { return "client " + std::to_string(client.value) + " leaves"; }, 8, client.value);
  to_front(client, [this, client] {
    for (auto& one : questions_)
      one.front_knows = one.front_knows || (one.client == client && !one.told);
    all_.at(all_.plan().front())->serves->front->on_client_gone(client);
  });
}

// ---- what the front tells -----------------------------------------------------------------------------------------

clients::asked_question* clients::find(client_id client, std::uint64_t tag) {
  const auto found = by_tag_.find({client, tag});
  return found == by_tag_.end() ? nullptr : &questions_[found->second];
}

std::string clients::name_of(const asked_question& one) const {
  return "question " + std::to_string(&one - questions_.data());
}

void clients::accepted(client_id client, std::uint64_t tag) {
  auto* const one = find(client, tag);
  if (one == nullptr || one->told)
    return all_.past.violate("one end", "a question is accepted that has ended or was never asked");
  one->accepted = true;
}

void clients::token(client_id client, std::uint64_t tag, std::uint32_t index, token_id id) {
  auto& one = *find(client, tag);
  all_.past.note([&] { return name_of(one) + ": token " + std::to_string(index) + " is " + std::to_string(id); }, 9,
                 index, id);
  if (one.told)
    all_.past.violate("one end", name_of(one) + " gets a token after its end");
  if (one.front_knows)
    all_.past.violate("a cancel holds", name_of(one) + " gets a token after the front has taken its cancel");
  if (index != one.got.size())
    all_.past.violate("no gap", name_of(one) + " gets token " + std::to_string(index) + " after " +
                                    std::to_string(one.got.size()));
  one.got.push_back(id);
  if (one.deaf && one.got.size() == unread_max)
    leave(client); // the front lets it go
  if (one.got.size() > one.alone.tokens.size() || one.alone.tokens[index] != id)
    all_.past.violate("right answer",
                      name_of(one) + " gets " + std::to_string(id) + " as token " + std::to_string(index) + ", alone " +
                          (index < one.alone.tokens.size() ? "it is " + std::to_string(one.alone.tokens[index])
                                                           : std::string{"it has ended"}));
}

void clients::finished(client_id client, std::uint64_t tag, finish_reason reason, const std::optional<failure>& cause) {
  auto& one = *find(client, tag);
  all_.past.note(
      [&] {
        static constexpr const char* reasons[] = {"?", "stop", "length", "failed", "cancelled"};
        return name_of(one) + " ends: " + reasons[static_cast<int>(reason)] + (cause ? ", " + to_string(*cause) : "");
      },
      10, static_cast<int>(reason), one.got.size());
  if (one.told)
    all_.past.violate("one end", name_of(one) + " ends twice");
  one.told = true;
  if (one.front_knows && reason != finish_reason::cancelled)
    all_.past.violate("a cancel holds", name_of(one) + " ends otherwise after the front has taken its cancel");
  if (cause && !one.got.empty() &&
      (cause->code == fault::transfer_failed || cause->code == fault::stale_grant ||
       cause->code == fault::span_mismatch))
    all_.past.violate("right cause", name_of(one) + " has begun, and fails by what came before: " + to_string(*cause));
  const bool whole = reason == finish_reason::stop || reason == finish_reason::length;
  if (whole && (one.got != one.alone.tokens || one.alone.not_finite))
    all_.past.violate("right answer", name_of(one) + " ends with " + std::to_string(one.got.size()) +
                                          " tokens, alone it has " + std::to_string(one.alone.tokens.size()) +
                                          (one.alone.not_finite ? " and then fails" : ""));
  if (reason == finish_reason::cancelled && !one.withdrawn && !one.gone)
    all_.past.violate("right cause", name_of(one) + " ends as cancelled, and nobody has cancelled it");
  const bool is_late =
      cause && (cause->code == fault::timeout || cause->code == fault::stale_grant) && may_be_late(one);
  const bool own_fault = cause && ((cause->code == fault::not_finite && one.alone.not_finite) ||
                                   (cause->code == fault::shutting_down && all_.told_to_stop));
  if (reason == finish_reason::failed && !own_fault && !is_late) {
    one.failed = true;
    one.why = cause ? to_string(*cause) : "no cause";
    if (!cause)
      all_.past.violate("right cause", name_of(one) + " fails without a cause");
  }
  check_in_time(one);
  end(one);
}

void clients::refused(client_id client, std::uint64_t tag, const failure& why) {
  auto& one = *find(client, tag);
  all_.past.note([&] { return name_of(one) + " is refused: " + to_string(why); }, 11, static_cast<int>(why.code));
  if (one.told)
    all_.past.violate("one end", name_of(one) + " is refused after its end");
  one.told = one.was_refused = true;
  one.failed = one.failed || (why.code == fault::timeout && !one.half && !may_be_late(one));
  one.why = to_string(why);
  check_in_time(one);
  end(one);
}

bool clients::may_be_late(const asked_question& one) const {
  const auto allowed = all_.ms(all_.spec().timeouts.request_ms);
  return one.since < all_.healed_at && (work_ > allowed || all_.began_with.reading * 60 > allowed);
}

/// By its deadline, and what a stopped or slow front needs to say so.
void clients::check_in_time(const asked_question& one) {
  const bool front_was_well = nothing_late_ && !all_.judge.was_hurt(all_.plan().front());
  if ((!all_.stormy || front_was_well) &&
      all_.time.now() - one.since > all_.ms(all_.spec().timeouts.request_ms) * 11 / 10 + 1s)
    all_.past.violate("in time", name_of(one) + " ends after its deadline");
}

void clients::end(asked_question& one) {
  one.ended = true;
}

bool clients::all_ended() const {
  return std::ranges::all_of(questions_, [](const auto& one) { return one.ended; });
}

std::size_t clients::failed() const {
  return static_cast<std::size_t>(std::ranges::count_if(questions_, [](const auto& one) { return one.failed; }));
}

std::size_t clients::answered() const {
  return static_cast<std::size_t>(std::ranges::count_if(
      questions_, [](const auto& one) { return one.told && !one.failed && !one.was_refused && !one.withdrawn; }));
}

std::string clients::open() const {
  std::string words;
  for (const auto& one : questions_)
    if (!one.ended)
      words += (words.empty() ? "" : ", ") + name_of(one);
  return words;
}

} // namespace troupe::sim
