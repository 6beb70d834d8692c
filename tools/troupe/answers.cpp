#include "tools/troupe/answers.hpp"
#include "runtime/cluster/json_text.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace troupe::tools {

namespace {

using std::chrono::nanoseconds;

/// Parts of the work of `serve`, as its front names them.
constexpr std::array<std::string_view, 7> parts_in_order{"ingest",  "queue", "encode", "rows",
                                                         "prefill", "kv",    "decode"};

std::string_view name_of(embed::ending how) {
  switch (how) {
  case embed::ending::stop:
    return "stop";
  case embed::ending::length:
    return "length";
  case embed::ending::failed:
    return "failed";
  case embed::ending::cancelled:
    return "cancelled";
  }
  return "unknown";
}

double milliseconds(nanoseconds span) {
  return static_cast<double>(span.count()) / 1e6;
}

/// From the first beginning to the last end: ranks of a mesh report the same part side by side.
nanoseconds span_of(const page_outcome& outcome, std::string_view part) {
  nanoseconds began{};
  nanoseconds ended{};
  for (const auto& time : outcome.timings) {
    if (time.part != part)
      continue;
    began = began == nanoseconds{} ? time.began : std::min(began, time.began);
    ended = std::max(ended, time.ended);
  }
  return ended - began;
}

nlohmann::ordered_json shown(const embed::logprob& one) {
  auto bytes = nlohmann::ordered_json::array(); // a token's may be a part of a code point
  for (const char each : one.bytes)
    bytes.push_back(static_cast<unsigned char>(each));
  return {{"id", one.id}, {"logprob", one.value}, {"bytes", std::move(bytes)}};
}

nlohmann::ordered_json logprobs_of(const page_outcome& outcome) {
  auto all = nlohmann::ordered_json::array();
  for (const auto& token : outcome.logprobs) {
    auto one = shown(token.front());
    one["top"] = nlohmann::ordered_json::array();
    for (std::size_t i = 1; i < token.size(); ++i)
      one["top"].push_back(shown(token[i]));
    all.push_back(std::move(one));
  }
  return all;
}

bool has(const page_outcome& outcome, std::string_view part) {
  return std::ranges::find(outcome.timings, part, &embed::timing::part) != outcome.timings.end();
}

} // namespace

answer_printer::answer_printer(const std::vector<page>& pages, bool json)
    : pages_(pages), json_(json), colours_(STDOUT_FILENO), outcomes_(pages.size()) {}

void answer_printer::begin(std::size_t place, const embed::accepted& said) {
  auto& outcome = outcomes_.at(place);
  outcome.seed = said.seed;
  outcome.prompt_tokens = said.prompt_tokens;
}

void answer_printer::add(std::size_t place, const embed::token& said) {
  auto& outcome = outcomes_.at(place);
  outcome.token_ids.push_back(said.id);
  outcome.text += said.text;
  if (!said.logprobs.empty())
    outcome.logprobs.push_back(said.logprobs);
  if (!json_ && place == current_)
    advance();
}

void answer_printer::end(std::size_t place, page_outcome how) {
  auto& outcome = outcomes_.at(place);
  how.text.insert(0, outcome.text);
  how.token_ids = std::move(outcome.token_ids);
  how.logprobs = std::move(outcome.logprobs);
  how.seed = outcome.seed;
  how.prompt_tokens = outcome.prompt_tokens;
  outcome = std::move(how);
  if (json_)
    print_json(place);
  else if (place == current_)
    advance();
}

void answer_printer::end_rest(page_outcome::state how, const std::string& error) {
  for (std::size_t place = 0; place < outcomes_.size(); ++place)
    if (outcomes_[place].is == page_outcome::state::open)
      end(place, {.is = how,
                  .text = {},
                  .token_ids = {},
                  .how = embed::ending::failed,
                  .error = error,
                  .to_first_token = {},
                  .total = {},
                  .timings = {},
                  .seed = 0,
                  .prompt_tokens = 0});
}

