#include "runtime/base/flight_recorder.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>

#include "runtime/base/assert.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/unique_fd.hpp"

namespace troupe::base {

using namespace protocols;

namespace {

/// Every word that other threads and processes read while it is written.
template <class T>
std::atomic_ref<T> shared(T& word) noexcept {
  static_assert(std::atomic_ref<T>::is_always_lock_free);
  return std::atomic_ref<T>{word};
}
template <class T>
T load(const T& word) noexcept {
  return shared(const_cast<T&>(word)).load(std::memory_order_acquire); // an atomic_ref of const comes with C++26
}
template <class T>
void put(T& word, T value) noexcept {
  shared(word).store(value, std::memory_order_release);
}

std::int64_t now_ns() noexcept {
  return now().time_since_epoch().count();
}

template <std::size_t Size>
void write_text(std::array<char, Size>& to, std::string_view text) noexcept {
  std::copy_n(text.begin(), std::min(text.size(), Size - 1), to.begin());
}

/// What one thread writes alone; a reader sees by the version that it was between two states.
void write_thread(flight_header::thread& to, const flight_header::thread& from) noexcept {
  const auto version = to.version;
  put(to.version, version + 1);
  put(to.since_ns, from.since_ns);
  put(to.until_ns, from.until_ns);
  put(to.call, from.call);
  put(to.item, from.item);
  put(to.place, from.place);
  put(to.kind, from.kind);
  put(to.version, version + 2);
}

void enter(flight_header::thread& here, const flight_record& begun) noexcept {
  const auto words = pack(begun);
  write_thread(here, {.version = 0,
                      .since_ns = begun.time_ns,
                      .until_ns = 0,
                      .progress = 0,
                      .call = words[1],
                      .item = words[2],
                      .place = words[5],
                      .kind = words[6]});
}

std::optional<flight_activity> read_thread(const flight_header::thread& from) noexcept {
  constexpr int tries_max = 8; // a thread that changes faster than this is not stuck, and the mixture says so too
  flight_activity out;
  for (int i = 0; i < tries_max; ++i) {
    const auto version = load(from.version);
    const auto what = unpack({static_cast<std::uint64_t>(load(from.since_ns)), load(from.call), load(from.item), 0, 0,
                              load(from.place), load(from.kind)});
    if (!what)
      return std::nullopt;
    out = {*what, load(from.until_ns), load(from.progress)};
    if (version % 2 == 0 && load(from.version) == version)
      break;
  }
  return out;
}

std::uint64_t* records_of(flight_header& ring) noexcept {
  return reinterpret_cast<std::uint64_t*>(&ring + 1);
}

std::atomic<std::uint64_t> openings = 0;

} // namespace

flight_live read_live(const flight_header& from) noexcept {
  flight_live out;
  out.pulse_ns = load(from.pulse_ns);
  out.life = static_cast<life_state>(load(from.life));
  const complaint_word word{load(from.complaint)};
  out.complaints = word.count();
  if (word.count() != 0) {
    out.silent = word.peer();
    out.silent_born = word.born();
  }
  const auto count = std::min<std::uint64_t>(load(from.threads_count), flight_threads_max);
  for (std::size_t i = 0; i < count; ++i)
    if (const auto thread = read_thread(from.threads[i]))
      out.threads[out.threads_count++] = *thread;
  return out;
}

std::uint64_t flight_live::progress() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& thread : activities())
    sum += thread.progress;
  return sum;
}

flight_recorder& flight() noexcept {
  static constinit flight_recorder recorder;
  return recorder;
}

flight_recorder::~flight_recorder() {
  ring_.store(nullptr);
}

