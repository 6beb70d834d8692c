#include "fabric/shared_memory_engine.hpp"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "runtime/base/assert.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::fabric {

using base::unique_fd;
using protocols::fail;
using protocols::failure;
using protocols::fault;
using protocols::rank_id;
using protocols::result;

namespace {

/// What is copied, and how many writes are begun, before sockets and completions are looked at again.
constexpr std::uint64_t turn_bytes = std::uint64_t{1} << 20;
constexpr int turn_writes = 64;
constexpr std::size_t landed_batch = 64;
/// Every cause to wake rings; the bound is a belt, and costs one wake a second.
constexpr int sleep_ms_max = 1000;
/// Between looks at deadlines while a peer's ring has no room.
constexpr int sleep_ms_unpublished = 5;

std::string of_rank(rank_id rank) {
  return "rank " + std::to_string(rank.value);
}

} // namespace

result<std::unique_ptr<transfer_engine>> make_shared_memory_engine(shared_memory_options options) {
  return shared_memory_engine::create(std::move(options));
}

result<std::unique_ptr<transfer_engine>> shared_memory_engine::create(shared_memory_options options) {
  if (options.self.value > writer_rank_max || options.queue_max == 0)
    return fail(fault::config_invalid, of_rank(options.self) + " (at most " + std::to_string(writer_rank_max) +
                                           ") with a queue of " + std::to_string(options.queue_max) + " (at least 1)");
  auto listening = listen_at(options.unix_path);
  if (!listening)
    return tl::unexpected{std::move(listening.error())};
  auto bell = transfer_bell::create();
  if (!bell)
    return tl::unexpected{std::move(bell.error())};
  return std::unique_ptr<transfer_engine>{
      new shared_memory_engine{std::move(options), std::move(*listening), std::move(*bell)}};
}

shared_memory_engine::shared_memory_engine(shared_memory_options options, unique_fd listening, transfer_bell bell)
    : options_(std::move(options)), bell_(std::move(bell)), posted_(options_.queue_max),
      door_(options_, std::move(listening)), unpublished_(options_.queue_max) {}

shared_memory_engine::~shared_memory_engine() {
  stop();
  ::unlink(options_.unix_path.c_str());
}

// ---- any thread ----------------------------------------------------------------------------------------------------

result<local_region> shared_memory_engine::register_region(std::size_t bytes) {
  const std::lock_guard lock{mutex_};
  if (started_)
    return fail(fault::illegal_transition, "regions are registered before the engine starts");
  auto memory = region_memory::create(bytes, "troupe-region");
  if (!memory)
    return tl::unexpected{std::move(memory.error())};
  regions_.push_back(std::move(*memory));
  const auto id = static_cast<std::uint32_t>(regions_.size());
  return local_region{.id = id, .bytes = regions_.back().bytes(), .card = {.region = id, .bytes = bytes}};
}

result<void> shared_memory_engine::start(transfer_events events) {
  const std::lock_guard lock{mutex_};
  if (started_)
    return fail(fault::illegal_transition, "the engine was started before");
  TROUPE_ASSERT("transfer_events", events.on_delivered && events.on_landed && events.on_peer_gone);
  events_ = std::move(events);
  started_ = true;
  thread_ = std::thread{[this] { run(); }};
  return {};
}

result<void> shared_memory_engine::attach_peer(const protocols::endpoint& to, protocols::time_point deadline) {
  if (to.rank == options_.self)
    return {};
  const auto has_joined = [&] {
    const auto found = peers_.find(to.rank);
    return found != peers_.end() && found->second->born == to.born;
  };
  std::unique_lock lock{mutex_};
  if (!started_)
    return fail(fault::illegal_transition, "peers are attached after the engine was started");
  if (has_joined())
    return {};
  if (options_.self < to.rank) {
    lock.unlock();
    auto made = door_.connect(to, bell_, deadline);
    if (!made)
      return tl::unexpected{std::move(made.error())};
    lock.lock();
    joining_.push_back(std::move(*made));
    bell_.ring();
  }
  if (!changed_.wait_until(lock, deadline, [&] { return stopping_ || has_joined(); }))
    return fail(fault::timeout,
                of_rank(to.rank) + " of generation " + std::to_string(to.born.value) + " did not attach");
  return stopping_ ? fail(fault::shutting_down, "the engine stops") : result<void>{};
}

