// Decides outside protocols: schedules one thread over rings, sockets and a device
// The engine's own thread: it copies, talks to sockets and calls events.

#include <poll.h>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "fabric/transfers/shared_memory_engine.hpp"
#include "protocols/transfers/write_course.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::fabric {

using protocols::fail;
using protocols::failure;
using protocols::fault;
using protocols::rank_id;
using protocols::result;

namespace {

/// What is copied, and how many writes are begun, before sockets and completions are looked at again.
constexpr std::uint64_t turn_bytes = std::uint64_t{1} << 20;
constexpr int turn_writes = 64;
constexpr std::size_t arrived_batch = 64;
/// Between looks at deadlines while a peer's ring has no room.
constexpr int sleep_ms_unpublished = 5;
/// A device's copy is looked at without a pause for so long, then so often.
constexpr std::chrono::microseconds device_spin{200};
constexpr std::chrono::microseconds device_nap{50};

} // namespace

void shared_memory_engine::run() noexcept {
  ::pthread_setname_np(::pthread_self(), "troupe-copy");
  while (goes_on()) {
    adopt_joining();
    // Not `||`: each of them has to have its turn.
    const bool busy = static_cast<int>(take_arrived()) + work_on_writes() + publish_waiting() != 0;
    watch(busy);
  }
  fail_all(nullptr, {fault::transfer_failed, "the engine stopped"});
  const std::lock_guard lock{mutex_};
  peers_.clear();
  live_.clear();
  door_.close();
}

bool shared_memory_engine::take_arrived() {
  bool worked = false;
  for (std::size_t i = live_.size(); i-- > 0;) {
    const auto taken = take_arrived(*live_[i]);
    if (!taken)
      lose(peer_pointer{live_[i]}, taken.error());
    worked |= !taken || *taken;
  }
  return worked;
}

result<bool> shared_memory_engine::take_arrived(transfer_peer& from) {
  std::array<std::uint64_t, arrived_batch> words;
  const auto taken = from.incoming.pop(words);
  if (!taken)
    return tl::unexpected{taken.error()};
  if (*taken != 0 && from.incoming.take_room_wanted())
    from.doorbell.ring();
  for (std::size_t i = 0; i < *taken; ++i)
    events_.on_arrived(from.rank, words[i] & callers_bits);
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
    if (!is_over(write)) {
      const auto whole = copy(write, budget);
      if (whole && !*whole)
        return true;
      if (!whole)
        finish(write, tl::unexpected{whole.error()});
      else if (!publish(write))
        unpublished_.push(std::move(write));
    }
    copying_.reset();
  }
  return true;
}

result<bool> shared_memory_engine::copy(accepted& write, std::uint64_t& budget) {
  if (!write.on_device)
    return copy_some(write.walk, write.request.pieces, write.source, write.target, budget);
  if (!write.begun) {
    if (auto begun =
            device_copies_->begin(write.request.pieces, write.source, write.target, write.reach, write.behind.get());
        !begun)
      return tl::unexpected{begun.error()};
    write.begun = base::now();
  }
  return device_copies_->finished();
}

bool shared_memory_engine::is_over(accepted& write) {
  auto goes_on = protocols::check_write(write.request.lease, write.request.deadline,
                                        {.to = write.request.to,
                                         .gone = write.to && write.to->gone ? &*write.to->gone : nullptr,
                                         .owner_now = write.to ? write.to->born : write.request.lease.owner,
                                         .handed_over = write.begun.has_value()},
                                        base::now());
  if (goes_on)
    return false;
  finish(write, std::move(goes_on));
  return true;
}

