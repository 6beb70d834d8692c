#include "tests/sim/service_checks.hpp"

#include <algorithm>

#include "protocols/limits.hpp"
#include "protocols/serve/roles.hpp"
#include "tests/sim/front_desk.hpp"
#include "tests/sim/serve_node.hpp"
#include "tests/sim/words.hpp"
#include "tests/sim/world.hpp"

namespace troupe::sim {

using namespace protocols;

namespace {

std::uint64_t blocks_of(std::uint64_t tokens) {
  return (tokens + limits::kv_block_tokens - 1) / limits::kv_block_tokens;
}

std::string words(request_id request) {
  return "request " + std::to_string(request.value);
}

} // namespace

// ---- reading ------------------------------------------------------------------------------------------------------

void service_checks::on_whole(client_id client, request_id request) {
  auto& one = clients_[client];
  if (one.whole.empty())
    one.since = turns_;
  one.whole.insert(request);
}

void service_checks::on_unread(request_id request) {
  for (auto& [id, one] : clients_)
    one.whole.erase(request);
}

void service_checks::on_ingest(client_id client, request_id request) {
  on_unread(request);
  auto& mine = clients_[client];
  ++turns_;
  for (const auto& [id, one] : clients_)
    if (id != client && !one.whole.empty() && mine.last > 0 && one.since < mine.last && one.last < mine.last)
      all_.past.violate("fair", "client " + std::to_string(client.value) + " has another turn, and client " +
                                    std::to_string(id.value) + " waits since before its last");
  mine.last = mine.since = turns_;
}

// ---- requests -----------------------------------------------------------------------------------------------------

void service_checks::on_admitted(request_id request, const sim_question& what) {
  requests_[request] = {.pictures = !what.pictures.empty(),
                        .prefill_blocks = blocks_of(what.prompt.size()),
                        .decode_blocks = blocks_of(what.prompt.size() + what.max_tokens)};
  order_.push_back(request);
}

void service_checks::on_attempt(request_id request, const submit& work, rank_id prefill) {
  auto& mine = requests_.at(request);
  attempt_ends(mine);
  // Text passes pictures that wait for a slot, and anybody passes one that pauses before its next attempt.
  for (const auto earlier : order_) {
    if (earlier == request)
      break;
    const auto& one = requests_.at(earlier);
    if (one.attempts == 0 && (!one.pictures || mine.pictures))
      all_.past.violate("fair", words(request) + " begins before " + words(earlier) + ", which came first");
  }
  if (++mine.attempts > limits::request_attempts_max)
    all_.past.violate("attempts", words(request) + " is tried again and again");
  if (mine.attempts > 1 && !all_.stormy)
    all_.past.violate("attempts", words(request) + " is tried again, and nothing went wrong");
  mine.attempt = work.request;
  mine.decode = work.decode_cell;
  mine.prefill = prefill;
  request_of_[work.request] = request;
  rooms_[work.kv_room] = work.request;
  for (const auto& picture : work.pictures)
    rooms_[picture.room] = work.request;
}

void service_checks::attempt_ends(request_state& of) {
  if (of.attempt)
    over_[*std::exchange(of.attempt, std::nullopt)] = all_.time.now();
}

void service_checks::on_first_token(request_id request) {
  requests_.at(request).spoke = true;
}

void service_checks::on_ended(request_id request) {
  const auto found = requests_.find(request);
  if (found == requests_.end())
    return;
  attempt_ends(found->second);
  requests_.erase(found);
  std::erase(order_, request);
}

/// By what was given out and not by what the front counts.
bool service_checks::fits(const request_state& of) const {
  const auto blocks_max = all_.spec().limits.kv_tokens_max / limits::kv_block_tokens;
  std::map<cell_id, std::uint64_t> decode;
  std::map<rank_id, std::uint64_t> prefill;
  for (const auto& [id, one] : requests_) {
    if (!one.attempt)
      continue;
    decode[one.decode] += one.decode_blocks;
    prefill[one.prefill] += one.spoke ? 0 : one.prefill_blocks;
  }
  const auto& plan = all_.plan();
  return std::ranges::any_of(plan.cells_of(serve_role::decode),
                             [&](cell_id id) { return decode[id] + of.decode_blocks <= blocks_max; }) &&
         std::ranges::any_of(plan.cells_of(serve_role::prefill), [&](cell_id id) {
           return prefill[plan.cell(id).leader()] + of.prefill_blocks <= blocks_max;
         });
}

void service_checks::on_look() {
  if (all_.stormy)
    return; // a cell may be gone, or silent
  const auto started =
      std::ranges::count_if(requests_, [](const auto& each) { return each.second.attempt.has_value(); });
  if (started == std::ssize(requests_) || started >= all_.spec().limits.in_flight_max)
    return;
  for (const auto id : order_) {
    const auto& one = requests_.at(id);
    if (one.attempt)
      continue;
    if (!fits(one))
      return; // what lacks blocks holds up everybody behind it
    if (!one.pictures)
      return all_.past.violate("fair", words(id) + ", which is text, waits though all that it needs is free");
  }
}

// ---- work ---------------------------------------------------------------------------------------------------------

bool service_checks::hears_the_front(const process& by) const {
  const auto& sky = all_.began_with;
  return sky.late == 0 && !sky.breaks_ranks() && !all_.judge.was_hurt(by.self) &&
         !all_.judge.was_hurt(all_.plan().front());
}

duration service_checks::patience() const {
  return all_.sky.frame * 20 + all_.sky.hop * 40 + 20ms;
}

void service_checks::on_work(const process& by, request_id attempt, std::string_view what) {
  const auto ended = over_.find(attempt);
  if (ended == over_.end() || all_.time.now() < ended->second + patience() || !hears_the_front(by))
    return;
  const auto late = std::chrono::duration_cast<std::chrono::milliseconds>(all_.time.now() - ended->second);
  all_.past.violate("work for nobody", by.label + " begins " + std::string{what} + " of attempt " +
                                           std::to_string(attempt.value) + ", which ended " +
                                           std::to_string(late.count()) + " ms ago");
}

void service_checks::on_failed_write(const process& by, room_id room) {
  const auto found = rooms_.find(room);
  if (found == rooms_.end() || !hears_the_front(by))
    return;
  // Other writes of the room may be on their way, and its rank reports when the last has ended.
  all_.time.after(all_.ms(all_.spec().timeouts.transfer_ms) + patience(), [this, &by, attempt = found->second] {
    const auto request = requests_.find(request_of_.at(attempt));
    const auto* const front = all_.at(all_.plan().front());
    if (request == requests_.end() || request->second.attempt != attempt || request->second.spoke ||
        !hears_the_front(by) || !front->running || !front->serves->front->serves(attempt))
      return;
    all_.past.violate("told in time", by.label + " could not write for attempt " + std::to_string(attempt.value) +
                                          ", and the front does not know");
  });
}

void service_checks::on_token(request_id attempt) {
  if (wrong_.contains(attempt))
    all_.past.violate("refused by name",
                      "attempt " + std::to_string(attempt.value) + " goes on with the prompt of another");
}

} // namespace troupe::sim