void answer_printer::advance() {
  for (; current_ < pages_.size(); ++current_, printed_ = 0, headed_ = false) {
    const auto& outcome = outcomes_[current_];
    const bool ended = outcome.is != page_outcome::state::open;
    if (pages_.size() > 1 && !headed_ && (ended || !outcome.text.empty())) {
      const auto& what = pages_[current_];
      print(
          "{}{}\n", current_ == 0 ? "" : "\n",
          colours_.bold(what.image.empty() ? "== " + what.prompt : fmt::format("== {}  {}", what.image, what.prompt)));
      headed_ = true;
    }
    print("{}", std::string_view{outcome.text}.substr(printed_));
    printed_ = outcome.text.size();
    if (!ended)
      break;
    if (!outcome.text.empty() && outcome.text.back() != '\n')
      print("\n");
  }
}

void answer_printer::print_json(std::size_t place) const {
  const auto& outcome = outcomes_[place];
  nlohmann::ordered_json line;
  line["index"] = place;
  line["image"] = pages_[place].image.empty() ? nlohmann::ordered_json{} : nlohmann::ordered_json(pages_[place].image);
  line["prompt"] = pages_[place].prompt;
  line["text"] = outcome.text;
  line["token_ids"] = outcome.token_ids;
  line["tokens"] = outcome.token_ids.size();
  line["prompt_tokens"] = outcome.prompt_tokens;
  line["seed"] = outcome.seed;
  if (!outcome.logprobs.empty())
    line["logprobs"] = logprobs_of(outcome);
  line["finish"] = outcome.is == page_outcome::state::refused ? "refused" : name_of(outcome.how);
  line["time_to_first_token_ms"] = milliseconds(outcome.to_first_token);
  line["total_ms"] = milliseconds(outcome.total);
  line["phases_ms"] = nlohmann::ordered_json::object();
  for (const auto part : parts_in_order)
    if (has(outcome, part))
      line["phases_ms"][std::string{part}] = milliseconds(span_of(outcome, part));
  if (!outcome.error.empty())
    line["error"] = outcome.error;
  print("{}\n", cluster::text_of(line));
}

void answer_printer::print_summary() const {
  std::vector<table::column> columns{{"page", table::side::left},
                                     {"tokens", table::side::right},
                                     {"first token", table::side::right},
                                     {"total", table::side::right}};
  for (const auto part : parts_in_order)
    columns.push_back({std::string{part}, table::side::right});
  table times{std::move(columns)};
  bool any = false;
  for (std::size_t place = 0; place < pages_.size(); ++place) {
    const auto& outcome = outcomes_[place];
    if (outcome.is != page_outcome::state::answered)
      continue;
    any = true;
    std::vector<std::string> cells{pages_[place].image.empty() ? "(text)" : pages_[place].shown(),
                                   std::to_string(outcome.token_ids.size()), in_words(outcome.to_first_token),
                                   in_words(outcome.total)};
    for (const auto part : parts_in_order)
      cells.push_back(has(outcome, part) ? in_words(span_of(outcome, part)) : "-");
    times.add(std::move(cells));
  }
  if (any && !json_)
    say("\n{}", times.text(palette{STDERR_FILENO}));
  // One cause can end hundreds of pages; it is told once, with the first of them.
  std::vector<std::pair<std::string, std::vector<std::size_t>>> causes;
  for (std::size_t place = 0; place < pages_.size(); ++place) {
    const auto& error = outcomes_[place].error;
    if (error.empty())
      continue;
    const auto known = std::ranges::find(causes, error, [](const auto& cause) { return cause.first; });
    if (known == causes.end())
      causes.push_back({error, {place}});
    else
      known->second.push_back(place);
  }
  for (const auto& [error, places] : causes) {
    const auto more = places.size() > 1 ? fmt::format(" and {} more", places.size() - 1) : std::string{};
    complain(base::exit_code::failed, fmt::format("{}{}: {}", pages_[places.front()].shown(), more, error));
  }
}

base::exit_code answer_printer::verdict() const {
  const auto any = [this](page_outcome::state wanted) {
    return std::ranges::any_of(outcomes_, [wanted](const auto& outcome) { return outcome.is == wanted; });
  };
  if (any(page_outcome::state::failed) || any(page_outcome::state::open))
    return base::exit_code::failed;
  return any(page_outcome::state::refused) ? base::exit_code::refused : base::exit_code::done;
}

} // namespace troupe::tools