result<void> shared_memory_engine::attach_region(rank_id rank, const protocols::region_card& card) {
  const auto judge = [&](const region_memory& memory) -> result<void> {
    if (memory.bytes().size() != card.bytes)
      return fail(fault::out_of_bounds, "region " + std::to_string(card.region) + " of " + of_rank(rank) + " has " +
                                            std::to_string(memory.bytes().size()) + " bytes, its card says " +
                                            std::to_string(card.bytes));
    return {};
  };
  std::unique_lock lock{mutex_};
  if (rank == options_.self) {
    if (card.region == 0 || card.region > regions_.size())
      return fail(fault::transfer_failed, "this rank has no region " + std::to_string(card.region));
    return judge(regions_[card.region - 1]);
  }
  const auto found = peers_.find(rank);
  if (found == peers_.end())
    return fail(fault::peer_gone, of_rank(rank) + " is not attached");
  const peer_pointer from = found->second;
  if (const auto attached = from->regions.find(card.region); attached != from->regions.end())
    return judge(attached->second);

  if (auto asked = send_note(from->socket.get(), {.kind = note_kind::fetch, .region = card.region}); !asked)
    return fail(fault::transfer_failed, asked.error().what);
  const auto is_answered = [&] { return stopping_ || from->gone || from->fetched.contains(card.region); };
  if (!changed_.wait_until(lock, base::now() + note_patience, is_answered))
    return fail(fault::transfer_failed,
                of_rank(rank) + " did not hand region " + std::to_string(card.region) + " over");
  auto answer = from->fetched.extract(card.region);
  if (answer.empty())
    return fail(fault::peer_gone, from->gone ? from->gone->what : "the engine stops");
  if (!answer.mapped())
    return tl::unexpected{std::move(answer.mapped().error())};
  const auto judgement = judge(*answer.mapped());
  if (judgement)
    from->regions.emplace(card.region, std::move(*answer.mapped()));
  return judgement;
}

result<void> shared_memory_engine::post(write_request request, ready_event) {
  bool wake = false;
  {
    const std::lock_guard lock{mutex_};
    if (!started_ || stopping_)
      return fail(fault::shutting_down, "the engine does not run");
    accepted write;
    std::span<std::byte> target;
    if (request.source_region == 0 || request.source_region > regions_.size())
      return fail(fault::out_of_bounds, "this rank has no region " + std::to_string(request.source_region));
    if (request.to == options_.self) {
      if (request.target_region == 0 || request.target_region > regions_.size())
        return fail(fault::out_of_bounds, "this rank has no region " + std::to_string(request.target_region));
      target = regions_[request.target_region - 1].bytes();
    } else {
      const auto found = peers_.find(request.to);
      if (found == peers_.end())
        return fail(fault::peer_gone, of_rank(request.to) + " is not attached");
      const auto region = found->second->regions.find(request.target_region);
      if (region == found->second->regions.end())
        return fail(fault::out_of_bounds, "region " + std::to_string(request.target_region) + " of " +
                                              of_rank(request.to) + " is not attached");
      target = region->second.bytes();
      write.to = found->second;
    }
    const auto source = regions_[request.source_region - 1].bytes();
    if (auto judgement = check_request(request, source.size(), target.size()); !judgement)
      return judgement;
    if (unfinished_ == options_.queue_max)
      return fail(fault::queue_full, std::to_string(unfinished_) + " writes are under way");
    ++unfinished_;
    write.request = std::move(request);
    write.source = source.data();
    write.target = target.data();
    posted_.push(std::move(write));
    wake = std::exchange(asleep_, false);
  }
  if (wake)
    bell_.ring();
  return {};
}

void shared_memory_engine::stop() noexcept {
  TROUPE_ASSERT("transfer_engine", thread_.get_id() != std::this_thread::get_id());
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
  }
  changed_.notify_all();
  bell_.ring();
  if (thread_.joinable())
    thread_.join();
}

// ---- engine thread -------------------------------------------------------------------------------------------------

void shared_memory_engine::run() noexcept {
  ::pthread_setname_np(::pthread_self(), "troupe-copy");
  const auto goes_on = [this] {
    const std::lock_guard lock{mutex_};
    return !stopping_;
  };
  while (goes_on()) {
    adopt_joining();
    // Not `||`: each of them has to have its turn.
    const bool busy = static_cast<int>(take_landed()) + work_on_writes() + publish_waiting() != 0;
    watch(busy);
  }
  fail_all(nullptr, {fault::transfer_failed, "the engine stopped"});
  const std::lock_guard lock{mutex_};
  peers_.clear();
  live_.clear();
  door_.close();
}

