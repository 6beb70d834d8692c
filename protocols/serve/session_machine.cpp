#include "protocols/serve/session_machine.hpp"

#include <algorithm>
#include <numeric>

namespace troupe::protocols {

namespace {

std::string number(std::uint64_t value) {
  return std::to_string(value);
}

/// `of`: "this client", "all clients".
std::optional<failure> validate_room(std::uint64_t held, std::uint64_t more, std::uint64_t most, std::string_view of) {
  if (held + more <= most)
    return std::nullopt;
  return failure{fault::queue_full, "pictures of " + number(held) + " bytes are arriving from " + std::string{of} +
                                        "; with these more than " + number(most) + ", the most of " + std::string{of} +
                                        "; try again later"};
}

} // namespace

std::optional<failure> session_machine::validate_pictures(const ask& asked, std::uint64_t bytes) const {
  const auto announced = asked.picture_bytes.size();
  if (announced != asked.picture_names.size())
    return failure{fault::invalid_request, number(asked.picture_names.size()) + " names of pictures and " +
                                               number(announced) + " sizes; one of each for a picture"};
  if (announced > limits::pictures_per_request_max)
    return failure{fault::invalid_request,
                   number(announced) + " pictures; at most " + number(limits::pictures_per_request_max)};
  if (const auto parts = pictures_in(asked.said); !asked.said.empty() && parts != announced)
    return failure{fault::invalid_request, number(announced) + " pictures, and the conversation has places for " +
                                               number(parts) + "; one picture for each place"};
  for (std::size_t i = 0; i < announced; ++i)
    if (asked.picture_bytes[i] == 0 || asked.picture_bytes[i] > bounds_.picture_bytes_max)
      return failure{fault::bad_picture, asked.picture_names[i] + ": " + number(asked.picture_bytes[i]) +
                                             " bytes; 1 to " + number(bounds_.picture_bytes_max) +
                                             " (limits.picture_bytes_max)"};
  if (bytes > bounds_.client_bytes_max)
    return failure{fault::invalid_request, "pictures of " + number(bytes) + " bytes together; at most " +
                                               number(bounds_.client_bytes_max) + " in one request"};
  return std::nullopt;
}

/// Contract: K9.
std::optional<failure> session_machine::judge(client_id client, const ask& asked, std::uint64_t bytes) const {
  if (draining_)
    return failure{fault::shutting_down, {}};
  if (auto problem = validate_pictures(asked, bytes))
    return problem;
  if (tags_.contains({client, asked.tag}))
    return failure{fault::invalid_request, "tag " + number(asked.tag) + " is in use"};
  if (const auto known = clients_.find(client); known != clients_.end()) {
    const auto& mine = known->second.of;
    if (mine.questions >= bounds_.client_questions_max)
      return failure{fault::queue_full, "this client has " + number(mine.questions) +
                                            " questions in progress, the most of one client; try again later"};
    if (auto full = validate_room(mine.file_bytes, bytes, bounds_.client_bytes_max, "this client"))
      return full;
  }
  if (all_.arriving >= bounds_.arriving_max)
    return failure{fault::queue_full, "questions are still arriving, " + number(all_.arriving) +
                                          " of all clients, the most that the front takes; try again later"};
  return validate_room(all_.file_bytes, bytes, bounds_.bytes_max, "all clients");
}

template <class Change>
void session_machine::count(const question& one, Change change) {
  change(all_);
  change(clients_[one.client].of);
}

result<request_id> session_machine::on_ask(client_id client, const ask& asked, time_point now) {
  const keeps_invariants checked{*this};
  const auto bytes = std::accumulate(asked.picture_bytes.begin(), asked.picture_bytes.end(), std::uint64_t{0});
  if (auto problem = judge(client, asked, bytes))
    return tl::unexpected<failure>{*std::move(problem)};
  const auto id = std::exchange(next_request_, next_request_.next());
  const bool whole = asked.picture_bytes.empty();
  const auto& one = questions_[id] = {.client = client,
                                      .tag = asked.tag,
                                      .at = whole ? stage::whole : stage::arriving,
                                      .deadline = now + time_of(asked.timeout_ms, bounds_.request_deadline),
                                      .missing = asked.picture_bytes,
                                      .file_bytes = bytes,
                                      .prepared_bytes = 0};
  tags_.emplace(std::pair{client, asked.tag}, id);
  count(one, [&](totals& of) {
    ++of.questions;
    ++of.arriving;
    of.file_bytes += bytes;
  });
  if (whole)
    clients_[client].whole.push_back(id);
  return id;
}

session_machine::iterator session_machine::find(client_id client, std::uint64_t tag) {
  const auto known = tags_.find({client, tag});
  return known == tags_.end() ? questions_.end() : questions_.find(known->second);
}

session_machine::effects session_machine::on_piece(client_id client, std::uint64_t tag, std::uint32_t picture,
                                                   std::size_t bytes) {
  const keeps_invariants checked{*this};
  effects out;
  const auto which = find(client, tag);
  if (which == questions_.end())
    return out; // refused or ended before; the rest of its bytes may still come
  auto& one = which->second;
  if (one.at != stage::arriving || picture >= one.missing.size() || bytes > one.missing[picture]) {
    const failure why{fault::invalid_request, "more picture bytes than announced"};
    if (one.at == stage::admitted)
      out.push_back(cancel_request{which->first});
    else if (end_early(which, out))
      out.push_back(tell_refused{client, tag, why});
    return out;
  }
  one.missing[picture] -= bytes;
  out.push_back(keep_piece{which->first, picture});
  if (std::all_of(one.missing.begin(), one.missing.end(), [](auto left) { return left == 0; })) {
    one.at = stage::whole;
    clients_[client].whole.push_back(which->first);
  }
  return out;
}

bool session_machine::may_ingest(const session& of) const {
  if (of.whole.empty())
    return false;
  const bool has_pictures = questions_.at(of.whole.front()).file_bytes != 0;
  return !has_pictures || (of.of.prepared_bytes < bounds_.client_bytes_max && all_.prepared_bytes < bounds_.bytes_max);
}

session_machine::effects session_machine::next_ingests() {
  const keeps_invariants checked{*this};
  effects out;
  while (ingests_ < bounds_.ingests_max) {
    const auto ready = [&](const auto& each) { return may_ingest(each.second); };
    auto next = std::find_if(clients_.upper_bound(last_served_), clients_.end(), ready);
    if (next == clients_.end())
      next = std::find_if(clients_.begin(), clients_.end(), ready);
    if (next == clients_.end())
      break;
    last_served_ = next->first;
    const auto id = next->second.whole.front();
    next->second.whole.pop_front();
    questions_.at(id).at = stage::ingesting;
    ++ingests_;
    out.push_back(begin_ingest{id});
  }
  return out;
}

session_machine::effects session_machine::on_ingested(request_id request, const std::optional<failure>& problem,
                                                      std::uint64_t prepared_bytes) {
  const keeps_invariants checked{*this, request};
  effects out;
  const auto which = questions_.find(request);
  if (which == questions_.end() || (which->second.at != stage::ingesting && which->second.at != stage::abandoned))
    return out;
  --ingests_;
  auto& one = which->second;
  if (one.at == stage::abandoned || problem) {
    if (one.at != stage::abandoned)
      out.push_back(tell_refused{one.client, one.tag, *problem});
    erase(which);
    out.push_back(forget{request});
    return out;
  }
  one.at = stage::admitted;
  count(one, [&](totals& of) {
    --of.arriving;
    of.file_bytes -= one.file_bytes;
    of.prepared_bytes += prepared_bytes;
  });
  one.file_bytes = 0;
  one.prepared_bytes = prepared_bytes;
  out.push_back(admit{request});
  return out;
}

void session_machine::on_pictures_used(request_id request) {
  const keeps_invariants checked{*this, request};
  const auto which = questions_.find(request);
  if (which == questions_.end())
    return;
  auto& one = which->second;
  count(one, [&](totals& of) { of.prepared_bytes -= one.prepared_bytes; });
  one.prepared_bytes = 0;
}

session_machine::effects session_machine::on_ended(request_id request) {
  const keeps_invariants checked{*this, request};
  if (const auto which = questions_.find(request); which != questions_.end() && which->second.at == stage::admitted) {
    erase(which);
    return {forget{request}};
  }
  return {};
}

/// Before its question: the client's last one takes the client along.
void session_machine::erase(iterator which) {
  const auto& one = which->second;
  count(one, [&](totals& of) {
    --of.questions;
    of.arriving -= one.at == stage::admitted ? 0 : 1;
    of.file_bytes -= one.file_bytes;
    of.prepared_bytes -= one.prepared_bytes;
  });
  if (const auto tag = tags_.find({one.client, one.tag}); tag != tags_.end() && tag->second == which->first)
    tags_.erase(tag);
  if (clients_.at(one.client).of.questions == 0)
    clients_.erase(one.client);
  questions_.erase(which);
}

void session_machine::leave_whole(iterator which) {
  if (which->second.at == stage::whole)
    std::erase(clients_.at(which->second.client).whole, which->first);
}

/// What the ingest has is kept until it has done with it: its bytes and its place are not free before.
bool session_machine::end_early(iterator which, effects& out) {
  auto& one = which->second;
  if (one.at == stage::abandoned || one.at == stage::admitted)
    return false;
  if (one.at == stage::ingesting) {
    one.at = stage::abandoned;
    tags_.erase({one.client, one.tag});
    out.push_back(stop_ingest{which->first});
    return true;
  }
  leave_whole(which);
  out.push_back(forget{which->first});
  erase(which);
  return true;
}

session_machine::effects session_machine::on_withdraw(client_id client, std::uint64_t tag) {
  const keeps_invariants checked{*this};
  effects out;
  const auto which = find(client, tag);
  if (which == questions_.end())
    return out; // it has ended before the client's word was here
  if (which->second.at == stage::admitted)
    out.push_back(cancel_request{which->first});
  else if (end_early(which, out))
    out.push_back(tell_cancelled{client, tag});
  return out;
}

std::vector<request_id> session_machine::of_client(client_id client) const {
  std::vector<request_id> out;
  for (const auto& [id, one] : questions_)
    if (one.client == client)
      out.push_back(id);
  return out;
}

session_machine::effects session_machine::on_client_gone(client_id client) {
  const keeps_invariants checked{*this};
  effects out;
  for (const auto id : of_client(client)) {
    const auto which = questions_.find(id);
    if (which->second.at == stage::admitted)
      out.push_back(cancel_request{id});
    else
      end_early(which, out);
  }
  return out;
}

session_machine::effects session_machine::on_drain() {
  const keeps_invariants checked{*this};
  draining_ = true;
  effects out;
  for (auto each = questions_.begin(); each != questions_.end();) {
    const auto current = each++;
    const auto client = current->second.client;
    const auto tag = current->second.tag;
    if (end_early(current, out))
      out.push_back(tell_refused{client, tag, {fault::shutting_down, {}}});
  }
  return out;
}

/// Contract: K16: an admitted question has the same deadline in the front machine.
session_machine::effects session_machine::on_tick(time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  for (auto each = questions_.begin(); each != questions_.end();) {
    const auto current = each++;
    const auto client = current->second.client;
    const auto tag = current->second.tag;
    const bool arrives = current->second.at == stage::arriving;
    if (now >= current->second.deadline && end_early(current, out))
      out.push_back(tell_refused{client,
                                 tag,
                                 {fault::timeout, arrives ? "its pictures have not arrived within timeouts.request_ms"
                                                          : "it was not ingested within timeouts.request_ms"}});
  }
  return out;
}

std::string session_machine::audit() const {
  totals all;
  std::map<client_id, totals> mine;
  std::uint32_t ingests = 0;
  for (const auto& [id, one] : questions_) {
    ingests += one.at == stage::ingesting || one.at == stage::abandoned ? 1 : 0;
    for (auto* const of : {&all, &mine[one.client]}) {
      ++of->questions;
      of->arriving += one.at == stage::admitted ? 0 : 1;
      of->file_bytes += one.file_bytes;
      of->prepared_bytes += one.prepared_bytes;
    }
  }
  if (all != all_ || ingests != ingests_ || mine.size() != clients_.size())
    return number(questions_.size()) + " questions are held, " + number(all_.questions) + " are counted";
  for (const auto& [client, known] : clients_)
    if (known.of != mine[client] || known.of.questions > bounds_.client_questions_max ||
        known.of.file_bytes > bounds_.client_bytes_max)
      return "client " + number(client.value) + " holds other than is counted, or more than its bound";
  if (all.arriving > bounds_.arriving_max || all.file_bytes > bounds_.bytes_max || ingests > bounds_.ingests_max)
    return "more is held than the bounds of all clients allow";
  return {};
}

/// Once for each frame of a client and never for a token: a question has as many frames as its pictures have pieces.
void session_machine::check_invariants() const {
  totals all;
  std::uint32_t ingests = 0;
  for (const auto& [id, one] : questions_) {
    ingests += one.at == stage::ingesting || one.at == stage::abandoned ? 1 : 0;
    ++all.questions;
    all.arriving += one.at == stage::admitted ? 0 : 1;
    all.file_bytes += one.file_bytes;
    all.prepared_bytes += one.prepared_bytes;
  }
  TROUPE_ASSERT("K3", all == all_);
  TROUPE_ASSERT("K3", ingests == ingests_ && ingests <= bounds_.ingests_max);
  TROUPE_ASSERT("K9", all.arriving <= bounds_.arriving_max && all.file_bytes <= bounds_.bytes_max);
  totals of_clients;
  for (const auto& [client, one] : clients_) {
    TROUPE_ASSERT("K9", one.of.questions > 0 && one.of.questions <= bounds_.client_questions_max);
    TROUPE_ASSERT("K9", one.of.file_bytes <= bounds_.client_bytes_max);
    of_clients.questions += one.of.questions;
    of_clients.arriving += one.of.arriving;
    of_clients.file_bytes += one.of.file_bytes;
    of_clients.prepared_bytes += one.of.prepared_bytes;
  }
  TROUPE_ASSERT("K3", of_clients == all_);
}

} // namespace troupe::protocols
