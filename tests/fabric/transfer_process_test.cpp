// The peer is a process of its own: this executable again, told by an environment variable to run the case that is
// skipped otherwise. It is started by exec, since a fork of a process with threads inherits their locks and not them.

#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <random>

#include "runtime/base/unique_fd.hpp"
#include "tests/fabric/transfer_harness.hpp"

using namespace troupe;
using namespace troupe::fabric;
using namespace troupe::fabric::testing;

extern char** environ;

namespace {

constexpr std::uint32_t own_rank = 1, peer_rank = 2;
constexpr const char* child_case = "(the peer process of the transfer tests)";
constexpr const char* child_variable = "TROUPE_TEST_TRANSFER_PEER";
constexpr int child_control = 3;

/// Blocking, exact, and bounded by the socket's own timeouts.
class control {
public:
  explicit control(base::unique_fd socket) : socket_(std::move(socket)) {
    const timeval bound{.tv_sec = 30, .tv_usec = 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof bound);
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof bound);
  }

  void send(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const auto sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      REQUIRE(sent > 0);
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
    }
  }
  bool receive(std::span<std::byte> bytes) {
    while (!bytes.empty()) {
      const auto got = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
      if (got < 0 && errno == EINTR)
        continue; // stopped and continued
      if (got <= 0)
        return false;
      bytes = bytes.subspan(static_cast<std::size_t>(got));
    }
    return true;
  }
  template <class Value>
  void send_value(const Value& value) {
    send(std::as_bytes(std::span{&value, 1}));
  }
  template <class Value>
  bool receive_value(Value& value) {
    return receive(std::as_writable_bytes(std::span{&value, 1}));
  }

private:
  base::unique_fd socket_;
};

/// What the two must know of each other before the first write.
struct offer {
  struct card {
    std::uint64_t region, bytes, base, key;
  };
  std::array<char, 108> path{};
  std::array<std::byte, 64> address{};
  std::uint64_t address_bytes = 0;
  std::array<card, 2> cards{};

  static offer of(const party& from) {
    offer made;
    std::copy(from.path.begin(), from.path.end(), made.path.begin());
    const auto name = from.engine->address();
    std::copy(name.begin(), name.end(), made.address.begin());
    made.address_bytes = name.size();
    for (std::size_t i = 0; i < made.cards.size(); ++i) {
      const auto& card = from.regions[i].card;
      made.cards[i] = {card.region, card.bytes, card.base, card.key};
    }
    return made;
  }

  void attach_to(party& to, std::uint32_t rank) const {
    const auto bytes = std::span{address}.first(address_bytes);
    const protocols::endpoint there{.rank = rank_id{rank},
                                    .born = generation{1},
                                    .unix_path = path.data(),
                                    .tcp_address = {},
                                    .tcp_port = 0,
                                    .fabric_address = {bytes.begin(), bytes.end()}};
    const auto peer = to.engine->attach_peer(there, within(patience));
    REQUIRE_MESSAGE(peer, to_string(peer.error()));
    for (const auto& it : cards) {
      const auto attached = to.engine->attach_region(rank_id{rank},
                                                     {.region = static_cast<std::uint32_t>(it.region),
                                                      .bytes = it.bytes,
                                                      .slot_bytes = 0,
                                                      .base = it.base,
                                                      .key = it.key},
                                                     within(patience));
      REQUIRE_MESSAGE(attached, to_string(attached.error()));
    }
  }
};

enum class command : std::uint32_t {
  await, ///< `argument` arrivals in all; answers with their completion data
  dump,  ///< answers with the bytes of the first region
  echo   ///< writes its first region into the parent's second, completion data `argument`; answers when delivered
};
struct order {
  command what{};
  std::uint32_t unused = 0;
  std::uint64_t argument = 0;
};

