#include "actors/serve/door/chat_door.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>

#include <fmt/format.h>

#include "actors/serve/door/operator_pages.hpp"
#include "actors/serve/front_actor.hpp"
#include "protocols/serve/roles.hpp"
#include "runtime/base/random.hpp"
#include "runtime/base/split.hpp"

namespace troupe::actors {

using namespace protocols;

namespace {

std::int64_t seconds_of_calendar() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::vector<std::string> names_of(const rank_context& rank) {
  std::vector<std::string> names{rank.model.filename().string()};
  for (const auto name : base::split(rank.spec.http.models, ','))
    names.emplace_back(name);
  return names;
}

template <std::size_t Bytes>
void read_hex(std::string_view text, std::array<std::uint8_t, Bytes>& to) {
  for (std::size_t i = 0; i < Bytes; ++i)
    std::from_chars(text.data() + 2 * i, text.data() + 2 * i + 2, to[i], 16);
}

request_trace trace_of(const door::request& what) {
  request_trace trace;
  trace.name = what.id;
  if (!what.traceparent.empty()) { // its form has been checked
    read_hex(std::string_view{what.traceparent}.substr(3), trace.trace);
    read_hex(std::string_view{what.traceparent}.substr(36), trace.parent);
  }
  return trace;
}

} // namespace

chat_door::chat_door(const rank_context& rank, const service_state& service, door::door& at)
    : rank_(rank), service_(service), names_(names_of(rank)), since_(seconds_of_calendar()), door_(&at) {}

std::vector<door::route> chat_door::routes() {
  const auto ready = [this](const door::request&, const std::shared_ptr<door::reply>& to) {
    if (const auto why = obstacle_of(service_, *rank_.sight, rank_.now()))
      return to->answer(door::error_response(503, why->what, why->code));
    to->answer({.status = 200, .content_type = "application/json", .body = R"({"ready":true})", .headers = {}});
  };
  const auto health = [this](const door::request&, const std::shared_ptr<door::reply>& to) {
    const auto now = rank_.now();
    to->answer(health_page(obstacle_of(service_, *rank_.sight, now), *rank_.sight, now));
  };
  const auto metrics = [this](const door::request& what, const std::shared_ptr<door::reply>& to) {
    to->answer(metrics_page(what.query, *rank_.sight, rank_.now()));
  };
  const auto models = [this](const door::request& what, const std::shared_ptr<door::reply>& to) {
    show_models(what, *to);
  };
  const auto asks = [this](body_form form) {
    return [this, form](door::request what, const std::shared_ptr<door::reply>& to) { ask(form, std::move(what), to); };
  };
  return {{"GET", "/ready", false, ready},
          {"GET", "/health", true, health},
          {"GET", "/metrics", true, metrics},
          {"GET", "/v1/models", true, models},
          {"GET", "/v1/models/*", true, models},
          {"POST", "/v1/chat/completions", true, asks(body_form::chat)},
          {"POST", "/v1/completions", true, asks(body_form::completion)}};
}

bool chat_door::is_model(std::string_view name) const {
  return std::ranges::find(names_, name) != names_.end();
}

door::response chat_door::no_such_model(std::string_view name) const {
  return door::error_response(404, fmt::format("there is no model {} here; valid: {}", name, fmt::join(names_, ", ")),
                              "model_not_found", "model");
}

void chat_door::show_models(const door::request& what, door::reply& to) const {
  constexpr std::string_view all = "/v1/models";
  const auto row = [&](std::string_view name) {
    std::string out = R"({"id":)";
    door::append_json_text(out, name);
    return out + fmt::format(R"(,"object":"model","created":{},"owned_by":"troupe"}})", since_);
  };
  std::string body;
  if (what.path.size() > all.size() + 1) {
    const auto name = std::string_view{what.path}.substr(all.size() + 1);
    if (!is_model(name))
      return to.answer(no_such_model(name));
    body = row(name);
  } else {
    body = R"({"object":"list","data":[)";
    for (const auto& name : names_)
      body += (body.back() == '[' ? "" : ",") + row(name);
    body += "]}";
  }
  to.answer({.status = 200, .content_type = "application/json", .body = std::move(body), .headers = {}});
}

std::int64_t chat_door::retry_after() const {
  return pace_.wait_for(open_.size(), rank_.now()).count();
}

// ---- questions ------------------------------------------------------------------------------------------------------

void chat_door::ask(body_form form, door::request what, const std::shared_ptr<door::reply>& to) {
  if (const auto why = service_.obstacle_now()) {
    auto no = door::error_response(503, why->what, why->code);
    no.headers.push_back({"Retry-After", std::to_string(retry_after())});
    return to->answer(std::move(no));
  }
  auto read =
      read_body(form, what.body,
                {.picture_bytes_max = rank_.spec.limits.picture_bytes_max, .vocabulary = rank_.facts.vocabulary});
  if (!read)
    return to->answer(door::error_response(400, read.error().message, read.error().code, read.error().param));
  what.body = {};
  if (!read->model.empty() && !is_model(read->model))
    return to->answer(no_such_model(read->model));

  const auto client = door_client(++last_);
  auto asked = std::move(read->asked);
  asked.trace = trace_of(what);
  if (asked.draws_seed && read->n > 1) { // the questions take consecutive seeds from one that is drawn here
    base::fill_random(std::as_writable_bytes(std::span{&asked.sampling.seed, 1}));
    asked.draws_seed = false;
  }
  open_.emplace(client, chat_answer{{.form = form,
                                     .id = what.id,
                                     .model = read->model.empty() ? names_.front() : read->model,
                                     .created = seconds_of_calendar(),
                                     .n = read->n,
                                     .stream = read->stream,
                                     .includes_usage = read->includes_usage,
                                     .logprobs = asked.sampling.rules.logprobs,
                                     .stops = std::move(read->stops),
                                     .to = to}});
  to->on_gone([this, client] { leave(client); });
  const auto& front = *rank_.roles->find(serve_role::front);
  const auto files = std::make_shared<const std::vector<std::vector<std::byte>>>(std::move(read->files));
  for (std::uint32_t i = 0; i < read->n; ++i) {
    auto one = asked;
    one.tag = i + 1;
    one.sampling.seed += i;
    caf::anon_send(front, door_question{client, std::move(one), files, form == body_form::completion});
  }
}

/// The front cancels those of its questions that have not ended.
void chat_door::leave(key client) {
  if (open_.erase(client) > 0)
    caf::anon_send(*rank_.roles->find(serve_role::front), client_gone{client});
}

void chat_door::withdraw(key client, std::uint64_t tag) const {
  caf::anon_send(*rank_.roles->find(serve_role::front), from_client<protocols::withdraw>{client, {tag}});
}

// ---- answers --------------------------------------------------------------------------------------------------------

void chat_door::tell(key client, client_word what) {
  const std::lock_guard lock{mutex_};
  if (door_ == nullptr)
    return;
  said_.emplace_back(client, std::move(what));
  if (said_.size() == 1)
    door_->post([this] { hear(); });
}

void chat_door::close() {
  const std::lock_guard lock{mutex_};
  door_ = nullptr;
}

void chat_door::hear() {
  std::vector<std::pair<key, client_word>> said;
  {
    const std::lock_guard lock{mutex_};
    said.swap(said_);
  }
  for (const auto& [client, what] : said)
    hear(client, what);
}

void chat_door::hear(key client, const client_word& what) {
  const auto found = open_.find(client);
  if (found == open_.end())
    return; // it has left
  auto& answer = found->second;
  if (const auto* const begun = std::get_if<accepted>(&what))
    answer.on(*begun);
  else if (const auto* const token = std::get_if<protocols::answer>(&what)) {
    if (answer.on(*token))
      withdraw(client, token->tag);
  } else if (const auto* const end = std::get_if<finished>(&what)) {
    answer.on(*end);
  } else {
    const auto& no = std::get<refused>(what);
    answer.fail(answer_to_refusal(fault_from(no.code).value_or(fault::invalid_request), no.message), retry_after());
  }
  if (!answer.has_ended())
    return;
  pace_.on_ended(rank_.now());
  leave(client); // its other questions may still run if one has failed
}

} // namespace troupe::actors
