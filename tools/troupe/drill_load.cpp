#include "tools/troupe/drill_load.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

#include "runtime/base/clock.hpp"
#include "tools/troupe/text.hpp"

namespace troupe::tools {

using namespace protocols;

namespace {

constexpr std::chrono::milliseconds connect_deadline{5000};
constexpr std::size_t complaints_max = 8;
constexpr int events_a_step = 256;

} // namespace

result<embed::picture_file> read_picture(const std::filesystem::path& file) {
  std::ifstream in{file, std::ios::binary};
  std::ostringstream text;
  text << in.rdbuf();
  const auto bytes = std::as_bytes(std::span{text.view()});
  if (!in || bytes.empty())
    return fail(fault::config_invalid, "cannot read " + file.string());
  return embed::picture_file{.name = file.filename().string(), .bytes = {bytes.begin(), bytes.end()}};
}

result<embed::question> question_of(const cluster::drill_page& page) {
  embed::question question;
  question.prompt = page.prompt;
  question.max_tokens = page.max_tokens;
  if (page.image.empty())
    return question;
  auto picture = read_picture(page.image);
  if (!picture)
    return tl::unexpected(picture.error());
  question.pictures.push_back(std::move(*picture));
  return question;
}

drill_load::drill_load(const cluster::drill& what)
    : what_(what), left_(what.pages.size() * what.load.repeat), in_flight_max_(what.load.concurrency) {}

result<void> drill_load::connect(const std::string& socket, rank_id front) {
  questions_.clear();
  for (const auto& page : what_.pages) {
    auto question = question_of(page);
    if (!question)
      return tl::unexpected(question.error());
    questions_.push_back(std::move(*question));
  }
  auto connected = embed::client::connect(socket, front.value, base::now() + connect_deadline);
  if (!connected)
    return tl::unexpected(failure_of(connected.error()));
  front_.emplace(std::move(*connected));
  return {};
}

void drill_load::step(time_point now) {
  if (!front_)
    return;
  ask_more();
  for (int i = 0; i < events_a_step && front_; ++i) {
    const auto said = front_->next_event(now); // what is there, and nothing is waited for
    if (said)
      std::visit([this](const auto& message) { take(message); }, *said);
    else if (said.error().why == embed::reason::timeout)
      return;
    else
      lose_connection();
  }
}

void drill_load::ask_more() {
  while (left_ > 0 && in_flight_.size() < in_flight_max_) {
    const auto page = next_page_++ % questions_.size();
    const auto tag = front_->ask(questions_[page]);
    if (!tag)
      return lose_connection();
    --left_;
    ++counts_.asked;
    in_flight_.emplace(*tag, open_question{.page = &what_.pages[page]});
  }
}

/// Who waits for an answer learns of the front's end by that of the connection: those requests have ended.
void drill_load::lose_connection() {
  front_.reset();
  counts_.failed += in_flight_.size();
  in_flight_.clear();
  left_ = 0;
}

void drill_load::complain(std::uint64_t tag, const std::string& what) {
  if (complaints_.size() < complaints_max)
    complaints_.push_back(fmt::format("question {}: {}", tag, what));
}

void drill_load::take(const embed::accepted& said) {
  const auto known = in_flight_.find(said.tag);
  if (known == in_flight_.end() || std::exchange(known->second.accepted, true)) {
    ++counts_.duplicates;
    complain(said.tag, "taken twice, or after its end");
  }
}

void drill_load::take(const embed::token& said) {
  has_token_ = true;
  const auto known = in_flight_.find(said.tag);
  if (known == in_flight_.end() || said.index != known->second.tokens) {
    ++counts_.duplicates;
    return complain(said.tag, fmt::format("token {} came twice, or after the end", said.index));
  }
  const auto& right = known->second.page->answer;
  if (!right.empty() && (said.index >= right.size() || right[said.index] != said.id)) {
    ++counts_.wrong;
    complain(said.tag, fmt::format("token {} is {}", said.index, said.id));
  }
  ++known->second.tokens;
}

void drill_load::take(const embed::finished& said) {
  const auto known = in_flight_.find(said.tag);
  if (known == in_flight_.end()) {
    ++counts_.duplicates;
    return complain(said.tag, "ended twice");
  }
  const auto& right = known->second.page->answer;
  const bool answered = said.is_answer();
  if (!answered)
    ++counts_.failed;
  else if (right.empty() || known->second.tokens == right.size())
    ++counts_.done;
  else {
    ++counts_.wrong;
    complain(said.tag, fmt::format("{} tokens, not {}", known->second.tokens, right.size()));
  }
  in_flight_.erase(known);
}

void drill_load::take(const embed::refused& said) {
  const auto known = in_flight_.find(said.tag);
  if (known == in_flight_.end()) {
    ++counts_.duplicates;
    return complain(said.tag, "refused after its end");
  }
  in_flight_.erase(known);
  if (said.why.why == embed::reason::overloaded && !in_flight_.empty()) {
    in_flight_max_ = in_flight_.size(); // one fewer at a time, so that asking again comes to an end
    --counts_.asked;
    ++left_;
    return;
  }
  ++counts_.refused;
  if (said.why.why == embed::reason::shutting_down)
    left_ = 0;
}

load_counts drill_load::conclude() const {
  auto counts = counts_;
  for (const auto& [tag, open] : in_flight_)
    ++(open.accepted ? counts.lost : counts.refused);
  return counts;
}

} // namespace troupe::tools