bool shared_memory_engine::publish(accepted& write) {
  if (!write.to) {
    events_.on_arrived(options_.self, write.request.completion_data);
  } else {
    if (!write.to->outgoing.push(completion_word(options_.self, write.request.completion_data)))
      return false;
    if (write.to->outgoing.take_reader_asleep())
      write.to->doorbell.ring();
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
  // What had arrived before the end is whole and counts.
  for (auto taken = take_arrived(*left); taken && *taken;)
    taken = take_arrived(*left);
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

// ---- waiting ----------------------------------------------------------------------------------------

void shared_memory_engine::watch(bool busy) {
  const bool armed = !busy && !spin() && arm();
  const std::chrono::nanoseconds patience =
      waits_long_for_device() ? device_nap
      : !armed                ? std::chrono::milliseconds{0}
               : std::chrono::milliseconds{unpublished_.empty() ? door_.patience_ms(static_cast<int>(nap_.count()))
                                                                : sleep_ms_unpublished};
  const timespec longest{.tv_sec = patience.count() / 1'000'000'000, .tv_nsec = patience.count() % 1'000'000'000};
  watched_.clear();
  watched_.push_back({doorbell_.file(), POLLIN, 0});
  for (const auto& with : live_)
    watched_.push_back({with->socket.get(), POLLIN, 0});
  const auto peers = live_.size();
  door_.watch(watched_);
  const int woken = ::ppoll(watched_.data(), watched_.size(), &longest, nullptr);
  if (armed)
    disarm();
  if (woken > 0) {
    if (watched_[0].revents != 0)
      doorbell_.hush();
    // Backwards, since a peer that is lost leaves `live_`.
    for (std::size_t i = peers; i-- > 0;)
      if (watched_[1 + i].revents != 0)
        read_notes(peer_pointer{live_[i]});
  }
  const auto highest = [this](rank_id rank) {
    const auto found = peers_.find(rank);
    return found == peers_.end() ? protocols::generation{} : found->second->born;
  };
  for (peer_pointer& joined : door_.step(std::span{watched_}.subspan(1 + peers), doorbell_, highest))
    adopt(std::move(joined));
}

/// A copy that is under way for so long is a large one, or stands behind what the device still computes: not worth a
/// core.
bool shared_memory_engine::waits_long_for_device() const {
  return copying_ && copying_->begun && base::now() >= *copying_->begun + device_spin;
}

/// Whether something came within the budget.
bool shared_memory_engine::spin() {
  const auto something_came = [this] {
    if (std::any_of(live_.begin(), live_.end(), [](const auto& from) { return from->incoming.has_words(); }))
      return true;
    const std::lock_guard lock{mutex_};
    return stopping_ || !posted_.empty() || !joining_.empty();
  };
  for (const auto until = base::now() + spin_budget_.next(); base::now() < until; relax())
    if (something_came()) {
      spin_budget_.found();
      return true;
    }
  spin_budget_.slept();
  return false;
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

// ---- peers ------------------------------------------------------------------------------------------

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

result<shared_region> shared_memory_engine::open_region(const transfer_note& described, base::unique_fd file) const {
  const auto share = [](auto&& memory) { return shared_region{std::move(memory)}; };
  if (file)
    return region_memory::map(std::move(file), described.bytes).map(share);
  if (described.on_device != 0 && options_.devices)
    return options_.devices->open(described.handle, described.bytes).map(share);
  const auto what = of_rank(rank_id{described.from}) + " has no region " + std::to_string(described.region);
  return fail(fault::transfer_failed, described.on_device != 0 ? what + " for a rank without a device" : what);
}

void shared_memory_engine::read_notes(const peer_pointer& from) {
  auto heard = receive_note(from->socket.get());
  if (!heard)
    return lose(from, heard.error());
  if (!*heard)
    return;
  auto& [note, files] = **heard;
  switch (note.kind) {
  case note_kind::fetch: {
    transfer_note answer{.kind = note_kind::region, .from = options_.self.value, .region = note.region};
    std::array<int, 1> file{-1};
    if (note.region != 0 && note.region <= regions_.size()) {
      const auto& asked = regions_[note.region - 1];
      answer.bytes = asked.bytes().size();
      if (asked.on_device()) {
        answer.on_device = 1;
        answer.handle = asked.handle();
      } else {
        file[0] = asked.file();
      }
    }
    // An asker that does not read its answers learns of it by its own deadline.
    (void)send_note(from->socket.get(), answer, std::span{file}.first(file[0] < 0 ? 0 : 1));
    return;
  }
  case note_kind::region: {
    auto memory = open_region(note, std::move(files[0]));
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