/// A child with an engine of the same lane, attached both ways.
class peer_process {
public:
  peer_process(party& self, std::size_t region_bytes) {
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    control_.emplace(base::unique_fd{ends[0]});
    const base::unique_fd theirs{ends[1]};

    const std::string told = name_of(self.engine->kind()) + " " + std::to_string(region_bytes);
    ::setenv(child_variable, told.c_str(), 1);
    const std::string filter = std::string("--test-case=") + child_case;
    std::array<const char*, 5> words{"/proc/self/exe", filter.c_str(), "--no-skip", "--minimal", nullptr};
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), child_control);
    const int error =
        ::posix_spawn(&process_, "/proc/self/exe", &actions, nullptr, const_cast<char* const*>(words.data()), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::unsetenv(child_variable);
    REQUIRE(error == 0);

    REQUIRE(control_->receive_value(there_));
    control_->send_value(offer::of(self));
    there_.attach_to(self, peer_rank);
    std::uint64_t attached = 0;
    REQUIRE(control_->receive_value(attached));
  }
  peer_process(const peer_process&) = delete;
  peer_process& operator=(const peer_process&) = delete;
  ~peer_process() {
    kill();
    ::unlink(there_.path.data());
  }

  control& says() { return *control_; }
  void give(command what, std::uint64_t argument = 0) { control_->send_value(order{what, 0, argument}); }

  void pause() {
    REQUIRE(::kill(process_, SIGSTOP) == 0);
    int status = 0;
    REQUIRE(::waitpid(process_, &status, WUNTRACED) == process_);
    REQUIRE(WIFSTOPPED(status));
  }
  void resume() { ::kill(process_, SIGCONT); }
  void kill() {
    if (process_ <= 0)
      return;
    ::kill(process_, SIGKILL);
    ::waitpid(std::exchange(process_, -1), nullptr, 0);
  }

private:
  std::optional<control> control_;
  offer there_;
  pid_t process_ = -1;
};

/// The known pattern: every 64-bit word says which seed and place it is of, so that a misplaced byte shows.
void fill_pattern(std::span<std::byte> bytes, std::uint64_t seed) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const std::uint64_t word = (seed + i / 8 + 1) * 0x9e37'79b9'7f4a'7c15;
    bytes[i] = static_cast<std::byte>(word >> (8 * (i % 8)));
  }
}

/// Cuts [0, size) at random places and deals the cuts out to `count` writes, in random order and sizes.
std::vector<std::vector<write_piece>> random_writes(std::mt19937_64& random, std::uint64_t size, std::size_t count) {
  std::vector<std::uint64_t> cuts{0, size};
  for (auto left = 5 * count; left > 0; --left)
    cuts.push_back(random() % size);
  std::sort(cuts.begin(), cuts.end());
  std::vector<std::vector<write_piece>> writes(count);
  std::vector<std::size_t> turn(cuts.size() - 1);
  for (std::size_t i = 0; i < turn.size(); ++i)
    turn[i] = i;
  std::shuffle(turn.begin(), turn.end(), random);
  for (const std::size_t i : turn) {
    const auto bytes = cuts[i + 1] - cuts[i];
    writes[random() % count].push_back({random() % (size - bytes + 1), cuts[i], bytes});
  }
  return writes;
}

constexpr std::size_t region_bytes = (1 << 20) + 4096 + 8; // not whole pages

} // namespace

TEST_CASE(child_case* doctest::skip()) {
  const char* told = std::getenv(child_variable);
  REQUIRE(told != nullptr);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const std::string_view words = told;
  const auto space = words.find(' ');
  const auto kind = words.starts_with("shared") ? bulk_kind::shared_memory : bulk_kind::fabric;
  const std::size_t bytes = std::strtoull(told + space + 1, nullptr, 10);

  control parent{base::unique_fd{child_control}};
  party self{kind, peer_rank, {bytes, bytes}};
  parent.send_value(offer::of(self));
  offer there;
  REQUIRE(parent.receive_value(there));
  there.attach_to(self, own_rank);
  parent.send_value(std::uint64_t{1});

  std::size_t echoed = 0;
  for (order given; parent.receive_value(given);) {
    switch (given.what) {
    case command::await: {
      REQUIRE(self.log.wait_arrived(given.argument));
      std::vector<std::uint64_t> data;
      for (const auto& arrival : self.log.arrived())
        data.push_back(arrival.data);
      REQUIRE(data.size() == given.argument);
      parent.send(std::as_bytes(std::span{data}));
      break;
    }
    case command::dump:
      parent.send(self.regions[0].bytes);
      break;
    case command::echo: {
      REQUIRE(self.post({.to = rank_id{own_rank},
                         .source_region = self.regions[0].id,
                         .target_region = 2,
                         .pieces = {{0, 0, bytes / 2}, {bytes / 2, bytes / 2, bytes - bytes / 2}},
                         .completion_data = given.argument,
                         .deadline = within(patience)},
                        ready_event::already()));
      REQUIRE(self.log.wait_delivered(++echoed));
      parent.send_value(std::uint64_t{self.log.delivered().back().outcome.has_value()});
      break;
    }
    }
  }
}

