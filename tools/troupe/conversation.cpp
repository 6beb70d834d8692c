#include "tools/troupe/conversation.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "runtime/base/clock.hpp"

namespace troupe::tools {

namespace {

std::size_t bytes_of(const embed::question& what) {
  return std::accumulate(what.pictures.begin(), what.pictures.end(), std::size_t{0},
                         [](std::size_t sum, const auto& picture) { return sum + picture.bytes.size(); });
}

page_outcome ended(page_outcome::state is, std::string error, embed::ending how = embed::ending::failed) {
  page_outcome outcome;
  outcome.is = is;
  outcome.how = how;
  outcome.error = std::move(error);
  return outcome;
}

} // namespace

conversation::conversation(const std::vector<page>& pages, const ask_options& options, std::size_t in_flight_max,
                           answer_printer& out)
    : pages_(pages), options_(options), out_(out), in_flight_max_(std::max<std::size_t>(1, in_flight_max)),
      unread_(pages.size()) {
  std::iota(unread_.begin(), unread_.end(), std::size_t{0});
}

void conversation::read_ahead() {
  while (!unread_.empty() && loaded_.size() < in_flight_max_ && loaded_bytes_ < read_ahead_bytes_max) {
    const std::size_t place = unread_.front();
    unread_.pop_front();
    auto what = load(pages_[place], options_);
    if (!what) {
      out_.end(place, ended(page_outcome::state::failed, what.error().what));
      continue;
    }
    loaded_bytes_ += bytes_of(*what);
    loaded_.push_back({.place = place, .what = std::move(*what)});
  }
}

embed::result<void> conversation::hold(embed::client& front, protocols::duration silence_max) {
  while (true) {
    if (out_.lost())
      return tl::unexpected(embed::error{embed::reason::cancelled, {}, "the answers cannot be written"});
    if (const auto asked = ask_more(front); !asked)
      return asked;
    if (in_flight_.empty())
      return {};
    const auto said = front.next_event(base::now() + silence_max);
    if (!said)
      return tl::unexpected(said.error());
    std::visit([this](const auto& message) { take(message); }, *said);
  }
}

embed::result<void> conversation::ask_more(embed::client& front) {
  read_ahead();
  while (!loaded_.empty() && in_flight_.size() < in_flight_max_) {
    auto next = std::move(loaded_.front());
    loaded_.pop_front();
    loaded_bytes_ -= bytes_of(next.what);
    const auto tag = front.ask(std::move(next.what));
    if (tag)
      in_flight_.emplace(*tag, next.place);
    else if (tag.error().why == embed::reason::invalid)
      out_.end(next.place, ended(page_outcome::state::refused, tag.error().words));
    else
      return tl::unexpected(tag.error());
    read_ahead();
  }
  return {};
}

void conversation::take(const embed::token& said) {
  if (const auto known = in_flight_.find(said.tag); known != in_flight_.end())
    out_.add(known->second, said);
}

void conversation::take(const embed::accepted& said) {
  if (const auto known = in_flight_.find(said.tag); known != in_flight_.end())
    out_.begin(known->second, said);
}

void conversation::take(const embed::finished& said) {
  const auto known = in_flight_.find(said.tag);
  if (known == in_flight_.end()) // ended already: a late frame
    return;
  const bool answered = said.is_answer();
  auto outcome = ended(answered ? page_outcome::state::answered : page_outcome::state::failed,
                       answered || !said.message.empty() ? said.message : "the cluster gave no cause", said.how);
  outcome.text = said.text;
  outcome.to_first_token = said.to_first_token;
  outcome.total = said.total;
  outcome.timings = said.timings;
  out_.end(known->second, std::move(outcome));
  in_flight_.erase(known);
}

void conversation::take(const embed::refused& said) {
  const auto known = in_flight_.find(said.tag);
  if (known == in_flight_.end())
    return;
  const std::size_t place = known->second;
  in_flight_.erase(known);
  if (said.why.why == embed::reason::overloaded && !in_flight_.empty()) {
    in_flight_max_ = in_flight_.size();
    unread_.push_front(place);
    return;
  }
  if (said.why.why == embed::reason::shutting_down) { // it will take none of the others either
    unread_.clear();
    loaded_.clear();
  }
  out_.end(place, ended(page_outcome::state::refused, "refused: " + said.why.words));
}

} // namespace troupe::tools
