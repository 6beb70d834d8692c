#include "tests/actors/role_rig.hpp"

#include "actors/link_actor.hpp"
#include "actors/periods.hpp"
#include "actors/serve/decode_actor.hpp"
#include "actors/serve/encode_actor.hpp"
#include "actors/serve/front_actor.hpp"
#include "actors/serve/prefill_actor.hpp"
#include "actors/serve/serve_routing.hpp"
#include "protocols/serve/roles.hpp"

namespace troupe::tests {

using namespace protocols;
using namespace actors;

namespace {

/// A model small enough to be written down: two KV heads and two layers, so that each half of a prefill mesh writes to
/// both stages of a decode cell.
gpu::models::model_facts small_facts() {
  gpu::models::model_facts facts;
  facts.name = "small";
  facts.vocabulary = 64;
  facts.hidden = 4;
  facts.layers = 2;
  facts.query_heads = 2;
  facts.kv_heads = 2;
  facts.head_elements = 2;
  facts.context_max = 128;
  facts.end_tokens = {63};
  facts.has_vision = true;
  facts.patch_pixels = 2;
  facts.merge = 1;
  facts.picture_pixels_min = 4;
  facts.picture_pixels_max = 64;
  return facts;
}

class letters final : public gpu::models::tokenizer {
public:
  std::vector<token_id> encode(const gpu::models::marked_text&) const override { return {}; }
  std::string_view bytes_of(token_id) const override { return "x"; }
  std::size_t vocabulary() const noexcept override { return 64; }
};

/// By purpose: number and slot of a region, the same on every rank.
const std::map<std::string, region_card> cards = {
    {"staging", {.region = 1, .bytes = 8 * 256, .slot_bytes = 256}},
    {"pixels", {.region = 2, .bytes = 4 * 256, .slot_bytes = 256}},
    {"tower", {.region = 3, .bytes = 4 * 256, .slot_bytes = 256}},
    {"rows", {.region = 4, .bytes = 4 * 256, .slot_bytes = 256}},
    {"kv.prefill", {.region = 5, .bytes = 1 << 16, .slot_bytes = 0}},
    {"kv.decode", {.region = 6, .bytes = 1 << 16, .slot_bytes = 0}},
};

} // namespace

cluster_spec role_rig::small_spec() {
  cluster_spec spec;
  spec.pools = {{"front", serve_role::front, 1, 1, 1},
                {"encode", serve_role::encode, 2, 2, 1},
                {"prefill", serve_role::prefill, 2, 2, 1},
                {"decode", serve_role::decode, 2, 1, 2}};
  spec.limits.in_flight_max = 4;
  spec.limits.kv_tokens_max = 8 * limits::kv_block_tokens;
  spec.limits.row_slots = 4;
  spec.limits.pixel_slots = 4;
  spec.timeouts.room_ms = 1000;
  spec.timeouts.request_ms = 60'000;
  return spec;
}

role_rig::role_rig(const std::vector<rank_id>& real, cluster_spec spec, const std::set<rank_id>& late)
    : plan(make_plan(spec).value()), scheduler_(dynamic_cast<caf::scheduler::test_coordinator&>(system_.scheduler())) {
  REQUIRE(plan.ranks.size() == ranks::count);
  for (const auto& rank : plan.ranks)
    born_[rank.id] = generation{1};
  for (const auto self : real)
    make(self, spec);
  settle();
  for (const auto self : real)
    if (!late.contains(self))
      come(self);
}

role_rig::~role_rig() {
  for (auto& [rank, one] : real_) {
    caf::anon_send_exit(one->role, caf::exit_reason::kill);
    caf::anon_send_exit(one->executor, caf::exit_reason::kill);
    for (auto& [peer, link] : one->context.links)
      caf::anon_send_exit(link, caf::exit_reason::kill);
  }
  if (ingest_)
    caf::anon_send_exit(ingest_, caf::exit_reason::kill);
  settle();
  CHECK_MESSAGE(failures.empty(), "a rank failed: ", (failures.empty() ? std::string{} : failures.front()));
}

template <class... Orders>
caf::actor role_rig::executor_of(real_rank& one, std::variant<Orders...>*) {
  return system_.spawn(
      [&one]() -> caf::behavior { return {[&one](const Orders& order) { one.orders.emplace_back(order); }...}; });
}

void role_rig::make(rank_id self, const cluster_spec& spec) {
  auto& one = *real_.emplace(self, std::make_unique<real_rank>()).first->second;
  auto& rank = one.context;
  rank.spec = spec;
  rank.plan = plan;
  rank.self = self;
  rank.born = born_.at(self);
  rank.facts = small_facts();
  rank.counted = std::make_unique<base::counter_table>(metrics_at(plan, self), plan.ranks.size());
  rank.clock = [this] { return now_; };
  rank.fail_rank = [this](const failure& cause, const std::string& where) {
    failures.push_back(where + ": " + to_string(cause));
  };
  one.links.rig = this;
  one.links.self = self;
  rank.wire = &one.links;
  one.transfers.rig = this;
  one.transfers.self = self;
  rank.transfers = &one.transfers;
  one.staging.resize(cards.at("staging").bytes);
  for (const auto& [purpose, card] : cards) {
    rank.regions[purpose] = {.id = card.region, .bytes = one.staging, .kind = fabric::memory_kind::host, .card = card};
    for (const auto& peer : plan.ranks)
      rank.peer_regions.set(peer.id, purpose, card);
  }
  for (const auto& peer : plan.ranks)
    if (peer.id != self) {
      rank.links[peer.id] = system_.spawn<link_actor>(rank, peer.id);
      caf::anon_send(rank.links[peer.id], relink{peer.id.value});
    }
  rank.arrivals = std::make_shared<fabric::arrival_table>();
  one.executor = executor_of(one, static_cast<executor_order*>(nullptr));
}

void role_rig::come(rank_id self) {
  auto& one = here(self);
  auto& rank = one.context;
  const auto role = role_of(rank.self);
  const auto cell = plan.cells_on(rank.self).front();
  if (role == serve_role::front) {
    ingest_ = system_.spawn(
        [this]() -> caf::behavior { return {[this](const ingest_order& order) { ingests_.push_back(order); }}; });
    one.role = system_.spawn<front_actor>(rank, front_actor::parts{.words = std::make_shared<letters>(),
                                                                   .ingest = ingest_,
                                                                   .on_drained = [this] { drained = true; }});
  } else if (role == serve_role::encode) {
    one.role = system_.spawn<encode_actor>(rank, cell, one.executor);
  } else if (role == serve_role::prefill) {
    one.role = system_.spawn<prefill_actor>(rank, cell, one.executor, one.board);
  } else if (role == serve_role::decode) {
    one.role = system_.spawn<decode_actor>(rank, cell, one.executor, one.board);
  } else {
    FAIL("no role of this rig");
  }
  rank.roles->publish(role, one.role);
  settle();
}

std::optional<fabric::arrival_table::arrival> role_rig::expected_arrival(rank_id from, rank_id to, room_id room) {
  return here(to).context.arrivals->take(from, completion_data(serve_transfer::kv, room));
}

void role_rig::settle() {
  while (scheduler_.try_run_once()) {
  }
}

// ---- messages -----------------------------------------------------------------------------------------------------

result<void> role_rig::scripted_links::post(key which, const frame_header& header, std::vector<std::byte> payload) {
  if (const auto broken = rig->broken_.find({self, which}); broken != rig->broken_.end())
    return fail(broken->second, "as the script says");
  if (rig->removed.contains(which))
    return fail(fault::peer_gone, "removed");
  rig->edges_[{self, which}].push_back({header.type, header.epoch, std::move(payload)});
  return {};
}

result<void> role_rig::give(rank_id from, rank_id to, message_type type, const std::vector<std::byte>& payload,
                            std::optional<cache_epoch> sent_in) {
  frame_header header;
  header.type = type;
  header.epoch = sent_in.value_or(epoch);
  header.source = from;
  header.destination = to;
  auto taken = accept_frame(here(to).context, {header, payload});
  settle();
  return taken;
}

bool role_rig::flow(rank_id from, rank_id to) {
  auto frames = std::exchange(edges_[{from, to.value}], {});
  for (const auto& each : frames)
    CHECK(give(from, to, each.type, each.payload, each.epoch));
  return !frames.empty();
}

void role_rig::relink_to(rank_id from, rank_id peer, fabric::link_queues::key to) {
  caf::anon_send(here(from).context.links.at(peer), relink{to});
  settle();
}

bool role_rig::lives(rank_id rank) {
  return !caf::actor_cast<caf::abstract_actor*>(here(rank).role)->getf(caf::abstract_actor::is_terminated_flag);
}

void role_rig::expect_silence() {
  for (const auto& [edge, frames] : edges_)
    for (const auto& each : frames)
      CHECK_MESSAGE(false, name(each.type), " from rank ", edge.first.value, " to ", edge.second, " was not expected");
  for (const auto& [rank, one] : real_) {
    CHECK_MESSAGE(one->orders.empty(), "an order for the executor of rank ", rank.value, " was not expected");
    CHECK_MESSAGE(one->transfers.posted.empty(), "a write of rank ", rank.value, " was not expected");
  }
}

std::size_t role_rig::count(message_type type, rank_id from, rank_id to) const {
  const auto edge = edges_.find({from, to.value});
  return edge == edges_.end()
             ? 0
             : static_cast<std::size_t>(std::ranges::count(edge->second, type, [](const auto& f) { return f.type; }));
}

// ---- one-sided writes ---------------------------------------------------------------------------------------------

result<void> role_rig::scripted_transfers::post(fabric::write_request request, fabric::ready_event source_ready) {
  ++asked;
  if (refuses)
    return fail(*refuses, "as the script says");
  if (auto holds = check_lease(request.lease, rig->born_.at(request.to), rig->now_); !holds)
    return holds;
  posted.push_back({self, std::move(request), source_ready.moment()});
  return {};
}

posted_write role_rig::expect_write(rank_id from, rank_id to) {
  auto& posted = here(from).transfers.posted;
  REQUIRE_MESSAGE(!posted.empty(), "rank ", from.value, " has posted no write");
  auto next = std::move(posted.front());
  posted.pop_front();
  REQUIRE_MESSAGE(next.what.to == to, "a write of rank ", from.value, " goes to rank ", next.what.to.value);
  return next;
}

void role_rig::arrive(const posted_write& what) {
  if (!real_.contains(what.what.to))
    return;
  transfer_events_of(here(what.what.to).context).on_arrived(what.from, what.what.completion_data);
  settle();
}

void role_rig::complete(const posted_write& what, result<void> how) {
  transfer_events_of(here(what.from).context).on_delivered(what.what.cookie, std::move(how));
  settle();
}

void role_rig::finish_downloads(rank_id from, rank_id to, transfer_kind what, room_id room) {
  transfer_events_of(here(to).context).on_arrived(from, completion_data(what, room));
  settle();
}

// ---- lives, time, clients -----------------------------------------------------------------------------------------

void role_rig::lose(const std::vector<rank_id>& who, generation next) {
  dead_.insert(who.begin(), who.end());
  epoch = epoch.next();
  for (const auto& [rank, one] : real_)
    if (!dead_.contains(rank))
      tell(rank, lost{who, next, "as the script says", epoch});
}

void role_rig::regain(const std::vector<rank_id>& who, generation born) {
  for (const auto rank : who) {
    dead_.erase(rank);
    born_[rank] = born;
  }
  if (real_.contains(ranks::front))
    tell(ranks::front, recovered{who});
}

void role_rig::reap(const std::vector<rank_id>& who) {
  for (const auto& [rank, one] : real_)
    if (role_of(rank) == serve_role::prefill || role_of(rank) == serve_role::decode)
      tell(rank, writers_gone{who, false});
}

void role_rig::pass(duration time) {
  for (const auto end = now_ + time; now_ < end;) {
    const auto step = std::min<duration>(tick_period, end - now_);
    now_ += step;
    scheduler_.advance_time(std::chrono::duration_cast<caf::timespan>(step));
    settle();
  }
}

template <class Message>
void role_rig::client_sends(Message what, fabric::link_queues::key which) {
  tell(ranks::front, from_client<Message>{which, std::move(what)});
}
template void role_rig::client_sends(ask, fabric::link_queues::key);
template void role_rig::client_sends(picture_chunk, fabric::link_queues::key);
template void role_rig::client_sends(withdraw, fabric::link_queues::key);

void role_rig::client_leaves(fabric::link_queues::key which) {
  removed.insert(which);
  tell(ranks::front, client_gone{which});
}

void role_rig::drain() {
  tell(ranks::front, drain_atom::value);
}

ingest_order role_rig::expect_ingest() {
  REQUIRE_MESSAGE(!ingests_.empty(), "the front has no question read");
  auto next = std::move(ingests_.front());
  ingests_.pop_front();
  return next;
}

void role_rig::ingested(const ingest_order& order, std::uint32_t prompt_tokens) {
  auto answer = answer_to(order);
  answer.ended = now_;
  answer.request.max_tokens = order.question.max_tokens;
  answer.request.prompt.assign(prompt_tokens, token_id{7});
  for (std::uint32_t i = 0; i < order.files.size(); ++i) {
    answer.request.pictures.push_back(
        {.height = 4, .width = 4, .tokens = 4, .first_token = 4 * i, .grid = {1, 2, 2}, .content_hash = i});
    answer.pictures.push_back({});
    answer.pictures.back().height = 4;
    answer.pictures.back().width = 4;
    answer.pictures.back().rgb.resize(48);
  }
  if (!order.is_wanted())
    answer.problem = failure{fault::cancelled, {}};
  tell(ranks::front, std::move(answer));
}

} // namespace troupe::tests