bool shared_memory_engine::take_landed() {
  bool worked = false;
  for (std::size_t i = live_.size(); i-- > 0;) {
    const auto taken = take_landed(*live_[i]);
    if (!taken)
      lose(peer_pointer{live_[i]}, taken.error());
    worked |= !taken || *taken;
  }
  return worked;
}

result<bool> shared_memory_engine::take_landed(transfer_peer& from) {
  std::array<std::uint64_t, landed_batch> words;
  const auto taken = from.incoming.pop(words);
  if (!taken)
    return tl::unexpected{taken.error()};
  if (*taken != 0 && from.incoming.take_room_wanted())
    from.bell.ring();
  for (std::size_t i = 0; i < *taken; ++i)
    events_.on_landed(from.rank, words[i] & callers_bits);
  return *taken != 0;
}

bool shared_memory_engine::work_on_writes() {
  std::uint64_t budget = turn_bytes;
  for (int begun = 0; begun < turn_writes && budget > 0; ++begun) {
    if (!copying_) {
      const std::lock_guard lock{mutex_};
      if (posted_.empty())
        return begun > 0;
      copying_ = posted_.pop();
    }
    accepted& write = *copying_;
    if (is_over(write)) {
      // told already
    } else if (!copy_some(write.walk, write.request.pieces, write.source, write.target, budget)) {
      return true;
    } else if (!publish(write)) {
      unpublished_.push(std::move(write));
    }
    copying_.reset();
  }
  return true;
}

bool shared_memory_engine::is_over(accepted& write) {
  if (write.to && write.to->gone)
    finish(write, tl::unexpected{*write.to->gone});
  else if (base::now() >= write.request.deadline)
    finish(write, fail(fault::timeout, "a write to " + of_rank(write.request.to)));
  else
    return false;
  return true;
}

bool shared_memory_engine::publish(accepted& write) {
  if (!write.to) {
    events_.on_landed(options_.self, write.request.completion_data);
  } else {
    if (!write.to->outgoing.push(completion_word(options_.self, write.request.completion_data)))
      return false;
    if (write.to->outgoing.take_reader_asleep())
      write.to->bell.ring();
  }
  finish(write, {});
  return true;
}

bool shared_memory_engine::publish_waiting() {
  bool worked = false;
  for (std::size_t left = unpublished_.size(); left > 0; --left) {
    accepted write = unpublished_.pop();
    if (is_over(write) || publish(write))
      worked = true;
    else
      unpublished_.push(std::move(write));
  }
  return worked;
}

void shared_memory_engine::finish(accepted& write, result<void> outcome) {
  {
    const std::lock_guard lock{mutex_};
    --unfinished_;
  }
  events_.on_delivered(write.request.cookie, std::move(outcome));
}

void shared_memory_engine::fail_all(const transfer_peer* of, const failure& cause) {
  std::vector<accepted> failed;
  const auto sieve = [&](transfer_queue<accepted>& queue) {
    for (std::size_t left = queue.size(); left > 0; --left) {
      accepted write = queue.pop();
      if (of == nullptr || write.to.get() == of)
        failed.push_back(std::move(write));
      else
        queue.push(std::move(write));
    }
  };
  if (copying_ && (of == nullptr || copying_->to.get() == of)) {
    failed.push_back(std::move(*copying_));
    copying_.reset();
  }
  sieve(unpublished_);
  {
    const std::lock_guard lock{mutex_};
    sieve(posted_);
  }
  for (accepted& write : failed)
    finish(write, tl::unexpected{cause});
}

void shared_memory_engine::lose(const peer_pointer& left, const failure& cause) {
  // What had landed before the end is whole and counts.
  for (auto taken = take_landed(*left); taken && *taken;)
    taken = take_landed(*left);
  {
    const std::lock_guard lock{mutex_};
    left->gone = failure{fault::peer_gone, of_rank(left->rank) + ": " + cause.what};
    if (const auto found = peers_.find(left->rank); found != peers_.end() && found->second == left)
      peers_.erase(found);
  }
  changed_.notify_all();
  std::erase(live_, left);
  fail_all(left.get(), *left->gone);
  events_.on_peer_gone(left->rank, *left->gone);
}

