#include "tests/sim/service_checks.hpp"

#include <algorithm>

#include "protocols/limits.hpp"
#include "protocols/serve/roles.hpp"
#include "tests/sim/front_desk.hpp"
#include "tests/sim/serve_node.hpp"
#include "tests/sim/simulated_model.hpp"
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
  mine.encode.clear();
  for (const auto& picture : work.pictures)
    mine.encode.push_back(picture.encode_cell);
  mine.spoke = false;
  if (needs_the_lost(mine))
    all_.past.violate("lost cells serve nobody", words(request) + " begins on a cell that is lost");
  kv_rooms_[work.request] = work.kv_room;
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
  check_stranded(found->second);
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
  const auto& sky = all_.began_with;
  const auto longest = all_.ms(all_.spec().timeouts.transfer_ms) + (sky.crawl > 0 ? sky.crawl_by * 9 : duration{});
  all_.time.after(longest + patience(), [this, &by, attempt = found->second] {
    const auto request = requests_.find(request_of_.at(attempt));
    const auto* const front = all_.at(all_.plan().front());
    if (request == requests_.end() || request->second.attempt != attempt || request->second.spoke ||
        !hears_the_front(by) || !front->running || !front->serves->front->serves(attempt))
      return;
    all_.past.violate("told in time", by.label + " could not write for attempt " + std::to_string(attempt.value) +
                                          ", and the front does not know");
  });
}

void service_checks::on_step_writes(const process& by, request_id attempt, block_index block) {
  const auto room = kv_rooms_.find(attempt);
  const auto holder = by.memory->at(area::kv_decode).holders.at(block.value);
  if (room != kv_rooms_.end() && holder != room->second)
    all_.past.violate("own memory", by.label + " steps attempt " + std::to_string(attempt.value) + " in block " +
                                        std::to_string(block.value) + ", which has been given to room " +
                                        std::to_string(holder.value));
}

// ---- losses -------------------------------------------------------------------------------------------------------

void service_checks::on_lost(const lost& news) {
  for (const auto rank : news.ranks) {
    lost_[rank] = std::max(lost_[rank], news.next);
    away_.insert(rank);
  }
}

void service_checks::on_recovered(const recovered& news) {
  for (const auto rank : news.ranks)
    away_.erase(rank);
}

bool service_checks::is_lost(cell_id cell) const {
  return std::ranges::any_of(all_.plan().cell(cell).ranks, [&](rank_id rank) { return away_.contains(rank); });
}

bool service_checks::needs_the_lost(const request_state& of) const {
  if (is_lost(of.decode))
    return true;
  if (of.spoke)
    return false;
  const auto& cells = all_.plan().cells_of(serve_role::prefill);
  const auto prefill =
      std::ranges::find_if(cells, [&](cell_id id) { return all_.plan().cell(id).leader() == of.prefill; });
  return is_lost(*prefill) || std::ranges::any_of(of.encode, [&](cell_id cell) { return is_lost(cell); });
}

void service_checks::after_loss() {
  const auto& front = *all_.at(all_.plan().front())->serves->front;
  for (const auto& [id, one] : requests_)
    if (one.attempt && front.serves(*one.attempt) && needs_the_lost(one))
      all_.past.violate("lost cells serve nobody", words(id) + " goes on on a cell that is lost");
}

void service_checks::on_pixels(const cell_plan& cell, generation lent_by) {
  if (const auto next = lost_.find(cell.leader()); next != lost_.end() && lent_by < next->second)
    all_.past.violate("own lease", "the front uses pixel slots of a generation that is gone");
}

// ---- hand-overs ---------------------------------------------------------------------------------------------------

void service_checks::on_handover(request_id attempt) {
  arrivals_[attempt].handed_over = true;
  note_whole(attempt);
}

void service_checks::on_arrived(request_id attempt, std::uint32_t place) {
  arrivals_[attempt].places.insert(place);
  note_whole(attempt);
}

void service_checks::note_whole(request_id attempt) {
  auto& one = arrivals_.at(attempt);
  const auto request = request_of_.find(attempt);
  if (request == request_of_.end() || one.whole || !one.handed_over)
    return;
  const auto found = requests_.find(request->second);
  if (found != requests_.end() && found->second.attempt == attempt &&
      one.places.size() == all_.plan().cell(found->second.decode).ranks.size())
    one.whole = all_.time.now();
}

/// With everything there a sequence waits for a place in the batch only.
void service_checks::check_stranded(const request_state& of) const {
  const auto& sky = all_.began_with;
  if (!of.attempt || of.spoke || sky.slow_step > 0 || sky.pause > 0)
    return;
  const auto found = arrivals_.find(*of.attempt);
  const auto& decode = *all_.at(all_.plan().cell(of.decode).leader());
  if (found == arrivals_.end() || !found->second.whole || !hears_the_front(decode))
    return;
  const auto longest = 2s + sky.compute * 100 * all_.spec().limits.in_flight_max;
  if (all_.time.now() - *found->second.whole > longest)
    all_.past.violate("no stranding", "attempt " + std::to_string(of.attempt->value) +
                                          " had all that it needs on the decode cell and never began there");
}

void service_checks::on_token(request_id attempt) {
  if (wrong_.contains(attempt))
    all_.past.violate("refused by name",
                      "attempt " + std::to_string(attempt.value) + " goes on with the prompt of another");
}

} // namespace troupe::sim
