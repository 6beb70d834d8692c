#include "fabric/lanes/stream_lane.hpp"
#include "fabric/lanes/wire.hpp"
#include "protocols/serve/message_types.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <future>
#include <mutex>
#include <thread>

#include <doctest/doctest.h>

using namespace troupe;
using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

constexpr fabric::lane_options small_lane{.frame_bytes_max = 4096, .in_flight_bytes_max = 8192};

constexpr std::uint64_t breach = ~std::uint64_t{0}; ///< a frame that breaks the protocol

/// What a wire's handlers saw, for a thread that waits for it.
class witness {
public:
  fabric::wire::handlers handlers() {
    return {.on_frame = [this](const frame_view& frame) -> result<void> {
              std::uint64_t number = 0;
              std::memcpy(&number, frame.payload.data(), sizeof number);
              note([&] { numbers_.push_back(number); });
              return number == breach ? fail(fault::bad_value) : result<void>{};
            },
            .on_gone = [this](const failure& cause) { note([&] { gone_.push_back(cause.code); }); }};
  }
  bool wait_for_frames(std::size_t count) {
    std::unique_lock lock{mutex_};
    return seen_.wait_for(lock, 10s, [&] { return numbers_.size() >= count; });
  }
  bool wait_for_end() {
    std::unique_lock lock{mutex_};
    return seen_.wait_for(lock, 10s, [&] { return !gone_.empty(); });
  }
  std::vector<std::uint64_t> numbers() {
    const std::lock_guard lock{mutex_};
    return numbers_;
  }
  std::vector<fault> gone() {
    const std::lock_guard lock{mutex_};
    return gone_;
  }

private:
  template <class Change>
  void note(Change change) {
    {
      const std::lock_guard lock{mutex_};
      change();
    }
    seen_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable seen_;
  std::vector<std::uint64_t> numbers_;
  std::vector<fault> gone_;
};

std::vector<std::byte> payload_of(std::uint64_t number, std::size_t bytes = 64) {
  std::vector<std::byte> out(bytes);
  std::memcpy(out.data(), &number, sizeof number);
  return out;
}

} // namespace

TEST_CASE("E21: frames arrive in order through a lane that is smaller than what is queued") {
  auto [left, right] = fabric::make_shared_memory_pair(small_lane);
  witness sender;
  witness receiver;
  fabric::wire from;
  fabric::wire to;
  const auto key = from.add(std::move(left), sender.handlers());
  to.add(std::move(right), receiver.handlers());
  from.start();

  constexpr std::uint64_t count = 1000; // 64 KB and more, before anybody reads
  for (std::uint64_t i = 0; i < count; ++i)
    REQUIRE(from.post(key, {.type = message_type::heartbeat}, payload_of(i)));
  to.start();

  REQUIRE(receiver.wait_for_frames(count));
  const auto numbers = receiver.numbers();
  for (std::uint64_t i = 0; i < count; ++i)
    REQUIRE(numbers[i] == i);
}

TEST_CASE("a peer that does not read fills its own queue, which refuses, and holds up nobody else") {
  auto [stuck, unread] = fabric::make_shared_memory_pair(small_lane);
  auto [left, right] = fabric::make_shared_memory_pair(small_lane);
  witness sender;
  witness receiver;
  fabric::wire from;
  fabric::wire to;
  const auto slow = from.add(std::move(stuck), sender.handlers());
  const auto quick = from.add(std::move(left), sender.handlers());
  to.add(std::move(right), receiver.handlers());
  from.start();
  to.start();

  result<void> posted;
  std::size_t taken = 0;
  while ((posted = from.post(slow, {.type = message_type::heartbeat}, payload_of(0, 1024))))
    REQUIRE(++taken < 2 * limits::link_queue_frames_max);
  CHECK(posted.error().code == fault::queue_full);

  REQUIRE(from.post(quick, {.type = message_type::heartbeat}, payload_of(7)));
  REQUIRE(receiver.wait_for_frames(1));
  CHECK(receiver.numbers().front() == 7);
}

namespace {

/// A link whose other end is a socket that says what it likes.
struct raw_link {
  int far = -1;
  witness seen;

  raw_link(fabric::wire& to, duration frame_within) {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    far = ends[0];
    to.add(fabric::make_stream_lane(ends[1], rank_id{0}, generation{1}, rank_id{1}, generation{1}, small_lane),
           seen.handlers(), nullptr, {.frame_within = frame_within});
  }
  ~raw_link() { ::close(far); }
  raw_link(const raw_link&) = delete;