TEST_CASE("J12: two processes, random sizes, offsets and orders: every byte of the known pattern is where it belongs") {
  for (const auto kind : {bulk_kind::shared_memory, bulk_kind::fabric}) {
    for (const std::uint64_t seed : {1, 2, 3}) {
      CAPTURE(name_of(kind));
      CAPTURE(seed);
      std::mt19937_64 random{seed};
      party self{kind, own_rank, {region_bytes, region_bytes}};
      peer_process peer{self, region_bytes};
      const auto source = self.regions[0].bytes;
      std::vector<std::byte> expected(region_bytes);
      std::vector<std::byte> found(region_bytes);
      std::vector<std::uint64_t> told;

      for (std::uint64_t round = 0; round < 8; ++round) {
        CAPTURE(round);
        fill_pattern(source, seed * 1000 + round);
        const auto writes = random_writes(random, region_bytes, 1 + random() % 24);
        for (const auto& pieces : writes) {
          for (const auto& piece : pieces)
            std::memcpy(expected.data() + piece.target_offset, source.data() + piece.source_offset, piece.bytes);
          told.push_back(random() >> 16);
          const auto posted = self.post({.to = rank_id{peer_rank},
                                         .source_region = self.regions[0].id,
                                         .target_region = 1,
                                         .pieces = pieces,
                                         .completion_data = told.back(),
                                         .deadline = within(patience),
                                         .cookie = told.size() - 1},
                                        ready_event::already());
          REQUIRE_MESSAGE(posted, to_string(posted.error()));
        }
        REQUIRE(self.log.wait_delivered(told.size()));
        peer.give(command::await, told.size());
        std::vector<std::uint64_t> heard(told.size());
        REQUIRE(peer.says().receive(std::as_writable_bytes(std::span{heard})));
        peer.give(command::dump);
        REQUIRE(peer.says().receive(found));

        REQUIRE(std::is_permutation(heard.begin(), heard.end(), told.begin()));
        REQUIRE(std::mismatch(found.begin(), found.end(), expected.begin()).first - found.begin() ==
                static_cast<std::ptrdiff_t>(region_bytes));

        peer.give(command::echo, round);
        std::uint64_t delivered = 0;
        REQUIRE(peer.says().receive_value(delivered));
        REQUIRE(delivered == 1);
        REQUIRE(self.log.wait_arrived(round + 1));
        CHECK(self.log.arrived()[round].from == rank_id{peer_rank});
        CHECK(self.log.arrived()[round].data == round);
        REQUIRE(std::memcmp(self.regions[1].bytes.data(), expected.data(), region_bytes) == 0);
      }
      std::vector<bool> seen(told.size());
      for (const auto& it : self.log.delivered()) {
        CHECK(it.outcome.has_value());
        CHECK(!seen[it.cookie]);
        seen[it.cookie] = true;
      }
      CHECK(self.log.delivered().size() == told.size());
    }
  }
}