result<void> flight_recorder::open(const std::filesystem::path& file, const identity& who, std::uint32_t records) {
  TROUPE_ASSERT("flight recorder", !is_open() && std::has_single_bit(records) && records <= flight_records_max);
  const auto cannot = [&](const char* what, int why) {
    return fail(fault::config_invalid, std::string{"cannot "} + what + ' ' + file.string() + ": " + std::strerror(why));
  };
  const unique_fd made{::open(file.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!made)
    return cannot("make", errno);
  const auto bytes = flight_file_bytes(records);
  if (const int why = ::posix_fallocate(made.get(), 0, static_cast<off_t>(bytes)); why != 0)
    return cannot("reserve room for", why);
  auto mapped = mapped_file::map(made.get(), bytes, mapped_file::access::read_write);
  if (!mapped)
    return fail(fault::config_invalid, file.string() + ": " + mapped.error().what);
  mapped_ = *std::move(mapped);
  capacity_ = records;

  auto& ring = *static_cast<header*>(mapped_.at()); // zeros
  ring.version = flight_version;
  ring.header_bytes = sizeof ring;
  ring.record_bytes = flight_record_bytes;
  ring.capacity = records;
  ring.rank = who.rank.value;
  ring.born = who.born.value;
  ring.pid = static_cast<std::uint64_t>(::getpid());
  ring.wall_ns = std::chrono::nanoseconds{std::chrono::system_clock::now().time_since_epoch()}.count();
  ring.steady_ns = now_ns();
  write_text(ring.label, who.label);
  if (::gethostname(ring.host.data(), ring.host.size() - 1) != 0)
    write_text(ring.host, "unknown");
  const auto groups = std::min(who.groups.size(), flight_groups_max);
  for (std::size_t i = 0; i < groups; ++i) {
    ring.groups[i].id = who.groups[i].first.value;
    write_text(ring.groups[i].name, who.groups[i].second);
  }
  ring.groups_count = static_cast<std::uint32_t>(groups);
  opening_ = openings.fetch_add(1) + 1;
  put(ring.magic, flight_magic); // last: without it there is no record
  ring_.store(&ring, std::memory_order_release);
  return {};
}

flight_header::thread* flight_recorder::thread_here(header& ring) noexcept {
  thread_local struct {
    std::uint64_t opening = 0;
    header::thread* place = nullptr;
  } mine;
  if (mine.opening != opening_) {
    const auto index = shared(ring.threads_count).fetch_add(1, std::memory_order_relaxed);
    mine = {opening_, index < flight_threads_max ? &ring.threads[index] : nullptr};
  }
  return mine.place;
}

void flight_recorder::append(header& ring, const flight_record& what) noexcept {
  const auto index = shared(ring.next).fetch_add(1, std::memory_order_relaxed);
  auto* const at = records_of(ring) + (index & (capacity_ - 1)) * (flight_record_bytes / sizeof(std::uint64_t));
  const auto whole = 2 * (index + 1);
  auto sequence = shared(*at);
  auto seen = sequence.load(std::memory_order_relaxed);
  if (seen % 2 != 0 || seen > whole || !sequence.compare_exchange_strong(seen, whole - 1, std::memory_order_acq_rel)) {
    shared(ring.dropped).fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const auto words = pack(what);
  for (std::size_t i = 0; i < words.size(); ++i)
    put(at[1 + i], words[i]);
  sequence.store(whole, std::memory_order_release);
}

void flight_recorder::note(flight_record what) noexcept {
  auto* const ring = ring_.load(std::memory_order_acquire);
  if (ring == nullptr)
    return;
  what.time_ns = now_ns();
  append(*ring, what);
}

void flight_recorder::note_fault(const failure& cause, std::string_view where) noexcept {
  const auto* const ring = ring_.load(std::memory_order_acquire);
  if (ring == nullptr)
    return;
  note({.operation = static_cast<std::uint16_t>(cause.code), .action = flight_action::fault});
  if (load(ring->words_state) != 0)
    return;
  std::array<char, sizeof(header::words)> text;
  const auto code = name(cause.code);
  const int length =
      std::snprintf(text.data(), text.size(), "%.*s: %.*s (%.*s)", static_cast<int>(where.size()), where.data(),
                    static_cast<int>(code.size()), code.data(), static_cast<int>(cause.what.size()), cause.what.data());
  say({text.data(), std::min(static_cast<std::size_t>(std::max(length, 0)), text.size() - 1)});
}

void flight_recorder::say(std::string_view words) noexcept {
  auto* const ring = ring_.load(std::memory_order_acquire);
  if (ring == nullptr || shared(ring->words_state).exchange(1) == 1)
    return; // another thread is saying something
  const auto bytes = std::min(words.size(), ring->words.size() - 1);
  std::transform(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(bytes), ring->words.begin(),
                 [](char byte) { return static_cast<unsigned char>(byte) < ' ' || byte == '\x7f' ? ' ' : byte; });
  std::fill(ring->words.begin() + static_cast<std::ptrdiff_t>(bytes), ring->words.end(), '\0');
  ring->words_bytes = static_cast<std::uint32_t>(bytes);
  put(ring->words_state, 2u);
}

void flight_recorder::complain_of(rank_id peer, generation born) noexcept {
  auto* const ring = ring_.load(std::memory_order_acquire);
  if (ring != nullptr)
    put(ring->complaint, complaint_word{load(ring->complaint)}.next(peer, born).bits);
}

void flight_recorder::beat() noexcept {
  if (auto* const ring = ring_.load(std::memory_order_acquire))
    put(ring->pulse_ns, now_ns());
}

void flight_recorder::tick() noexcept {
  auto* const ring = ring_.load(std::memory_order_acquire);
  if (auto* const here = ring != nullptr ? thread_here(*ring) : nullptr)
    put(here->progress, here->progress + 1); // this thread's alone
}

void flight_recorder::captured(std::int64_t graphs, std::uint64_t eager) noexcept {
  if (auto* const ring = ring_.load(std::memory_order_acquire)) {
    shared(ring->graphs).fetch_add(static_cast<std::uint64_t>(graphs), std::memory_order_relaxed);
    shared(ring->eager).fetch_add(eager, std::memory_order_relaxed);
  }
}

void flight_recorder::reached(life_state here) noexcept {
  auto* const ring = ring_.load(std::memory_order_acquire);
  if (ring == nullptr)
    return;
  put(ring->life, static_cast<std::uint64_t>(here));
  note({.operation = static_cast<std::uint16_t>(here), .action = flight_action::life});
}

flight_live flight_recorder::live() const noexcept {
  const auto* const ring = ring_.load(std::memory_order_acquire);
  return ring == nullptr ? flight_live{} : read_live(*ring);
}

// ---- turns and spans ------------------------------------------------------------------------------------------------

flight_turn::flight_turn(const flight_record& what, flight_recorder& in) noexcept {
  auto* const ring = in.ring_.load(std::memory_order_acquire);
  auto* const here = ring != nullptr ? in.thread_here(*ring) : nullptr;
  if (here == nullptr || here->until_ns != 0)
    return;
  here_ = here;
  before_ = *here;
  auto begun = what;
  begun.moment = flight_moment::begin;
  begun.time_ns = now_ns();
  enter(*here, begun);
}

flight_turn::~flight_turn() {
  if (here_ == nullptr || here_->until_ns != 0)
    return;
  if (before_.kind == 0)
    before_.since_ns = now_ns(); // idle from here on
  write_thread(*here_, before_);
}

flight_span::flight_span(const flight_record& what, flight_recorder& in) noexcept {
  auto* const ring = in.ring_.load(std::memory_order_acquire);
  if (ring == nullptr)
    return;
  in_ = &in;
  what_ = what;
  what_.moment = flight_moment::begin;
  what_.time_ns = now_ns();
  in.append(*ring, what_);
  if (what.action == flight_action::collective && what.number != 0)
    for (std::size_t i = 0; i < flight_groups_max; ++i)
      if (ring->groups[i].id == what.group.value)
        put(ring->groups[i].entered, what.number);
  here_ = in.thread_here(*ring);
  if (here_ == nullptr)
    return;
  if (here_->until_ns == 0) // what was left by a fault is over once something else begins
    before_ = *here_;
  enter(*here_, what_);
}

flight_span::~flight_span() {
  auto* const ring = in_ != nullptr ? in_->ring_.load(std::memory_order_acquire) : nullptr;
  if (ring == nullptr)
    return;
  const auto begun = what_.time_ns;
  what_.moment = flight_moment::end;
  what_.time_ns = now_ns();
  in_->append(*ring, what_);
  if (here_ == nullptr)
    return;
  if (what_.outcome == 0) {
    put(here_->progress, here_->progress + 1);
    if (before_.kind == 0)
      before_.since_ns = what_.time_ns; // idle from here on
    if (here_->until_ns == 0)
      write_thread(*here_, before_);
    return;
  }
  if (here_->until_ns != 0) // an inner span has already said more
    return;
  auto left = *here_;
  what_.moment = flight_moment::begin;
  left.since_ns = begun;
  left.until_ns = what_.time_ns;
  left.kind = pack(what_)[6];
  write_thread(*here_, left);
}

} // namespace troupe::base