  void say(std::span<const std::byte> bytes) const {
    REQUIRE(::send(far, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
  }
};

/// Number 7, as rank 1 would send it first.
std::vector<std::byte> whole_frame() {
  const auto payload = payload_of(7);
  frame_header header;
  header.type = message_type::heartbeat;
  header.payload_bytes = static_cast<std::uint32_t>(payload.size());
  header.source = rank_id{1};
  header.source_generation = header.destination_generation = generation{1};
  header.destination = rank_id{0};
  header.sequence = 1;
  std::vector<std::byte> frame(limits::frame_header_bytes);
  encode_header(header, payload, std::span{frame}.first<limits::frame_header_bytes>());
  frame.insert(frame.end(), payload.begin(), payload.end());
  return frame;
}

} // namespace

TEST_CASE("K9: a frame that was begun and is not ended in time ends its link, one that says nothing may stay") {
  const auto frame = whole_frame();
  for (const std::size_t sent : {std::size_t{3}, limits::frame_header_bytes, frame.size() - 1}) {
    CAPTURE(sent);
    fabric::wire wire;
    raw_link silent{wire, 20ms};
    raw_link half{wire, 20ms};
    raw_link patient{wire, duration::max()};
    wire.start();
    half.say(std::span{frame}.first(sent));
    patient.say(std::span{frame}.first(sent));
    REQUIRE(half.seen.wait_for_end());
    CHECK(half.seen.gone() == std::vector<fault>{fault::timeout});
    patient.say(std::span{frame}.subspan(sent));
    CHECK(patient.seen.wait_for_frames(1));
    silent.say(frame);
    CHECK(silent.seen.wait_for_frames(1));
    CHECK(silent.seen.gone().empty());
    wire.stop();
  }
}

TEST_CASE("K9: three bytes that begin no frame end their link at once") {
  fabric::wire wire;
  raw_link link{wire, 1h};
  wire.start();
  link.say(std::as_bytes(std::span{"abc", 3}));
  REQUIRE(link.seen.wait_for_end());
  CHECK(link.seen.gone() == std::vector<fault>{fault::bad_magic});
  wire.stop();
}

TEST_CASE("C20: the end of a peer is told once, and what is posted to it after is refused") {
  auto [left, right] = fabric::make_shared_memory_pair(small_lane);
  witness sender;
  fabric::wire from;
  const auto key = from.add(std::move(left), sender.handlers());
  from.start();
  right->close();
  REQUIRE(sender.wait_for_end());
  CHECK(sender.gone() == std::vector<fault>{fault::peer_gone});
  const auto posted = from.post(key, {.type = message_type::heartbeat}, payload_of(1));
  REQUIRE(!posted);
  CHECK(posted.error().code == fault::peer_gone);
}

TEST_CASE("C50: a wire whose peers have torn their ends down sleeps, and stops at once when told to") {
  std::vector<std::unique_ptr<fabric::lane>> far;
  witness seen;
  fabric::wire wire;
  wire.start();
  for (int i = 0; i < 3; ++i) {
    auto [near, other] = fabric::make_shared_memory_pair(small_lane);
    wire.add(std::move(near), seen.handlers());
    far.push_back(std::move(other));
  }
  far.clear();
  while (seen.gone().size() < 3)
    REQUIRE(seen.wait_for_end());

  // Five turns of an idle wire take its naps' time; of one that spins, microseconds, however often they are timed.
  const auto five_turns = [&] {
    const auto turns = wire.turns();
    const auto began = std::chrono::steady_clock::now();
    while (wire.turns() < turns + 5)
      std::this_thread::yield();
    return std::chrono::steady_clock::now() - began;
  };
  const auto patience = std::chrono::steady_clock::now() + 10s;
  auto longest = five_turns();
  while (longest <= 200ms && std::chrono::steady_clock::now() < patience) // it spins a little after the last end
    longest = std::max(longest, five_turns());
  CHECK(longest > 200ms);
  const auto began = std::chrono::steady_clock::now();
  wire.stop();
  CHECK(std::chrono::steady_clock::now() - began < 10s);
}

TEST_CASE("what is queued when a link is removed or the wire stops still goes out") {
  auto [left, right] = fabric::make_shared_memory_pair(small_lane);
  witness receiver;
  fabric::wire to;
  to.add(std::move(right), receiver.handlers());
  to.start();
  {
    witness sender;
    fabric::wire from;
    const auto key = from.add(std::move(left), sender.handlers());
    from.start();
    for (std::uint64_t i = 0; i < 100; ++i)
      REQUIRE(from.post(key, {.type = message_type::heartbeat}, payload_of(i)));
    from.remove(key);
  }
  CHECK(receiver.wait_for_frames(100));
}

TEST_CASE(
    "C4: links to ranks carry heartbeats, which are seen in the signs and by nobody else, even past a full queue") {
  auto [here, there] = fabric::make_shared_memory_pair(small_lane);
  witness seen_here;
  witness seen_there;
  fabric::wire::peer_signs of_there;
  fabric::wire::peer_signs of_here;
  fabric::wire one;
  fabric::wire other;
  std::promise<void> both_heard;
  one.beat(5ms, [&, told = false]() mutable {
    if (!told && of_there.frames >= 3 && of_here.frames >= 3) {
      told = true;
      both_heard.set_value();
    }
    return heartbeat{.completed = 7, .busy = true};
  });
  other.beat(5ms, [] { return heartbeat{.completed = 8, .busy = false}; });
  one.start();
  other.start();
  one.add(std::move(here), seen_here.handlers(), &of_there);
  other.add(std::move(there), seen_there.handlers(), &of_here);
  CHECK(of_there.linked);

  CHECK(both_heard.get_future().wait_for(10s) == std::future_status::ready);
  CHECK(of_there.completed == 8);
  CHECK_FALSE(of_there.busy);
  CHECK(of_here.completed == 7);
  CHECK(of_here.busy);
  CHECK(one.turns() > 0);
  CHECK(seen_here.numbers().empty());

  other.stop();
  CHECK(seen_here.wait_for_end());
  CHECK_FALSE(of_there.linked);
}

TEST_CASE("A10: a peer that breaks the protocol loses its link, with the fault, and nobody else does") {
  auto [bad_here, bad_there] = fabric::make_shared_memory_pair(small_lane);
  auto [good_here, good_there] = fabric::make_shared_memory_pair(small_lane);
  witness of_bad;
  witness of_good;
  fabric::wire wire;
  wire.start();
  wire.add(std::move(bad_here), of_bad.handlers());
  wire.add(std::move(good_here), of_good.handlers());
  const auto send = [](fabric::lane& lane, std::uint64_t number) {
    return fabric::send(lane, {.type = serve_type::ack}, std::as_bytes(std::span{&number, 1}),
                        std::chrono::steady_clock::now() + 10s);
  };

  REQUIRE(send(*bad_there, breach));
  CHECK(of_bad.wait_for_end());
  CHECK(of_bad.gone() == std::vector{fault::bad_value});
  REQUIRE(send(*good_there, 1));
  CHECK(of_good.wait_for_frames(1));
  CHECK(of_good.gone().empty());
}

TEST_CASE("K9: a link's queue is bounded in bytes as well as in frames") {
  auto [stuck, unread] = fabric::make_shared_memory_pair(small_lane);
  witness sender;
  fabric::wire from;
  const auto key = from.add(std::move(stuck), sender.handlers(), nullptr, {.queue_bytes_max = 8192});
  // Not started: nothing leaves the queue.
  for (int i = 0; i < 8; ++i)
    REQUIRE(from.post(key, {.type = message_type::heartbeat}, payload_of(0, 1024)));
  CHECK(from.post(key, {.type = message_type::heartbeat}, payload_of(0, 64)).error().code == fault::queue_full);
  from.start();
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  result<void> posted = fail(fault::queue_full);
  while (!posted && std::chrono::steady_clock::now() < deadline) { // what has gone out has given its bytes back
    posted = from.post(key, {.type = message_type::heartbeat}, payload_of(0, 64));
    std::this_thread::yield();
  }
  CHECK(posted);
}

TEST_CASE("K9: a peer is read no further than its frames are handled, and on as they are") {
  auto [left, right] = fabric::make_shared_memory_pair({.frame_bytes_max = 4096, .in_flight_bytes_max = 65'536});
  witness sender;
  witness receiver;
  fabric::wire from;
  fabric::wire to;
  const auto out = from.add(std::move(left), sender.handlers());
  const auto in = to.add(std::move(right), receiver.handlers(), nullptr, {.unhandled_max = 4});
  from.start();
  to.start();
  constexpr std::size_t count = 100;
  for (std::uint64_t i = 0; i < count; ++i)
    REQUIRE(from.post(out, {.type = message_type::heartbeat}, payload_of(i)));

  REQUIRE(receiver.wait_for_frames(4));
  for (const auto turn = to.turns(); to.turns() < turn + 3;) // it has looked again, and slept
    std::this_thread::yield();
  CHECK(receiver.numbers().size() == 4);
  for (std::size_t handled = 1; handled <= count; ++handled) {
    to.handled(in);
    REQUIRE(receiver.wait_for_frames(std::min(count, 4 + handled)));
    CHECK(receiver.numbers().size() <= 4 + handled);
  }
}

TEST_CASE("C20, K9: a link that is removed while its peer reads nothing is closed all the same") {
  auto [stuck, unread] = fabric::make_shared_memory_pair(small_lane);
  witness sender;
  fabric::wire from;
  const auto key = from.add(std::move(stuck), sender.handlers());
  from.start();
  for (int i = 0; i < 64; ++i) // more than the lane holds
    REQUIRE(from.post(key, {.type = message_type::heartbeat}, payload_of(0, 1024)));
  from.remove(key);

  const auto deadline = std::chrono::steady_clock::now() + 20s;
  result<void> sent;
  while (sent && std::chrono::steady_clock::now() < deadline) {
    sent = unread->try_send({.type = message_type::heartbeat}, {});
    ::poll(nullptr, 0, 5);
    if (!sent && sent.error().code == fault::lane_full)
      sent = {};
  }
  REQUIRE_FALSE(sent);
  CHECK(sent.error().code == fault::peer_gone);
}

namespace {

/// Every descriptor that the process may have, until it goes out of scope.
class full_table {
public:
  full_table() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit few{std::min<rlim_t>(before_.rlim_cur, 512), before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &few);
    while (base::unique_fd one{::open("/dev/null", O_RDONLY | O_CLOEXEC)})
      taken_.push_back(std::move(one));
  }
  ~full_table() {
    if (::setrlimit(RLIMIT_NOFILE, &before_) != 0)
      std::abort();
  }

private:
  rlimit before_{};
  std::vector<base::unique_fd> taken_;
};

} // namespace

TEST_CASE(
    "C20, K9: with no descriptor left a wire tells who wants in, rests between tries, and goes on when there are") {
  base::unique_fd listening{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socklen_t size = sizeof(sa_family_t); // the kernel names it
  REQUIRE(::bind(listening.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(::listen(listening.get(), 8) == 0);
  size = sizeof address;
  REQUIRE(::getsockname(listening.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  std::vector<base::unique_fd> clients;
  for (int i = 0; i < 3; ++i)
    clients.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto connect = [&](std::size_t which) {
    REQUIRE(::connect(clients[which].get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  };

  std::atomic<int> taken = 0;
  std::atomic<int> crowded = 0;
  fabric::wire wire;
  wire.accept_clients(fabric::listening_socket{std::move(listening)},
                      [&](base::unique_fd, bool none_left) { ++(none_left ? crowded : taken); });
  wire.start();
  const auto wait_for = [](const std::atomic<int>& count, int wanted) {
    const auto deadline = std::chrono::steady_clock::now() + 20s;
    while (count < wanted && std::chrono::steady_clock::now() < deadline)
      ::poll(nullptr, 0, 5);
    return count == wanted;
  };
  connect(0);
  REQUIRE(wait_for(taken, 1));
  {
    const full_table full;
    connect(1);
    CHECK(wait_for(crowded, 1));
    CHECK(taken == 1);
  }
  connect(2);
  CHECK(wait_for(taken, 2));
  CHECK(crowded == 1);
}

TEST_CASE("D2: a frame that was decided before its edge began is dropped by name, and the link goes on") {
  const auto [one, other] = std::pair{rank_id{0}, rank_id{1}};
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const auto lane_of = [](int fd, rank_id self, rank_id peer) {
    return std::make_unique<fabric::stream_lane>(base::unique_fd{fd},
                                                 fabric::edge{.self = self,
                                                              .self_born = generation{1},
                                                              .peer = peer,
                                                              .peer_born = generation{1},
                                                              .epoch = cache_epoch{3},
                                                              .spans_epochs = true},
                                                 small_lane);
  };
  witness sender;
  witness receiver;
  fabric::wire from;
  fabric::wire to;
  const auto key = from.add(lane_of(ends[0], one, other), sender.handlers());
  to.add(lane_of(ends[1], other, one), receiver.handlers());
  from.start();
  to.start();
  for (const std::uint64_t epoch : {3, 2, 4, 1, 3})
    REQUIRE(from.post(key, {.type = message_type::heartbeat, .epoch = cache_epoch{epoch}}, payload_of(epoch)));
  REQUIRE(receiver.wait_for_frames(3));
  CHECK(receiver.numbers() == std::vector<std::uint64_t>{3, 4, 3});
  REQUIRE(from.post(key, {.type = message_type::heartbeat, .epoch = cache_epoch{5}}, payload_of(5)));
  CHECK(receiver.wait_for_frames(4));
}
