#include "tools/troupe/drill_crowd.hpp"

#include <fmt/format.h>

#include <ranges>
#include <utility>

#include "runtime/base/clock.hpp"

namespace troupe::tools {

using namespace protocols;

namespace {

constexpr std::chrono::milliseconds connect_deadline{5000};
constexpr std::size_t complaints_max = 8;
constexpr std::size_t causes_max = 64;
constexpr int events_a_step = 256;

} // namespace

drill_crowd::drill_crowd(const std::vector<known_question>& questions, std::string socket, rank_id front)
    : questions_(questions), socket_(std::move(socket)), front_(front) {}

embed::result<void> drill_crowd::ask(client_id who, std::size_t question) {
  auto found = clients_.find(who);
  if (found == clients_.end()) {
    auto connected = embed::client::connect(socket_, front_.value, base::now() + connect_deadline);
    if (!connected)
      return tl::unexpected(connected.error());
    found = clients_.emplace(who, client{std::move(*connected), {}}).first;
  }
  const auto tag = found->second.front.ask(questions_[question].what);
  if (!tag)
    return tl::unexpected(tag.error());
  ++counts_.asked;
  found->second.open.emplace(*tag, open_question{.known = &questions_[question], .text = {}});
  return {};
}

bool drill_crowd::cancel(client_id who) {
  const auto found = clients_.find(who);
  if (found == clients_.end() || found->second.open.empty())
    return false;
  auto& [tag, latest] = *found->second.open.rbegin();
  found->second.front.cancel(tag);
  latest.cancelled = true;
  return true;
}

bool drill_crowd::leave(client_id who) {
  const auto found = clients_.find(who);
  if (found == clients_.end())
    return false;
  for (const auto& [tag, asked] : found->second.open)
    counts_.left += asked.wrong ? 0 : 1;
  clients_.erase(found);
  return true;
}

void drill_crowd::step(time_point now) {
  for (auto next = clients_.begin(); next != clients_.end();) {
    if (read_events(next->first, next->second, now)) {
      ++next;
      continue;
    }
    for (const auto& [tag, asked] : next->second.open)
      counts_.failed += asked.wrong ? 0 : 1;
    next = clients_.erase(next);
  }
}

bool drill_crowd::read_events(client_id who, client& from, time_point now) {
  for (int i = 0; i < events_a_step; ++i) {
    const auto said = from.front.next_event(now); // what is there, and nothing is waited for
    if (said)
      std::visit([&](const auto& message) { take(who, from, message); }, *said);
    else if (said.error().why == embed::reason::timeout)
      return true;
    else {
      if (causes_.size() < causes_max)
        ++causes_["connection: " + said.error().what];
      return false;
    }
  }
  return true;
}

void drill_crowd::complain(std::string what) {
  if (complaints_.size() < complaints_max)
    complaints_.push_back(std::move(what));
}

void drill_crowd::call_doubled(client_id who, std::uint64_t tag, const std::string& what) {
  ++counts_.doubled;
  complain(fmt::format("client {}, question {}: {}", who, tag, what));
}

void drill_crowd::call_wrong(client_id who, std::uint64_t tag, open_question& asked, const std::string& what) {
  if (std::exchange(asked.wrong, true))
    return;
  ++counts_.wrong;
  complain(fmt::format("client {}, question {} ({}): {}; right is {:?}, it got {:?}", who, tag, asked.known->shown,
                       what, asked.known->text.value_or("known by its tokens"), asked.text));
}

void drill_crowd::take(client_id who, client& from, const embed::accepted& said) {
  const auto known = from.open.find(said.tag);
  if (known == from.open.end() || std::exchange(known->second.accepted, true))
    call_doubled(who, said.tag, "taken twice, or after its end");
}

void drill_crowd::take(client_id who, client& from, const embed::token& said) {
  has_token_ = true;
  const auto known = from.open.find(said.tag);
  if (known == from.open.end() || said.index != known->second.tokens)
    return call_doubled(who, said.tag, fmt::format("token {} came twice, or after the end", said.index));
  auto& asked = known->second;
  const auto& right = asked.known->answer;
  asked.text += said.text;
  if (said.index >= right.size() || right[said.index] != said.id)
    call_wrong(who, said.tag, asked, fmt::format("token {} is {}", said.index, said.id));
  ++asked.tokens;
}

void drill_crowd::take(client_id who, client& from, const embed::finished& said) {
  const auto known = from.open.find(said.tag);
  if (known == from.open.end())
    return call_doubled(who, said.tag, "ended twice");
  known->second.text += said.text;
  judge_end(who, said.tag, known->second, said);
  from.open.erase(known);
}

void drill_crowd::judge_end(client_id who, std::uint64_t tag, open_question& asked, const embed::finished& said) {
  const bool answered = said.is_answer();
  const auto& right = asked.known->text;
  if (answered && (asked.tokens != asked.known->answer.size() || asked.text != right.value_or(asked.text)))
    call_wrong(who, tag, asked, fmt::format("{} tokens of {}", asked.tokens, asked.known->answer.size()));
  else if (right && !right->starts_with(asked.text))
    call_wrong(who, tag, asked, "what came is no beginning of it");
  if (asked.wrong)
    return;
  if (answered)
    ++counts_.right;
  else if (said.how == embed::ending::cancelled && asked.cancelled)
    ++counts_.cancelled;
  else {
    ++counts_.failed;
    if (causes_.size() < causes_max)
      ++causes_[said.message.empty() ? "ended without a cause" : said.message];
  }
}

void drill_crowd::take(client_id who, client& from, const embed::refused& said) {
  const auto known = from.open.find(said.tag);
  if (known == from.open.end())
    return call_doubled(who, said.tag, "refused after its end");
  if (known->second.cancelled)
    ++counts_.cancelled;
  else {
    ++counts_.refused;
    if (causes_.size() < causes_max)
      ++causes_["refused: " + said.why.what];
  }
  from.open.erase(known);
}

std::size_t drill_crowd::open() const noexcept {
  std::size_t open = 0;
  for (const auto& [who, one] : clients_)
    open += one.open.size();
  return open;
}

std::vector<drill_crowd::client_id> drill_crowd::present() const {
  const auto ids = clients_ | std::views::keys;
  return {ids.begin(), ids.end()};
}

crowd_counts drill_crowd::conclude() const {
  auto counts = counts_;
  for (const auto& [who, one] : clients_)
    for (const auto& [tag, asked] : one.open)
      if (!asked.wrong)
        ++(asked.accepted ? counts.lost : counts.refused);
  return counts;
}

} // namespace troupe::tools
