#include "runtime/cluster/rank_runtime.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

#include "actors/clock_actor.hpp"
#include "actors/watchdog_actor.hpp"
#include "fabric/transfers/drilled_engine.hpp"
#include "fabric/transfers/recorded_transfers.hpp"
#include "fabric/transfers/staged_engine.hpp"
#include "gpu/backend.hpp"
#include "runtime/base/assert.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/digest.hpp"
#include "runtime/base/fault_point.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/base/log.hpp"
#include "runtime/cluster/build_id.hpp"
#include "runtime/cluster/environment_fact.hpp"
#include "runtime/cluster/job_directory.hpp"
#include "runtime/cluster/model_fact.hpp"
#include "runtime/cluster/rank_drills.hpp"

namespace troupe::cluster {

using namespace protocols;

namespace {

/// Role actors and links share these; executors and the front's ingest have threads of their own.
constexpr std::size_t scheduler_threads = 2;
/// An actor that always has messages comes back after so many, which is how it is seen to get on (C4).
constexpr std::size_t messages_a_turn = 64;
/// Whom the watchdog watches beside the links: four roles, ingest and its readers, three executors, the main thread,
/// the actor system's clock, the threads of the transfer engine (its own, two of a staged one).
constexpr std::size_t watched_max = 13 + protocols::limits::readers;
/// An idle thread wakes this often at most; each wake costs microseconds.
constexpr std::chrono::milliseconds nap_max{500};

template <class Act>
result<void> timed(start_part part, const Act& act) {
  base::flight_span span{record_of(part)};
  return span.ends(result<void>{act()});
}

} // namespace

rank_runtime::rank_runtime(const launch& start, cluster_spec spec, cluster_plan plan, rank_id self,
                           std::string spec_digest, events calls)
    : calls_(std::move(calls)), run_directory_(start.run_directory), spec_digest_(std::move(spec_digest)),
      edges_(plan, self, start.born, start.epoch, recovery_deadlines{spec.timeouts}) {
  context_.spec = std::move(spec);
  context_.plan = std::move(plan);
  context_.self = self;
  context_.born = start.born;
  context_.epoch = start.epoch;
  context_.model = context_.spec.model_path;
  context_.wire = &wire_;
  context_.fail_rank = calls_.on_failure;
  context_.turns = std::make_unique<base::progress_table>(context_.plan.ranks.size() + watched_max);
  signs_ = std::vector<fabric::wire::peer_signs>(context_.plan.ranks.size());
  identity_ = {
      .rank = self, .born = start.born, .job_token = start.job_token, .build = build_id(), .epoch = start.epoch};
  config_.set("scheduler.policy", caf::atom("sharing"));
  config_.set("scheduler.max-threads", scheduler_threads);
  config_.set("scheduler.max-throughput", messages_a_turn);
  system_ = std::make_unique<caf::actor_system>(config_);
  const auto make_program = actors::find_rank_program(context_.spec.program);
  TROUPE_ASSERT("program", make_program != nullptr);
  program_ = make_program(context_, *this);
}

rank_runtime::~rank_runtime() {
  stop();
}

std::size_t rank_runtime::devices_of(std::span<const rank_id> ranks) const {
  return devices_among(ranks).size();
}

result<void> rank_runtime::send_to_front(message_type type, std::span<const std::byte> payload, time_point deadline) {
  return fabric::send(*token_lane_, {.type = type}, payload, deadline);
}

result<endpoint> rank_runtime::open() {
  const auto& lanes = context_.spec.lanes;
  const auto number = std::to_string(context_.self.value);
  const bool over_tcp = lanes.control == control_lane::tcp;
  endpoint_ = {.rank = context_.self,
               .born = identity_.born,
               .unix_path = over_tcp ? std::string{} : run_directory_ + "/r" + number + ".sock",
               .tcp_address = over_tcp ? "127.0.0.1" : "",
               .tcp_port = 0,
               .fabric_address = {}};

  make_links();
  auto opened = fabric::listener::open(
      endpoint_.unix_path, endpoint_.tcp_address,
      lanes.tcp_port == 0 ? std::uint16_t{0} : static_cast<std::uint16_t>(lanes.tcp_port + context_.self.value),
      identity_,
      {.frame_bytes_max = context_.spec.limits.frame_bytes_max,
       .in_flight_bytes_max = 2 * std::size_t{context_.spec.limits.frame_bytes_max}},
      [this](const fabric::edge& between, const hello& said) { return validate_hello(between, said); },
      [this](const fabric::edge& between, const hello& said) { note_begun(between, said); });
  if (!opened)
    return tl::unexpected<failure>{opened.error()};
  listener_ = *std::move(opened);
  endpoint_.tcp_port = listener_->tcp_port();
  wire_.listen(
      std::move(listener_), [this](fabric::incoming lane) { on_incoming(std::move(lane)); },
      [](const std::string& line) { base::log_warning("refused: {}", line); });

  if (has_model())
    if (auto read = read_model(); !read)
      return tl::unexpected<failure>{read.error()};
  if (works())
    if (auto opened_too = open_transfers(); !opened_too)
      return tl::unexpected<failure>{opened_too.error()};
  wire_.beat(std::chrono::milliseconds{context_.spec.timeouts.heartbeat_ms}, [] {
    const auto here = base::flight().live();
    const auto active = here.activities();
    return heartbeat{.completed = here.progress(), .busy = std::ranges::any_of(active, [](const auto& thread) {
                                                     return thread.what.action == flight_action::step;
                                                   })};
  });
  wire_.start();
  start_watchdog();
  return endpoint_;
}

result<void> rank_runtime::read_model() {
  files_ = model_files_fact(context_.model);
  auto facts = gpu::models::read_facts(context_.model);
  if (!facts)
    return tl::unexpected<failure>{facts.error()};
  context_.facts = *std::move(facts);
  return {};
}

/// Device, engine and regions.
result<void> rank_runtime::open_transfers() {
  const auto& lanes = context_.spec.lanes;
  if (auto found = timed(start_part::device, [&] { return find_device(); }); !found)
    return found;
  auto engine = lanes.bulk == bulk_lane::fabric
                    ? fabric::make_fabric_engine({.self = context_.self,
                                                  .born = identity_.born,
                                                  .job_token = identity_.job_token,
                                                  .provider = lanes.fabric_provider,
                                                  .interface = lanes.interface})
                    : fabric::make_shared_memory_engine({.self = context_.self,
                                                         .born = identity_.born,
                                                         .job_token = identity_.job_token,
                                                         .unix_path = transfer_socket(context_.self),
                                                         .devices = device_memory_});
  if (!engine)
    return tl::unexpected<failure>{engine.error()};
  if (context_.by_way_of_host()) {
    context_.arrivals = std::make_shared<fabric::arrival_table>();
    engine = std::make_unique<fabric::staged_engine>(*std::move(engine), device_memory_, context_.arrivals);
  }
  transfers_ = fabric::record_transfers(fabric::drilled(*std::move(engine)));
  context_.transfers = transfers_.get();
  transfers_->be_watched({context_.turns.get(), nap()});
  if (auto done = timed(start_part::memory, [&] { return register_regions(); }); !done)
    return done;
  endpoint_.fabric_address = transfers_->address();
  return transfers_->start(program_->transfer_events());
}

/// Which GPU is this rank's, and its memory as peers can be given it.
result<void> rank_runtime::find_device() {
  const auto& place = context_.plan_of_self().device;
  if (context_.on_device()) {
    const auto count = gpu::count_devices(place.kind);
    if (!count)
      return tl::unexpected<failure>{count.error()};
    device_count_ = *count;
  }
  device_ = place.name_on(device_count_);
  take_device_faults(device_, context_.captures);
  if (!context_.on_device())
    return {};
  auto memory = gpu::open_device_memory(device_);
  if (!memory)
    return tl::unexpected<failure>{memory.error()};
  device_memory_ = *std::move(memory);
  base::log_info("computes on {}", device_);
  return {};
}

std::chrono::milliseconds rank_runtime::nap() const noexcept {
  return std::clamp(std::chrono::milliseconds{context_.spec.timeouts.progress_ms / 8}, std::chrono::milliseconds{1},
                    nap_max);
}

void rank_runtime::start_watchdog() {
  base::flight().beat(); // from here on silence tells
  const auto watchdog = system_->spawn<actors::watchdog_actor, caf::detached>(context_, signs_);
  caf::anon_send(watchdog, actors::run_atom::value);
  system_->spawn<actors::clock_actor>(context_, nap());
}

result<std::vector<parity_fact>> rank_runtime::facts() {
  std::vector<parity_fact> out{
      {"build", identity_.build},       {"wire", std::to_string(wire_version)},
      {"spec", spec_digest_},           {"groups", describe_groups(context_.plan)},
      {"device", context_.spec.device}, {"threads", std::to_string(context_.spec.limits.threads)},
      environment_fact(environ)};
  base::log_info("environment: {}", out.back().value.empty() ? "nothing set that matters" : out.back().value);
  if (works()) {
    auto stated = program_->facts();
    if (!stated)
      return tl::unexpected<failure>{stated.error()};
    std::ranges::move(*stated, std::back_inserter(out));
  }
  if (has_model()) {
    if (auto same = check_files(); !same)
      return tl::unexpected<failure>{same.error()};
    out.push_back(files_);
  }
  return out;
}

/// What was read since the files' digests were taken is what was stated of them (K11).
result<void> rank_runtime::check_files() const {
  if (model_files_fact(context_.model) == files_)
    return {};
  return fail(fault::config_invalid, fmt::format("{}: its files were replaced while they were read; valid here: files "
                                                 "that stay as they are while a job runs",
                                                 context_.model.string()));
}

result<void> rank_runtime::group(const roster& everybody, time_point deadline) {
  TROUPE_FAULT_POINT("rank.grouping");
  std::set<rank_id> all;
  for (const auto& rank : context_.plan.ranks)
    all.insert(rank.id);
  if (auto done =
          timed(start_part::edges,
                [&] { return make_lanes(everybody, deadline).and_then([&] { return attach_memory(all, deadline); }); });
      !done)
    return done;
  if (works())
    if (auto done = program_->load(deadline); !done)
      return done;
  if (works())
    take_deliveries(*program_, context_.self, calls_.on_peer_gone);
  return {};
}

result<void> rank_runtime::warm() {
  TROUPE_FAULT_POINT("rank.warming");
  return works() ? program_->warm() : result<void>{};
}

result<void> rank_runtime::serve() {
  if (works())
    program_->serve();
  if (context_.plan.is_front(context_.self)) {
    auto clients = fabric::listening_socket::at_unix(run_directory_ + "/front.sock", SOCK_STREAM);
    if (!clients)
      return tl::unexpected<failure>{clients.error()};
    clients_max_ = find_room_for_clients();
    wire_.accept_clients(*std::move(clients),
                         [this](base::unique_fd socket, bool crowded) { on_client(std::move(socket), crowded); });
  }
  return {};
}

void rank_runtime::drain() {
  if (works())
    program_->drain();
}

result<void> rank_runtime::lose(const lost& news) {
  {
    const std::lock_guard lock{mutex_};
    if (auto good = edges_.on_lost(news); !good)
      return good;
    std::erase_if(lanes_, [&](const auto& each) { return edges_.is_dropped(each.first, news); });
    for (const auto rank : news.ranks)
      std::erase_if(announced_, [&](const auto& each) { return each.first.first == rank; });
  }
  for (const auto rank : news.ranks) {
    signs_[rank.value].linked.store(false);
    std::erase_if(wired_, [&](const auto& each) {
      if (each.first.peer != rank)
        return false;
      wire_.remove(each.second);
      return true;
    });
  }
  if (works())
    program_->lose(news);
  return {};
}

void rank_runtime::on_recovered(const recovered& news) {
  if (works())
    program_->recover(news);
}

result<void> rank_runtime::rejoin(const protocols::rejoin& order, const std::function<bool()>& urgent) {
  result<edge_machine::admission> begun;
  {
    const std::lock_guard lock{mutex_};
    begun = edges_.on_rejoin(order, base::now());
  }
  if (!begun)
    return tl::unexpected<failure>{begun.error()};
  for (const auto& peer : order.ranks)
    everybody_[peer.rank.value] = peer;
  for (const auto& which : begun->lanes) {
    auto lane = take_lane(which, begun->by, urgent);
    if (!lane)
      return tl::unexpected<failure>{at_edge_with(which.peer, lane.error())};
    adopt(which, *std::move(lane));
  }
  if (works())
    program_->writers_gone(begun->ranks, bytes_may_arrive(context_.spec.lanes.bulk));
  return attach_memory(begun->ranks, begun->by, urgent);
}

void rank_runtime::stop() {
  if (stopping_)
    return;
  stopping_ = true;
  if (works())
    program_->stop();
  wire_.stop();
  if (transfers_)
    transfers_->stop();
}

} // namespace troupe::cluster
