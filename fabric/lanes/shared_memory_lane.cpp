#include "fabric/lanes/shared_memory_lane.hpp"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>

#include "fabric/lanes/shared_memory_ring.hpp"
#include "runtime/base/assert.hpp"
#include "runtime/base/doorbell.hpp"

namespace troupe::fabric {

using namespace protocols;

namespace {

/// The memory file: words of both rings, then the bytes of the ring of the connecting side, then of the other's.
constexpr std::size_t words_bytes = 4096;
static_assert(2 * sizeof(ring_words) <= words_bytes);

/// A caller that peeks in a loop and never sleeps learns of its peer's end by these looks at the companion.
constexpr std::uint32_t empty_peeks_per_look = 1024;

constexpr int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

std::size_t capacity_of(const lane_options& options) noexcept {
  return ring_capacity(options.in_flight_bytes_max, options.frame_bytes_max);
}

std::size_t memory_bytes(const lane_options& options) noexcept {
  return words_bytes + 2 * capacity_of(options);
}

/// The mapped memory file. The pages are the kernel's until they are touched: an idle lane costs one.
class mapping {
public:
  mapping(void* begin, std::size_t bytes) noexcept : begin_(static_cast<std::byte*>(begin)), bytes_(bytes) {}
  ~mapping() { ::munmap(begin_, bytes_); }
  mapping(const mapping&) = delete;
  mapping& operator=(const mapping&) = delete;

  /// Ring 0 carries what the connecting side sends. Atomics are implicit-lifetime objects: fresh pages hold zeros.
  ring_words& words(std::size_t ring) noexcept { return std::launder(reinterpret_cast<ring_words*>(begin_))[ring]; }
  std::span<std::byte> bytes(std::size_t ring) noexcept {
    const std::size_t capacity = (bytes_ - words_bytes) / 2;
    return {begin_ + words_bytes + ring * capacity, capacity};
  }

private:
  std::byte* begin_;
  std::size_t bytes_;
};

result<std::shared_ptr<mapping>> map(int memory, const lane_options& options) {
  const std::size_t bytes = memory_bytes(options);
  struct stat found {};
  if (::fstat(memory, &found) != 0 || static_cast<std::size_t>(found.st_size) != bytes)
    return fail(fault::bad_value, "the lane's memory has " + std::to_string(found.st_size) +
                                      " bytes where the limits of "
                                      "this rank make " +
                                      std::to_string(bytes));
  if (const int set = ::fcntl(memory, F_GET_SEALS); set < 0 || (set & seals) != seals)
    return fail(fault::bad_value, "the lane's memory is not sealed against growing and shrinking");
  void* begin = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  if (begin == MAP_FAILED)
    return fail(fault::no_memory, std::string{"cannot map a lane: "} + std::strerror(errno));
  return std::make_shared<mapping>(begin, bytes);
}

/// Threads: producer calls and consumer calls may come from two threads; `gone_` and `closed_` are what they share.
class shared_memory_lane final : public lane {
public:
  shared_memory_lane(std::shared_ptr<mapping> memory, base::unique_fd own_doorbell, base::unique_fd peer_doorbell,
                     base::unique_fd companion, lane_side side, const edge& between, const lane_options& options)
      : memory_(std::move(memory)), own_doorbell_(std::move(own_doorbell)), peer_doorbell_(std::move(peer_doorbell)),
        companion_(std::move(companion)), edge_(between), frame_bytes_max_(options.frame_bytes_max),
        producer_(memory_->words(side == lane_side::connects ? 0 : 1),
                  memory_->bytes(side == lane_side::connects ? 0 : 1)),
        consumer_(memory_->words(side == lane_side::connects ? 1 : 0),
                  memory_->bytes(side == lane_side::connects ? 1 : 0)) {}
  ~shared_memory_lane() override { close(); }

  lane_kind kind() const noexcept override { return lane_kind::shared_memory; }

  result<void> try_send(frame_header header, std::span<const std::byte> payload) override;
  header_bytes stamp(frame_header header, std::span<const std::byte> payload) override;
  result<void> try_send_stamped(const header_bytes& header, std::span<const std::byte> payload) override;
  bool flush() override { return true; }

  result<std::optional<frame_view>> peek() override;
  void pop() override;

  bool arm(interest wanted) override;
  void disarm() override;
  wait_set waitables(interest wanted) const override;

  std::size_t bytes_in_flight() const noexcept override { return producer_.in_flight(); }
  void close() noexcept override;

private:
  result<std::span<std::byte>> make_room(std::size_t total);
  void put(std::span<std::byte> room, std::span<const std::byte> payload);
  result<frame_view> check(std::span<const std::byte> front);
  void poll_companion() noexcept;
  failure peer_gone() const { return {fault::peer_gone, "rank " + std::to_string(edge_.peer.value)}; }

  std::shared_ptr<mapping> memory_;
  base::unique_fd own_doorbell_;
  base::unique_fd peer_doorbell_;
  base::unique_fd companion_;
  edge edge_;
  std::size_t frame_bytes_max_;
  std::atomic<bool> gone_ = false;   ///< the companion has ended; what is in the ring is still delivered
  std::atomic<bool> closed_ = false; ///< by this side, or after an error

