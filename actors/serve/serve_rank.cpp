#include "actors/serve/serve_rank.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "actors/serve/decode_actor.hpp"
#include "actors/serve/encode_actor.hpp"
#include "actors/serve/front_actor.hpp"
#include "actors/serve/prefill_actor.hpp"
#include "actors/serve/serve_routing.hpp"
#include "gpu/backend.hpp"
#include "gpu/models/kv_writes.hpp"
#include "gpu/models/text_io.hpp"
#include "protocols/serve/client_messages.hpp"
#include "protocols/serve/roles.hpp"
#include "protocols/wire/codec.hpp"
#include "protocols/wire/decode_frame.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/digest.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/base/log.hpp"

namespace troupe::actors {

using namespace protocols;

namespace {

constexpr std::uint64_t page = 4096;

std::uint64_t whole_pages(std::uint64_t bytes) noexcept {
  return (bytes + page - 1) / page * page;
}

} // namespace

std::unique_ptr<rank_program> make_serve_rank(rank_context& rank, rank_services& services) {
  return std::make_unique<serve_rank>(rank, services);
}

serve_rank::serve_rank(rank_context& rank, rank_services& services)
    : rank_(rank), services_(services), service_(rank.plan) {}

const cell_plan* serve_rank::cell_here(role_kind role) const {
  for (const auto id : rank_.plan.cells_on(rank_.self))
    if (rank_.plan.cell(id).role == role)
      return &rank_.plan.cell(id);
  return nullptr;
}

// ---- what it needs and states -----------------------------------------------------------------------------------

std::vector<wanted_region> serve_rank::regions() const {
  const auto& facts = rank_.facts;
  const auto& bounds = rank_.spec.limits;
  const auto pixels = whole_pages(facts.picture_bytes_max());
  const auto rows = whole_pages(std::uint64_t{facts.picture_tokens_max()} * facts.row_elements() * sizeof(float));
  const auto encode_cells = static_cast<std::uint32_t>(rank_.plan.cells_of(serve_role::encode).size());
  const auto where_computed = rank_.on_device() ? fabric::memory_kind::device : fabric::memory_kind::host;
  // A prompt's rows are read once: where they arrive in the host's memory, they are read from there.
  const auto where_read = rank_.by_way_of_host() ? fabric::memory_kind::host : where_computed;

  std::vector<wanted_region> wanted;
  const auto add = [&](const char* purpose, std::uint32_t slots, std::uint64_t bytes, fabric::memory_kind kind) {
    if (slots * bytes > 0)
      wanted.push_back({purpose, slots, bytes, kind});
  };
  if (facts.has_vision && cell_here(serve_role::front))
    add("staging", encode_cells * bounds.pixel_slots, pixels, fabric::memory_kind::host);
  if (const auto* const cell = cell_here(serve_role::encode)) {
    add("pixels", bounds.pixel_slots, pixels, fabric::memory_kind::host);
    if (cell->leader() == rank_.self)
      add("tower", bounds.row_slots, rows, where_computed);
  }
  for (const auto role : {serve_role::prefill, serve_role::decode})
    if (const auto* const cell = cell_here(role)) {
      const auto layout = gpu::models::layout_at(facts, rank_.spec, *cell, *cell->place_of(rank_.self));
      if (role == serve_role::prefill && facts.has_vision)
        add("rows", bounds.row_slots, rows, where_read);
      add(role == serve_role::prefill ? "kv.prefill" : "kv.decode", layout.blocks, layout.block_bytes(),
          where_computed);
    }
  return wanted;
}

result<std::vector<std::pair<std::string, std::uint64_t>>> serve_rank::weights() const {
  std::vector<std::pair<std::string, std::uint64_t>> out;
  for (const auto id : rank_.plan.cells_on(rank_.self)) {
    const auto& cell = rank_.plan.cell(id);
    if (cell.role == serve_role::front || (cell.role == serve_role::encode && !rank_.facts.has_vision))
      continue;
    const auto bytes = gpu::models::weight_bytes(rank_.model, rank_.plan.of->row(cell.role).loads,
                                                 gpu::models::shard_at(cell, *cell.place_of(rank_.self)),
                                                 gpu::models::element_of(rank_.spec.model_dtype));
    if (!bytes)
      return tl::unexpected<failure>{bytes.error()};
    out.emplace_back("weights (" + std::string{name(cell.role)} + ")", *bytes);
  }
  return out;
}

result<std::vector<parity_fact>> serve_rank::facts() {
  std::vector<parity_fact> out;
  if (auto captured = capture_fact())
    out.push_back(*std::move(captured));
  if (auto numbers = numerics_fact()) {
    base::log_info("{}: {}", numbers->key, numbers->value);
    out.push_back(*std::move(numbers));
  }
  const base::flight_span reading{record_of(start_part::files)};
  auto folder = gpu::models::open_folder(rank_.model, {.device = services_.device(),
                                                       .threads = rank_.spec.limits.threads,
                                                       .element = gpu::models::element_of(rank_.spec.model_dtype),
                                                       .step_max = rank_.step_max(),
                                                       .captures = &rank_.captures});
  if (!folder)
    return tl::unexpected<failure>{folder.error()};
  folder_ = *std::move(folder);
  out.push_back({"model", base::hex(folder_->fingerprint())});
  return out;
}

/// What this rank captures and how it is cut, as every rank of its pool does: one that runs a collective by itself
/// while another has it in a graph would hang both, minutes later (G1, G2, G4, G13).
std::optional<parity_fact> serve_rank::capture_fact() const {
  std::string text;
  if (const auto* const cell = cell_here(serve_role::decode); cell != nullptr && cell->pipeline_parallel == 1) {
    if (!rank_.on_device() || services_.devices_of(cell->ranks) == cell->ranks.size())
      text += fmt::format("steps of powers of two up to {} rows, sums inside\n", rank_.spec.limits.batch_max);
  }
  if (cell_here(serve_role::encode))
    text += fmt::format("towers of the last {} sizes of pictures\n", limits::tower_sizes_max);
  if (text.empty())
    return std::nullopt;
  return parity_fact{"capture of " + rank_.plan_of_self().pool, rank_.captures ? std::move(text) : "nothing"};
}

/// Of a rank that computes: binds the ranks of its pool, which serve the same requests. What cannot be stated here
/// because the device cannot be used is said by name when its operations are opened.
std::optional<parity_fact> serve_rank::numerics_fact() const {
  if (!(cell_here(serve_role::encode) || cell_here(serve_role::prefill) || cell_here(serve_role::decode)))
    return std::nullopt;
  auto stated = gpu::numerics_of(services_.device());
  if (!stated)
    return std::nullopt;
  return parity_fact{"numerics of " + rank_.plan_of_self().pool, *std::move(stated)};
}

// ---- start ------------------------------------------------------------------------------------------------------

result<void> serve_rank::load(time_point deadline) {
  for (const auto id : rank_.plan.cells_on(rank_.self)) {
    const auto& cell = rank_.plan.cell(id);
    if (!rank_.plan.of->row(cell.role).computes)
      continue;
    auto one = std::make_unique<cell_parts>();
    one->cell = id;
    cells_.emplace(cell.role, std::move(one));
    auto& here = *cells_.at(cell.role);
    auto steps = make_steps(cell, here.board, deadline);
    if (!steps)
      return tl::unexpected<failure>{steps.error()};
    here.steps = *std::move(steps);
  }
  if (cell_here(serve_role::front))
    if (auto started = start_front(); !started)
      return started;
  start_cells();
  return {};
}

result<std::shared_ptr<cell_steps>> serve_rank::make_steps(const cell_plan& cell, const admission_table& board,
                                                           time_point deadline) {
  cell_steps::parts parts;
  auto& runs = parts.runs;
  runs.cell = cell;
  runs.place = *cell.place_of(rank_.self);
  runs.facts = rank_.facts;
  runs.batch_max = rank_.spec.limits.batch_max;
  runs.step_deadline = rank_.step_max();
  runs.captures = &rank_.captures;
  runs.steps_ahead = rank_.on_device() ? 1 : 0;
  auto groups = services_.join(
      cell, [&] { return give_model(cell, runs); }, deadline);
  if (!groups)
    return tl::unexpected<failure>{groups.error()};
  runs.cell_group = std::move(groups->cell);
  runs.mesh = std::move(groups->mesh);
  parts.plans = std::move(groups->plans);
  return std::make_shared<cell_steps>(rank_, std::move(parts), board);
}

result<void> serve_rank::give_model(const cell_plan& cell, gpu::step_runner::parts& runs) {
  const auto share = gpu::models::shard_at(cell, runs.place);
  const base::flight_span loading{record_of(start_part::weights)};
  const auto area = [&](const char* purpose) {
    const auto found = rank_.regions.find(purpose);
    return found == rank_.regions.end()
               ? gpu::slot_area{}
               : gpu::slot_area{found->second.bytes, found->second.card.slot_bytes,
                                found->second.kind == fabric::memory_kind::device ? gpu::device_kind::cuda
                                                                                  : gpu::device_kind::cpu};
  };
  if (cell.role == serve_role::encode) {
    auto tower = folder_->load_vision(share);
    if (!tower)
      return tl::unexpected<failure>{tower.error()};
    runs.vision = *std::move(tower);
    runs.pixels = area("pixels");
    runs.rows = area("tower");
    return {};
  }
  const auto layout = gpu::models::layout_at(rank_.facts, rank_.spec, cell, runs.place);
  const auto& pool = rank_.regions.at(cell.role == serve_role::prefill ? "kv.prefill" : "kv.decode");
  auto text = folder_->load_text(share, layout, pool.bytes);
  if (!text)
    return tl::unexpected<failure>{text.error()};
  runs.text = *std::move(text);
  if (cell.role == serve_role::prefill)
    runs.rows = area("rows");
  return {};
}

result<void> serve_rank::start_front() {
  auto words = gpu::models::tokenizer::open(rank_.model);
  if (!words)
    return tl::unexpected<failure>{words.error()};
  auto ingest = services_.system().spawn<ingest_actor, caf::detached>(rank_, *words);
  rank_.roles->publish(
      serve_role::front,
      services_.system().spawn<front_actor>(
          rank_,
          front_actor::parts{.words = *std::move(words),
                             .ingest = std::move(ingest),
                             .on_drained = [this] { services_.drained(); },
                             .tell_door = [this](auto client, auto what) { chat_->tell(client, std::move(what)); }}));
  return services_.check_files();
}

void serve_rank::start_cells() {
  for (auto& [kind, one] : cells_) {
    one->executor = services_.system().spawn<executor_actor, caf::detached>(
        rank_, one->steps,
        executor_actor::options{.tokens = token_sink(),
                                .turn = rank_.turns->claim("an executor stands still between two steps"),
                                .nap = services_.nap()});
    const auto publish = [&, role = kind](caf::actor made) { rank_.roles->publish(role, std::move(made)); };
    if (kind == serve_role::encode)
      publish(services_.system().spawn<encode_actor>(rank_, one->cell, one->executor));
    else if (kind == serve_role::prefill)
      publish(services_.system().spawn<prefill_actor>(rank_, one->cell, one->executor, one->board));
    else
      publish(services_.system().spawn<decode_actor>(rank_, one->cell, one->executor, one->board));
  }
}

/// Tokens go straight to the front.
executor_actor::token_sink serve_rank::token_sink() {
  if (rank_.plan.front() == rank_.self)
    return [this](const tokens& step) -> result<void> {
      caf::anon_send(*rank_.roles->find(serve_role::front), envelope<tokens>{rank_.self, step});
      return {};
    };
  // The batch is bounded, and so is what is kept for it: nothing is allocated once a full batch has been sent.
  return [this](const tokens& step) -> result<void> {
    token_bytes_.clear();
    encode_payload(step, token_bytes_);
    return services_.send_to_front(tokens::type, token_bytes_, base::now() + rank_.step_max());
  };
}

result<void> serve_rank::warm() {
  for (const auto id : rank_.plan.cells_on(rank_.self)) // in plan order, as every member of the cell does
    if (const auto found = cells_.find(rank_.plan.cell(id).role); found != cells_.end())
      if (auto done = found->second->steps->warm(); !done)
        return done;
  return {};
}

void serve_rank::serve() {
  for (auto& [kind, one] : cells_)
    caf::anon_send(one->executor, run_atom::value);
  if (const auto* const encode = rank_.roles->find(serve_role::encode))
    caf::anon_send(*encode, start_atom::value);
  service_.serves();
}

// ---- while it serves --------------------------------------------------------------------------------------------

std::vector<door::route> serve_rank::routes(door::door& at) {
  chat_ = std::make_unique<chat_door>(rank_, service_, at);
  return chat_->routes();
}

void serve_rank::drain() {
  service_.drains();
  if (const auto* const front = rank_.roles->find(serve_role::front))
    caf::anon_send(*front, drain_atom::value);
}

/// Requests of the front go elsewhere; whoever holds a grant of theirs forgets it (K1).
void serve_rank::lose(const lost& news) {
  service_.lose(news);
  rank_.roles->tell_all(news);
}

void serve_rank::writers_gone(const std::set<rank_id>& ranks, bool bytes_may_arrive) {
  for (const auto role : {serve_role::prefill, serve_role::decode})
    if (const auto* const found = rank_.roles->find(role))
      caf::anon_send(*found, actors::writers_gone{{ranks.begin(), ranks.end()}, bytes_may_arrive});
}

void serve_rank::recover(const recovered& news) {
  service_.recover(news);
  if (const auto* const front = rank_.roles->find(serve_role::front))
    caf::anon_send(*front, news);
}

result<void> serve_rank::accept_client_frame(fabric::link_queues::key client, const frame_view& frame) {
  const auto& front = *rank_.roles->find(serve_role::front); // there before clients are accepted
  const auto take = [&]<class Message>(Message body) -> result<void> {
    if (auto read = decode_frame(frame, body); !read)
      return read;
    caf::anon_send(front, from_client<Message>{client, std::move(body)});
    return {};
  };
  if (frame.header.type == ask::type)
    return take(ask{});
  if (frame.header.type == picture_chunk::type)
    return take(picture_chunk{});
  if (frame.header.type == withdraw::type)
    return take(withdraw{});
  return fail(fault::unknown_type, std::string{name(frame.header.type)} + " from a client");
}

void serve_rank::client_gone(fabric::link_queues::key client) {
  caf::anon_send(*rank_.roles->find(serve_role::front), actors::client_gone{client});
}

std::pair<message_type, std::vector<std::byte>> serve_rank::refusal(const failure& why) const {
  std::vector<std::byte> payload;
  encode_payload(refused{.tag = 0, .code = static_cast<std::uint16_t>(why.code), .message = why.what}, payload);
  return {refused::type, std::move(payload)};
}

void serve_rank::stop() {
  if (chat_)
    chat_->close();
  for (auto& [kind, one] : cells_)
    if (one->executor)
      caf::anon_send(one->executor, stop_atom::value);
}

} // namespace troupe::actors
