#include "runtime/cluster/rank_runtime.hpp"

#include <unistd.h>

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "actors/clock_actor.hpp"
#include "actors/link_actor.hpp"
#include "actors/watchdog_actor.hpp"
#include "runtime/base/assert.hpp"
#include "runtime/base/fault_point.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/base/log.hpp"
#include "runtime/cluster/environment_fact.hpp"
#include "runtime/cluster/model_fact.hpp"
#include "runtime/cluster/rank_drills.hpp"

namespace troupe::cluster {

using namespace protocols;

namespace {

/// Role actors and links share these; executors and the front's ingest have threads of their own.
constexpr std::size_t scheduler_threads = 2;
/// An actor that always has messages comes back after so many, which is how it is seen to get on (C4).
constexpr std::size_t messages_a_turn = 64;
/// Whom the watchdog watches beside the links and the program's own: the main thread, the actor system's clock, the
/// threads of the transfer engine (its own, two of a staged one), the door.
constexpr std::size_t watched_max = 6;
/// An idle thread wakes this often at most; each wake costs microseconds.
constexpr std::chrono::milliseconds nap_max{500};

} // namespace

rank_runtime::rank_runtime(const launch& start, cluster_spec spec, cluster_plan plan, rank_id self,
                           std::string spec_digest, events calls)
    : calls_(std::move(calls)), run_directory_(start.run_directory), spec_digest_(std::move(spec_digest)),
      context_(std::move(spec), std::move(plan), self, start.born, start.epoch), device_(context_),
      edges_(context_, start,
             {.on_frame = [this](const frame_view& frame) { return program_->accept_frame(frame); },
              .writes = [this](rank_id owner, const std::string& purpose) { return memory_.writes(owner, purpose); },
              .on_peer_gone = calls_.on_peer_gone}),
      memory_(context_, device_, edges_,
              {.run_directory = start.run_directory, .job_token = start.job_token, .nap = nap()}),
      groups_(context_, device_, edges_) {
  context_.model = context_.spec.model_path;
  context_.wire = &edges_.wire();
  context_.fail_rank = calls_.on_failure;
  context_.turns =
      std::make_unique<base::progress_table>(context_.plan.ranks.size() + watched_max + context_.plan.of->watched_max);
  context_.counted = std::make_unique<base::counter_table>(metrics_at(context_.plan, self), context_.plan.ranks.size());
  if (context_.plan.is_front(self))
    context_.sight = std::make_unique<actors::cluster_sight>(context_.plan, context_.spec);
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

result<void> rank_runtime::send_to_front(message_type type, std::span<const std::byte> payload, time_point deadline) {
  return fabric::send(edges_.token_lane(), {.type = type}, payload, deadline);
}

result<endpoint> rank_runtime::open() {
  make_links();
  auto here = edges_.listen(run_directory_);
  if (!here)
    return here;
  if (has_model())
    if (auto read = read_model(); !read)
      return tl::unexpected<failure>{read.error()};
  if (works()) {
    base::flight_span finding{record_of(start_part::device)};
    if (auto found = finding.ends(device_.find()); !found)
      return tl::unexpected<failure>{found.error()};
  }
  if (works()) {
    auto address = memory_.open(*program_);
    if (!address)
      return tl::unexpected<failure>{address.error()};
    here->fabric_address = *std::move(address);
  }
  if (works())
    if (auto opened = open_door(); !opened)
      return tl::unexpected<failure>{opened.error()};
  edges_.start();
  start_watchdog();
  return here;
}

/// A link is there before any lane is driven, since what a frame is answered with goes by links; until it is told of a
/// lane, what it is given is dropped as what is sent to the dead.
void rank_runtime::make_links() {
  for (const auto& [peer, channel, group] : edges_.planned())
    if (channel == channel_kind::control)
      context_.links[peer] = system_->spawn<actors::link_actor>(context_, peer);
}

result<void> rank_runtime::read_model() {
  files_ = model_files_fact(context_.model);
  auto facts = gpu::models::read_facts(context_.model);
  if (!facts)
    return tl::unexpected<failure>{facts.error()};
  context_.facts = *std::move(facts);
  return {};
}

std::chrono::milliseconds rank_runtime::nap() const noexcept {
  return std::clamp(std::chrono::milliseconds{context_.spec.timeouts.progress_ms / 8}, std::chrono::milliseconds{1},
                    nap_max);
}

void rank_runtime::start_watchdog() {
  base::flight().beat(); // from here on silence tells
  const auto watchdog = system_->spawn<actors::watchdog_actor, caf::detached>(context_, edges_.signs());
  caf::anon_send(watchdog, actors::run_atom::value);
  system_->spawn<actors::clock_actor>(context_, nap());
}

result<std::vector<parity_fact>> rank_runtime::facts() {
  std::vector<parity_fact> out{
      {"build", edges_.self().build},   {"wire", std::to_string(wire_version)},
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
  {
    base::flight_span making{record_of(start_part::edges)};
    const auto made = edges_.make(everybody, deadline).and_then([&] { return memory_.attach(all, deadline); });
    if (auto done = making.ends(result<void>{made}); !done)
      return done;
  }
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
  if (!context_.plan.is_front(context_.self))
    return {};
  return clients_.emplace(context_.self, *program_, edges_.wire()).accept(run_directory_ + "/front.sock");
}

void rank_runtime::drain() {
  if (works())
    program_->drain();
}

result<void> rank_runtime::lose(const lost& news) {
  if (auto dropped = edges_.lose(news); !dropped)
    return dropped;
  if (works())
    program_->lose(news);
  return {};
}

void rank_runtime::on_recovered(const recovered& news) {
  if (works())
    program_->recover(news);
}

result<void> rank_runtime::rejoin(const protocols::rejoin& order, const std::function<bool()>& urgent) {
  const auto begun = edges_.rejoin(order, urgent);
  if (!begun)
    return tl::unexpected<failure>{begun.error()};
  if (works())
    program_->writers_gone(begun->ranks, bytes_may_arrive(context_.spec.lanes.bulk));
  return memory_.attach(begun->ranks, begun->by, urgent);
}

void rank_runtime::stop() {
  if (stopping_)
    return;
  stopping_ = true;
  if (works())
    program_->stop();
  door_.reset();
  edges_.stop();
  memory_.stop();
}

} // namespace troupe::cluster