  ring_producer producer_;
  std::uint64_t sent_ = 0;

  ring_consumer consumer_;
  std::uint64_t received_ = 0;
  std::optional<frame_view> front_;
  std::uint32_t empty_peeks_ = 0;

  interest armed_{.readable = false, .writable = false};
  bool waited_ = false;
};

result<void> shared_memory_lane::try_send(frame_header header, std::span<const std::byte> payload) {
  if (auto allowed = edge_.admit(header); !allowed)
    return allowed;
  auto room = make_room(limits::frame_header_bytes + payload.size());
  if (!room)
    return tl::unexpected<failure>{std::move(room.error())};
  encode_header(edge_.stamp(header, ++sent_, payload.size()), payload, room->first<limits::frame_header_bytes>());
  put(*room, payload);
  return {};
}

header_bytes shared_memory_lane::stamp(frame_header header, std::span<const std::byte> payload) {
  header_bytes bytes;
  encode_header(edge_.stamp(header, ++sent_, payload.size()), payload, bytes);
  return bytes;
}

result<void> shared_memory_lane::try_send_stamped(const header_bytes& header, std::span<const std::byte> payload) {
  auto room = make_room(header.size() + payload.size());
  if (!room)
    return tl::unexpected<failure>{std::move(room.error())};
  std::memcpy(room->data(), header.data(), header.size());
  put(*room, payload);
  return {};
}

/// Room for a whole frame, before a byte of it is written: what has a header on the wire is sent whole (C17, C44).
/// Errors: those of `try_send`.
result<std::span<std::byte>> shared_memory_lane::make_room(std::size_t total) {
  if (closed_.load(std::memory_order_acquire) || gone_.load(std::memory_order_acquire))
    return tl::unexpected<failure>{peer_gone()};
  if (total > frame_bytes_max_)
    return fail(fault::frame_too_long, std::to_string(total) + " bytes, at most " + std::to_string(frame_bytes_max_));
  auto room = producer_.reserve(total);
  if (!room) {
    close();
    return tl::unexpected<failure>{std::move(room.error())};
  }
  if (room->empty()) {
    poll_companion();
    if (gone_.load(std::memory_order_acquire))
      return tl::unexpected<failure>{peer_gone()};
    return fail(fault::lane_full);
  }
  return *room;
}

/// The header stands in `room` already.
void shared_memory_lane::put(std::span<std::byte> room, std::span<const std::byte> payload) {
  if (!payload.empty())
    std::memcpy(room.data() + limits::frame_header_bytes, payload.data(), payload.size());
  if (producer_.commit())
    base::ring(peer_doorbell_);
}

result<std::optional<frame_view>> shared_memory_lane::peek() {
  if (front_)
    return front_;
  if (closed_.load(std::memory_order_acquire))
    return tl::unexpected<failure>{peer_gone()};
  if (++empty_peeks_ % empty_peeks_per_look == 0)
    poll_companion();
  // Read before the ring: what a peer wrote before it died is in the ring once its end has been seen.
  const bool gone = gone_.load(std::memory_order_acquire);

  auto front = consumer_.front();
  if (front && front->empty()) {
    if (!gone)
      return std::nullopt;
    close();
    return tl::unexpected<failure>{peer_gone()};
  }
  auto checked = front ? check(*front) : result<frame_view>{tl::unexpected<failure>{std::move(front.error())}};
  if (!checked) {
    close();
    return tl::unexpected<failure>{std::move(checked.error())};
  }
  empty_peeks_ = 0;
  front_ = *checked;
  return front_;
}

/// `front` is memory that the peer can write: the header is copied once and only the copy is believed. The payload is
/// read in place; a peer that changes it after the checksum was verified can spoil values, never bounds.
result<frame_view> shared_memory_lane::check(std::span<const std::byte> front) {
  header_bytes bytes;
  std::memcpy(bytes.data(), front.data(), bytes.size());
  const auto header = decode_header(bytes, frame_bytes_max_);
  if (!header)
    return tl::unexpected<failure>{header.error()};
  if (record_bytes(bytes.size() + header->payload_bytes) > front.size())
    return fail(fault::bad_value, "a frame reaches past what was written");
  const auto payload = front.subspan(bytes.size(), header->payload_bytes);
  if (const auto whole = verify_checksum(bytes, payload); !whole)
    return tl::unexpected<failure>{whole.error()};
  if (const auto ours = edge_.judge(*header, received_ + 1); !ours)
    return tl::unexpected<failure>{ours.error()};
  ++received_;
  return frame_view{*header, payload};
}

void shared_memory_lane::pop() {
  const auto bytes = record_bytes(limits::frame_header_bytes + front_->payload.size());
  front_.reset();
  if (consumer_.pop(bytes))
    base::ring(peer_doorbell_);
}

bool shared_memory_lane::arm(interest wanted) {
  const bool ended = closed_.load(std::memory_order_acquire) || gone_.load(std::memory_order_acquire);
  if (ended || (wanted.readable && (front_ || !consumer_.arm())))
    return false;
  if (wanted.writable && !producer_.arm()) {
    if (wanted.readable)
      consumer_.disarm();
    return false;
  }
  armed_ = wanted;
  waited_ = true;
  return true;
}

void shared_memory_lane::disarm() {
  if (armed_.readable)
    consumer_.disarm();
  if (armed_.writable)
    producer_.disarm();
  armed_ = {.readable = false, .writable = false};
  if (!std::exchange(waited_, false))
    return;
  // One look at both: a doorbell that was rung is silenced; one that is rung after this look wakes once in vain.
  std::array<pollfd, 2> fds{{{own_doorbell_.get(), POLLIN, 0}, {companion_.get(), POLLIN | POLLRDHUP, 0}}};
  if (::poll(fds.data(), fds.size(), 0) <= 0)
    return;
  if (fds[0].revents != 0) {
    base::hush(own_doorbell_);
  }
  if (fds[1].revents != 0)
    gone_.store(true, std::memory_order_release);
}

lane::wait_set shared_memory_lane::waitables(interest wanted) const {
  wait_set set;
  if (wanted.readable || wanted.writable)
    set.fds[set.count++] = {own_doorbell_.get(), POLLIN, 0};
  set.fds[set.count++] = {companion_.get(), POLLIN | POLLRDHUP, 0};
  return set;
}

void shared_memory_lane::poll_companion() noexcept {
  pollfd end{companion_.get(), POLLIN | POLLRDHUP, 0};
  if (::poll(&end, 1, 0) > 0) // its end, or bytes that nobody has to send there
    gone_.store(true, std::memory_order_release);
}

void shared_memory_lane::close() noexcept {
  if (!closed_.exchange(true, std::memory_order_acq_rel))
    ::shutdown(companion_.get(), SHUT_RDWR); // the descriptor itself lives as long as another thread may poll it
}

base::unique_fd make_doorbell() {
  return base::unique_fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
}

} // namespace

result<shared_memory_kit> make_shared_memory_kit(const lane_options& options) {
  const auto failed = [](const char* what) {
    return fail(fault::no_memory,
                std::string{"cannot make a shared-memory lane: "} + what + ": " + std::strerror(errno));
  };
  shared_memory_kit kit;
  kit.memory = base::unique_fd{::memfd_create("troupe-lane", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  if (!kit.memory)
    return failed("memfd_create");
  if (::ftruncate(kit.memory.get(), static_cast<off_t>(memory_bytes(options))) != 0)
    return failed("ftruncate");
  if (::fcntl(kit.memory.get(), F_ADD_SEALS, seals) != 0)
    return failed("F_ADD_SEALS");
  kit.connects_doorbell = make_doorbell();
  kit.accepts_doorbell = make_doorbell();
  if (!kit.connects_doorbell || !kit.accepts_doorbell)
    return failed("eventfd");
  return kit;
}

result<std::unique_ptr<lane>> make_shared_memory_lane(shared_memory_kit kit, base::unique_fd companion, lane_side side,
                                                      const edge& between, const lane_options& options) {
  auto memory = map(kit.memory.get(), options);
  if (!memory)
    return tl::unexpected<failure>{std::move(memory.error())};
  auto& own = side == lane_side::connects ? kit.connects_doorbell : kit.accepts_doorbell;
  auto& other = side == lane_side::connects ? kit.accepts_doorbell : kit.connects_doorbell;
  for (const int fd : {own.get(), other.get(), companion.get()}) // what a peer passed must not be able to block us
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  return std::make_unique<shared_memory_lane>(std::move(*memory), std::move(own), std::move(other),
                                              std::move(companion), side, between, options);
}

std::pair<std::unique_ptr<lane>, std::unique_ptr<lane>> make_shared_memory_pair(lane_options options) {
  const auto duplicate = [](const base::unique_fd& fd) { return base::unique_fd{::dup(fd.get())}; };
  auto kit = make_shared_memory_kit(options);
  int ends[2] = {-1, -1};
  TROUPE_ASSERT("shared_memory_pair", kit.has_value());
  TROUPE_ASSERT("shared_memory_pair", ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
  auto memory = map(kit->memory.get(), options); // one mapping for both ends: ThreadSanitizer sees who touches what
  TROUPE_ASSERT("shared_memory_pair", memory.has_value());

  const edge first{.self = rank_id{0}, .self_born = generation{1}, .peer = rank_id{1}, .peer_born = generation{1}};
  const edge second{.self = rank_id{1}, .self_born = generation{1}, .peer = rank_id{0}, .peer_born = generation{1}};
  auto connects =
      std::make_unique<shared_memory_lane>(*memory, duplicate(kit->connects_doorbell), duplicate(kit->accepts_doorbell),
                                           base::unique_fd{ends[0]}, lane_side::connects, first, options);
  auto accepts =
      std::make_unique<shared_memory_lane>(*memory, std::move(kit->accepts_doorbell), std::move(kit->connects_doorbell),
                                           base::unique_fd{ends[1]}, lane_side::accepts, second, options);
  return {std::move(connects), std::move(accepts)};
}

} // namespace troupe::fabric