// ---- engine thread: waiting ----------------------------------------------------------------------------------------

void shared_memory_engine::watch(bool busy) {
  const bool armed = !busy && arm();
  const int patience = !armed ? 0 : unpublished_.empty() ? door_.patience_ms(sleep_ms_max) : sleep_ms_unpublished;
  watched_.clear();
  watched_.push_back({bell_.file(), POLLIN, 0});
  for (const auto& with : live_)
    watched_.push_back({with->socket.get(), POLLIN, 0});
  const auto peers = live_.size();
  door_.watch(watched_);
  const int woken = ::poll(watched_.data(), watched_.size(), patience);
  if (armed)
    disarm();
  if (woken > 0) {
    if (watched_[0].revents != 0)
      bell_.hush();
    // Backwards, since a peer that is lost leaves `live_`.
    for (std::size_t i = peers; i-- > 0;)
      if (watched_[1 + i].revents != 0)
        hear(peer_pointer{live_[i]});
  }
  const auto highest = [this](rank_id rank) {
    const auto found = peers_.find(rank);
    return found == peers_.end() ? protocols::generation{} : found->second->born;
  };
  for (peer_pointer& joined : door_.step(std::span{watched_}.subspan(1 + peers), bell_, highest))
    adopt(std::move(joined));
}

bool shared_memory_engine::arm() {
  {
    const std::lock_guard lock{mutex_};
    if (stopping_ || !posted_.empty() || !joining_.empty())
      return false;
    asleep_ = true;
  }
  const bool quiet = std::all_of(live_.begin(), live_.end(), [](const auto& from) { return from->incoming.arm(); });
  if (!quiet)
    disarm();
  return quiet;
}

void shared_memory_engine::disarm() {
  for (const auto& from : live_)
    from->incoming.disarm();
  const std::lock_guard lock{mutex_};
  asleep_ = false;
}

// ---- engine thread: peers ------------------------------------------------------------------------------------------

void shared_memory_engine::adopt_joining() {
  std::vector<peer_pointer> joining;
  {
    const std::lock_guard lock{mutex_};
    joining.swap(joining_);
  }
  for (peer_pointer& joined : joining)
    adopt(std::move(joined));
}

void shared_memory_engine::adopt(peer_pointer joined) {
  const auto before =
      std::find_if(live_.begin(), live_.end(), [&](const auto& it) { return it->rank == joined->rank; });
  if (before != live_.end())
    lose(peer_pointer{*before}, {fault::peer_gone, "generation " + std::to_string(joined->born.value) +
                                                       " took the place of " + std::to_string((*before)->born.value)});
  live_.push_back(joined);
  {
    const std::lock_guard lock{mutex_};
    peers_[joined->rank] = std::move(joined);
  }
  changed_.notify_all();
}

void shared_memory_engine::hear(const peer_pointer& from) {
  auto heard = receive_note(from->socket.get());
  if (!heard)
    return lose(from, heard.error());
  if (!*heard)
    return;
  auto& [note, files] = **heard;
  switch (note.kind) {
  case note_kind::fetch: {
    transfer_note answer{.kind = note_kind::region, .region = note.region};
    std::array<int, 1> file{-1};
    if (note.region != 0 && note.region <= regions_.size()) {
      answer.bytes = regions_[note.region - 1].bytes().size();
      file[0] = regions_[note.region - 1].file();
    }
    // An asker that does not read its answers learns of it by its own deadline.
    (void)send_note(from->socket.get(), answer, std::span{file}.first(file[0] < 0 ? 0 : 1));
    return;
  }
  case note_kind::region: {
    auto memory =
        files[0] ? region_memory::map(std::move(files[0]), note.bytes)
                 : fail(fault::transfer_failed, of_rank(from->rank) + " has no region " + std::to_string(note.region));
    {
      const std::lock_guard lock{mutex_};
      from->fetched.insert_or_assign(note.region, std::move(memory));
    }
    changed_.notify_all();
    return;
  }
  case note_kind::hello:
  case note_kind::welcome:
  case note_kind::refuse:
    return lose(from, {fault::bad_value, "it says hello again"});
  }
  lose(from, {fault::bad_value, "an unknown note"});
}

} // namespace troupe::fabric