namespace {

/// A first write, so that the provider is connected: a peer that dies before is known by deadlines alone.
void connect_lane(party& self, peer_process& peer) {
  REQUIRE(self.post({.to = rank_id{peer_rank},
                     .source_region = 1,
                     .target_region = 1,
                     .pieces = {{0, 0, 8}},
                     .completion_data = 0,
                     .deadline = within(patience),
                     .cookie = 0},
                    ready_event::already()));
  REQUIRE(self.log.wait_delivered(1));
  // Taken from the completion ring too, so that all of it is free.
  peer.give(command::await, 1);
  std::uint64_t data = 0;
  REQUIRE(peer.says().receive_value(data));
  self.log.forget();
}

/// Writes that a stopped peer cannot finish: shared memory completes them until the completion ring is full.
std::size_t post_stuck_writes(party& self, protocols::time_point deadline) {
  const bool is_shared = self.engine->kind() == bulk_kind::shared_memory;
  const std::size_t count = is_shared ? 4096 + 16 : 8;
  const std::uint64_t bytes = is_shared ? 64 : 8 << 20;
  for (std::size_t i = 0; i < count; ++i) {
    const auto posted = self.post({.to = rank_id{peer_rank},
                                   .source_region = 1,
                                   .target_region = 1,
                                   .pieces = {{0, 0, bytes}},
                                   .deadline = deadline,
                                   .cookie = i},
                                  ready_event::already());
    REQUIRE_MESSAGE(posted, to_string(posted.error()));
  }
  return count;
}

std::size_t failures(event_log& log, std::initializer_list<fault> as) {
  const auto all = log.delivered();
  return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [&](const auto& it) {
    return !it.outcome && std::find(as.begin(), as.end(), it.outcome.error().code) != as.end();
  }));
}

} // namespace

TEST_CASE(
    "C47: a peer that is killed with writes in flight fails them all and is reported once, long before a deadline") {
  for (const auto kind : {bulk_kind::shared_memory, bulk_kind::fabric}) {
    CAPTURE(name_of(kind));
    party self{kind, own_rank, {8 << 20, 8 << 20}, 8192};
    peer_process peer{self, 8 << 20};
    connect_lane(self, peer);
    peer.pause();
    const auto count = post_stuck_writes(self, within(60s));
    if (kind == bulk_kind::shared_memory)
      REQUIRE(self.log.wait_delivered(4096));

    const auto begun = base::now();
    peer.kill();
    REQUIRE(self.log.wait_delivered(count));
    const auto failed_after = base::now() - begun;
    REQUIRE(self.log.wait_gone());
    const auto gone_after = base::now() - begun;

    // The kernel closes a killed process's sockets within milliseconds; the rest is a busy machine's. libfabric's
    // peer is gone when a probe of 1 s had no answer.
    CHECK(failed_after < 30s);
    CHECK(gone_after < 30s);
    MESSAGE(name_of(kind), ": failed after ", failed_after / 1us, " us, gone after ", gone_after / 1us, " us");
    CHECK(failures(self.log, {fault::peer_gone, fault::transfer_failed}) ==
          (kind == bulk_kind::shared_memory ? 16 : count));
    const auto late = self.post({.to = rank_id{peer_rank},
                                 .source_region = 1,
                                 .target_region = 1,
                                 .pieces = {{0, 0, 8}},
                                 .deadline = within(1s)},
                                ready_event::already());
    REQUIRE(!late);
    CHECK(late.error().code == fault::peer_gone);
    self.engine->stop();
    CHECK(self.log.gone().size() == 1);
    CHECK(self.log.gone()[0].peer == rank_id{peer_rank});
    CHECK(self.log.delivered().size() == count);
  }
}

TEST_CASE("I22: a peer that is stopped fails writes by their deadline, and is written to again when it goes on") {
  for (const auto kind : {bulk_kind::shared_memory, bulk_kind::fabric}) {
    CAPTURE(name_of(kind));
    party self{kind, own_rank, {8 << 20, 8 << 20}, 8192};
    peer_process peer{self, 8 << 20};
    connect_lane(self, peer);
    peer.pause();
    const auto begun = base::now();
    const auto count = post_stuck_writes(self, begun + 300ms);
    REQUIRE(self.log.wait_delivered(count));
    const auto took = base::now() - begun;
    CHECK(took > 250ms);
    CHECK(took < 30s);
    CHECK(failures(self.log, {fault::timeout}) >= (kind == bulk_kind::shared_memory ? 16 : 1));
    CHECK(self.log.gone().empty());

    peer.resume();
    REQUIRE(self.post({.to = rank_id{peer_rank},
                       .source_region = 1,
                       .target_region = 1,
                       .pieces = {{0, 0, 8}},
                       .deadline = within(patience),
                       .cookie = 1'000'000},
                      ready_event::already()));
    REQUIRE(self.log.wait_delivered(count + 1));
    CHECK(self.log.delivered().back().cookie == 1'000'000);
    const auto outcome = self.log.delivered().back().outcome;
    CHECK_MESSAGE(outcome.has_value(), to_string(outcome.error()));
  }
}
