#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocols/flight/flight.hpp"
#include "protocols/flight/flight_ring.hpp"
#include "runtime/base/mapped_file.hpp"

namespace troupe::base {

/// What is happening in a rank right now, for its watchdog and its supervisor.
struct flight_live {
  std::int64_t pulse_ns = 0; ///< of the last beat; 0: none yet
  protocols::life_state life{};
  std::array<protocols::flight_activity, protocols::flight_threads_max> threads{};
  std::size_t threads_count = 0;
  std::uint64_t complaints = 0;             ///< grows with each
  std::optional<protocols::rank_id> silent; ///< the peer that the last one was of
  protocols::generation silent_born;        ///< and which generation of it

  std::span<const protocols::flight_activity> activities() const noexcept { return {threads.data(), threads_count}; }
  /// Of all threads together.
  std::uint64_t progress() const noexcept;
};

/// Of a mapped header, this process's own or another's. Allocates nothing, locks nothing.
flight_live read_live(const protocols::flight_header& from) noexcept;

/// Notes what a rank does in a file that outlives it: every process writes its own, mapped, so that it can be read
/// after SIGKILL, and while the process is wedged. A log line for each collective was rejected: it costs a hundred
/// times as much, and what a process had not written out when it died is what is looked for. Until it is opened every
/// call does nothing, so that any layer may note without knowing of it.
///
/// Contract: B8, C8, J1, J2.
/// Threads: any, but for `open`. Wait-free: no lock, no allocation, no system call (the clock is the vDSO's).
/// The file's blocks are reserved when it is opened, so that a full disk loses no record later; a file that is cut or
/// written over by others costs records, and nothing else.
class flight_recorder {
public:
  struct identity {
    protocols::rank_id rank;
    protocols::generation born;
    std::string label;
    std::vector<std::pair<protocols::group_id, std::string>> groups; ///< those that the rank is a member of
  };

  constexpr flight_recorder() noexcept = default;
  ~flight_recorder();
  flight_recorder(const flight_recorder&) = delete;
  flight_recorder& operator=(const flight_recorder&) = delete;

  /// Makes the file (0600) and begins. Once. `records`: a power of two. Errors: config_invalid.
  protocols::result<void> open(const std::filesystem::path& file, const identity& who,
                               std::uint32_t records = protocols::flight_records_default);
  bool is_open() const noexcept { return ring_.load(std::memory_order_acquire) != nullptr; }

  /// Appends; the time is set here.
  void note(protocols::flight_record what) noexcept;
  /// Notes a fault of this rank; the first is kept in words too, unless something else was said.
  void note_fault(const protocols::failure& cause, std::string_view where) noexcept;
  /// Keeps words beside the records, in place of those before.
  void say(std::string_view words) noexcept;

  // ---- live state ----

  /// The watchdog's beat.
  void beat() noexcept;
  /// The watchdog: nothing comes from this peer, which the supervisor is to know.
  void complain_of(protocols::rank_id peer, protocols::generation born) noexcept;
  /// The calling thread has completed something: a layer, a collective, a step.
  void tick() noexcept;
  /// So many graphs more (or fewer) are kept, and so many runs more were made without one (G5).
  void captured(std::int64_t graphs, std::uint64_t eager) noexcept;
  /// Also a record.
  void reached(protocols::life_state here) noexcept;
  /// Empty while it is not open.
  flight_live live() const noexcept;

private:
  friend class flight_span;
  friend class flight_turn;
  using header = protocols::flight_header;

  header::thread* thread_here(header& ring) noexcept;
  void append(header& ring, const protocols::flight_record& what) noexcept;

  std::atomic<header*> ring_ = nullptr;
  mapped_file mapped_;
  std::uint32_t capacity_ = 0; ///< not as the file says: others may have written over it
  std::uint64_t opening_ = 0;  ///< tells the recorders of one process apart for `thread_here`
};

/// The process's own.
flight_recorder& flight() noexcept;

/// Something with a beginning and an end that the calling thread is in the middle of meanwhile; spans nest.
/// One that ends by a fault stays visible as what the thread was in, until the thread begins something else: a rank
/// that leaves because its peer has died is to be found in the collective that it was in.
class flight_span {
public:
  explicit flight_span(const protocols::flight_record& what, flight_recorder& in = flight()) noexcept;
  flight_span(const flight_span&) = delete;
  flight_span& operator=(const flight_span&) = delete;
  ~flight_span();

  /// Hands `outcome` on; a fault stands in the end's record.
  template <class T>
  protocols::result<T> ends(protocols::result<T> outcome) noexcept {
    if (!outcome)
      what_.outcome = static_cast<std::uint16_t>(outcome.error().code);
    return outcome;
  }

private:
  flight_recorder* in_ = nullptr; ///< none: it is not open
  protocols::flight_header::thread* here_ = nullptr;
  protocols::flight_header::thread before_{};
  protocols::flight_record what_;
};

/// What the calling thread is in the middle of meanwhile, without a record of its beginning and end: for what happens
/// so often that records of it would leave no room for others. Spans nest in it.
class flight_turn {
public:
  explicit flight_turn(const protocols::flight_record& what, flight_recorder& in = flight()) noexcept;
  flight_turn(const flight_turn&) = delete;
  flight_turn& operator=(const flight_turn&) = delete;
  ~flight_turn();

private:
  protocols::flight_header::thread* here_ =
      nullptr; ///< none: it is not open, or what a fault has left stays to be seen
  protocols::flight_header::thread before_{};
};

} // namespace troupe::base
