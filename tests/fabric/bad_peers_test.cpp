#include <sys/resource.h>

#include <condition_variable>
#include <mutex>
#include <optional>
#include <set>
#include <type_traits>

#include "heap_watch.hpp"
#include "listener_fixture.hpp"

using namespace lane_fixture;

namespace {

/// Of a peer before its refusal: one frame of the longest that is taken from strangers, and what is written about it.
constexpr std::ptrdiff_t held_bytes_max = limits::unauthenticated_frame_bytes_max + 4096;
/// How much later than it should a loaded machine may be.
constexpr auto slack = 2s;
constexpr group_id its_group{3};

/// What a rank judges by: its plan, and that an edge is begun once (D2).
fabric::listener::hello_check plan_of_the_job() {
  return [begun = std::set<std::pair<channel_kind, group_id>>{}](const fabric::edge& between,
                                                                 const hello& said) mutable -> result<void> {
    const auto peer = between.peer;
    const auto from = between.peer_born;
    if (peer != client_rank_here || (said.channel == channel_kind::group && said.group != its_group))
      return fail(fault::not_a_member, "rank " + std::to_string(peer.value) + " has no such edge");
    if (from != born)
      return fail(fault::stale_generation, "generation " + std::to_string(from.value));
    if (!begun.emplace(said.channel, said.group).second)
      return fail(fault::wrong_sequence, "rank " + std::to_string(peer.value) + " has begun this edge before");
    return {};
  };
}

/// A listener at work on a thread of its own, with one good edge that has to go on working.
class house {
public:
  house() : server_{plan_of_the_job()} {
    auto made = server_.connect(lane_kind::tcp, identity_of(client_rank_here));
    REQUIRE(made);
    REQUIRE(server_.arrived.size() == 1);
    good_ = {std::move(*made), std::move(server_.arrived.front().with)};
    server_.arrived.clear();
    at_ = server_.at();
    thread_ = std::thread{[this] { serve(); }};
  }
  ~house() {
    stop_ = true;
    thread_.join();
  }

  const endpoint& at() const { return at_; }

  /// The listener's memory counts from here; what it has refused is forgotten.
  void begin() {
    const auto round = served_.load();
    begun_ = true;
    while (begun_ || served_ < round + 2) // a whole step has passed since
      std::this_thread::yield();
    const std::lock_guard lock{mutex_};
    refusals_.clear();
  }
  /// The refusals since, once they are `count` or the deadline has passed.
  std::vector<std::string> refusals(std::size_t count = 1, duration limit = fabric::handshake_deadline + slack) {
    std::unique_lock lock{mutex_};
    news_.wait_for(lock, limit, [&] { return refusals_.size() >= count; });
    return refusals_;
  }
  std::ptrdiff_t held() const { return most_held_; }

  /// The one who came in since; nobody at the deadline.
  std::optional<fabric::incoming> arrival() {
    std::unique_lock lock{mutex_};
    if (!news_.wait_for(lock, slack, [&] { return !arrived_.empty(); }))
      return std::nullopt;
    auto first = std::move(arrived_.front());
    arrived_.clear();
    return first;
  }

  /// A frame there and one back over the edge that was there before.
  bool good_edge_works() {
    for (auto* const from : {good_.first.get(), good_.second.get()}) {
      auto& to = from == good_.first.get() ? *good_.second : *good_.first;
      if (!fabric::send(*from, plain(++calls_), random_bytes(random_, 300), in(5s)))
        return false;
      const auto got = fabric::receive(to, in(5s));
      if (!got || got->header.call != call_id{calls_})
        return false;
      to.pop();
    }
    return true;
  }

private:
  void serve() {
    while (!stop_) {
      if (begun_.exchange(false))
        heap.begin();
      server_.serve_until([turn = 0]() mutable { return turn++ == 1; });
      most_held_ = heap.most;
      {
        const std::lock_guard lock{mutex_};
        std::move(server_.refusals.begin(), server_.refusals.end(), std::back_inserter(refusals_));
        std::move(server_.arrived.begin(), server_.arrived.end(), std::back_inserter(arrived_));
      }
      news_.notify_all();
      server_.refusals.clear();
      server_.arrived.clear();
      ++served_;
    }
  }

  server server_;
  lane_pair good_;
  endpoint at_;
  std::uint64_t calls_ = 0;
  std::mt19937_64 random_{5};
  std::atomic<bool> stop_ = false;
  std::atomic<bool> begun_ = false;
  std::atomic<std::uint64_t> served_ = 0;
  std::atomic<std::ptrdiff_t> most_held_ = 0;
  std::condition_variable news_;
  std::mutex mutex_; ///< guards the two below
  std::vector<std::string> refusals_;
  std::vector<fabric::incoming> arrived_;
  std::thread thread_;
};

base::unique_fd connect_to(const endpoint& at, lane_kind kind) {
  return kind == lane_kind::tcp ? raw_tcp(at.tcp_port) : raw_unix(at.unix_path);
}

/// As much as is taken: who is refused in the middle need not be heard out.
void say_some(const base::unique_fd& socket, std::span<const std::byte> bytes) {
  [[maybe_unused]] const auto sent = ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

std::vector<std::byte> text(std::string_view words) {
  const auto bytes = std::as_bytes(std::span{words});
  return {bytes.begin(), bytes.end()};
}

/// A frame whose checksum is right, and a hello's proof too, whatever else its header and payload say.
template <class Message>
std::vector<std::byte> frame_of(Message message, const std::function<void(frame_header&)>& change = {},
                                const std::function<void(std::vector<std::byte>&)>& spoil = {}, bool proves = true) {
  auto header = client_edge.stamp({.type = Message::type}, 0, 0);
  std::vector<std::byte> payload;
  encode_payload(message, payload);
  header.payload_bytes = static_cast<std::uint32_t>(payload.size());
  if (change)
    change(header);
  if constexpr (std::is_same_v<Message, hello>)
    if (proves) {
      message.shown = fabric::proof_of_hello(token_of_the_job(), fabric::sender_of(header), message);
      payload.clear();
      encode_payload(message, payload);
    }
  if (spoil)
    spoil(payload);
  header_bytes place;
  encode_header(header, payload, place);
  std::vector<std::byte> out{place.begin(), place.end()};
  out.insert(out.end(), payload.begin(), payload.end());
  return out;
}

std::vector<std::byte> changed(std::vector<std::byte> frame, std::size_t at, std::uint32_t word, std::size_t bytes) {
  std::memcpy(frame.data() + at, &word, bytes);
  return frame;
}

/// What one says and does that is not to be let in, and how it must be called.
struct bad_peer {
  std::string kind;
  fault named{};
  std::function<void(const base::unique_fd&)> act;
  std::vector<lane_kind> over = {lane_kind::tcp, lane_kind::shared_memory};
};

std::vector<bad_peer> bad_peers() {
  const auto says = [](std::vector<std::byte> bytes) {
    return [bytes = std::move(bytes)](const base::unique_fd& socket) { say_some(socket, bytes); };
  };
  const auto hello_with = [](const std::function<void(hello&)>& change) {
    auto said = good_hello();
    change(said);
    return said;
  };
  const auto good = frame_of(good_hello());
  std::mt19937_64 random{11};
  std::vector<bad_peer> all{
      {"garbage", fault::bad_magic, says(random_bytes(random, 4096))},
      {"a megabyte of garbage", fault::bad_magic, says(random_bytes(random, 1 << 20))},
      {"plain HTTP", fault::bad_magic, says(text("GET / HTTP/1.1\r\nHost: 127.0.0.1:9000\r\nAccept: */*\r\n\r\n"))},
      {"a TLS client hello", fault::bad_magic,
       says(text(std::string{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11} + std::string(501, 'r')))},
      {"wrong magic", fault::bad_magic, says(changed(good, 0, frame_magic + 1, 4))},
      {"wrong version", fault::unknown_version, says(changed(good, 4, wire_version + 1u, 2))},
      {"unknown type", fault::unknown_type, says(changed(good, 6, 0xffff, 2))},
      {"unknown flag", fault::unknown_flag, says(changed(good, 8, 1u << 31, 4))},
      {"length 4 GiB", fault::frame_too_long, says(changed(good, 12, 0xffff'ffff, 4))},
      {"length just above the cap", fault::frame_too_long,
       says(changed(good, 12, limits::unauthenticated_frame_bytes_max - limits::frame_header_bytes + 1, 4))},
      {"bad checksum", fault::bad_checksum, says(changed(good, 100, 0xdead'beef, 4))},
      {"a header that was changed on the way", fault::bad_checksum, says(changed(good, 48, 1, 4))},
      {"another message than a hello", fault::bad_value, says(frame_of(welcome{}))},
      {"no payload", fault::short_payload,
       says(frame_of(
           good_hello(), [](auto& header) { header.payload_bytes = 0; }, [](auto& payload) { payload.clear(); }))},
      {"a hello that ends after the token", fault::short_payload,
       says(frame_of(
           good_hello(), [](auto& header) { header.payload_bytes = 32; }, [](auto& payload) { payload.resize(32); }))},
      {"a channel that does not exist", fault::bad_value,
       says(frame_of(good_hello(), {}, [](auto& payload) { payload[48] = std::byte{9}; }))},
      {"wrong job token", fault::wrong_job,
       says(frame_of(hello_with([](hello& h) { h.shown[31] ^= std::byte{1}; }), {}, {}, false))},
      {"no token, and as many capabilities as a frame holds", fault::wrong_job,
       says(frame_of(hello_with([](hello& h) {
                       h.shown = {};
                       h.capabilities.resize(16'000);
                     }),
                     {}, {}, false))},
      {"the token itself, as hellos once had it", fault::wrong_job,
       says(frame_of(hello_with([](hello& h) { h.shown = token_of_the_job(); }), {}, {}, false))},
      {"a proof for another channel", fault::wrong_job,
       says(frame_of(hello_with([](hello& h) { h.channel = channel_kind::tokens; }), {}, {}, false))},
      {"a proof of another rank", fault::wrong_job,
       says(frame_of(
           good_hello(), [](auto& header) { header.source = rank_id{66}; }, {}, false))},
      {"right token, but a rank without such an edge", fault::not_a_member,
       says(frame_of(good_hello(), [](auto& header) { header.source = rank_id{66}; }))},
      {"wrong group", fault::not_a_member, says(frame_of(hello_with([](hello& h) {
         h.channel = channel_kind::group;
         h.group = group_id{4};
       })))},
      {"old generation", fault::stale_generation,
       says(frame_of(good_hello(), [](auto& header) { header.source_generation = generation{0}; }))},
      {"meant for an older generation", fault::stale_generation,
       says(frame_of(good_hello(), [](auto& header) { header.destination_generation = generation{0}; }))},
      {"meant for another rank", fault::wrong_rank,
       says(frame_of(good_hello(), [](auto& header) { header.destination = rank_id{5}; }))},
      {"a hello that is not the first frame", fault::wrong_sequence,
       says(frame_of(good_hello(), [](auto& header) { header.sequence = 1; }))},
      {"replay: a second hello for the same edge", fault::wrong_sequence, says(good)},
      {"closes in the middle of a hello", fault::peer_gone,
       [good](const base::unique_fd& socket) {
         say_some(socket, std::span{good}.first(70));
         ::shutdown(socket.get(), SHUT_WR);
       }},
      {"half-open", fault::timeout, [](const base::unique_fd&) {}, {lane_kind::tcp}},
      {"slow loris",
       fault::timeout,
       [good](const base::unique_fd& socket) {
         const auto until = in(fabric::handshake_deadline);
         for (std::size_t i = 0; i < good.size() && base::now() < until; ++i) {
           say_some(socket, std::span{good}.subspan(i, 1));
           if (fabric::wait_socket(socket.get(), POLLIN, in(100ms)))
             return; // it was told
         }
       },
       {lane_kind::tcp}},
      {"memory for a lane that is none",
       fault::bad_value,
       [frame = frame_of(hello_with([](hello& h) { h.channel = channel_kind::tokens; }))](const auto& socket) {
         const std::array files{socket.get(), socket.get(), socket.get()};
         CHECK(fabric::send_handshake(socket.get(), frame, files, in(1s)));
       },
       {lane_kind::shared_memory}},
      {"more descriptors than a lane has",
       fault::bad_value,
       [good](const auto& socket) {
         const std::array files{socket.get(), socket.get()};
         for (std::size_t i = 0; i < 2; ++i)
           CHECK(fabric::send_handshake(socket.get(), std::span{good}.subspan(i, 1), files, in(1s)));
       },
       {lane_kind::shared_memory}},
  };
  return all;
}

} // namespace

TEST_CASE("C20: bad peers of every kind are refused by name within 2 s and 64 KiB, and a good edge goes on") {
  house here;
  for (const auto kind : both_kinds)
    for (const auto& peer : bad_peers()) {
      if (std::find(peer.over.begin(), peer.over.end(), kind) == peer.over.end())
        continue;
      INFO("peer: ", peer.kind, ", over: ", std::string{fabric::name(kind)});
      here.begin();
      const auto began = base::now();
      const auto socket = connect_to(here.at(), kind);
      peer.act(socket);
      const auto refusals = here.refusals();
      const auto line = refusals.empty() ? std::string{} : refusals.front();

      CHECK(base::now() - began < fabric::handshake_deadline + slack);
      CHECK_MESSAGE(line.find(std::string{name(peer.named)} + ":") != std::string::npos, line);
      rest_of(socket); // ends: the listener has let go
      CHECK(here.held() <= held_bytes_max);
      CHECK(here.good_edge_works());
    }
}

TEST_CASE("D2: a welcomed peer that breaks the rules loses its lane, and no other") {
  struct breach {
    std::string kind;
    fault named{};
    std::function<void(frame_header&)> change;
  };
  const std::array breaches{
      breach{"right frame from the wrong rank", fault::wrong_rank, [](auto& header) { header.source = rank_id{66}; }},
      breach{"wrong sequence", fault::wrong_sequence, [](auto& header) { header.sequence = 7; }},
      breach{"old generation", fault::stale_generation, [](auto& header) { header.source_generation = generation{0}; }},
      breach{"another epoch", fault::stale_epoch, [](auto& header) { header.epoch = cache_epoch{1}; }},
      breach{"longer than the spec allows", fault::frame_too_long,
             [](auto& header) { header.payload_bytes = static_cast<std::uint32_t>(small.frame_bytes_max); }},
  };
  for (const auto& with : breaches) {
    INFO("breach: ", with.kind);
    house here;
    const auto socket = raw_tcp(here.at().tcp_port);
    auto said = good_hello();
    said.channel = channel_kind::tokens;
    say(socket, frame_of(said));
    const auto arrived = here.arrival();
    REQUIRE(arrived);

    say(socket, frame_of(heartbeat{}, [&](frame_header& header) {
          header.sequence = 1;
          with.change(header);
        }));
    const auto got = fabric::receive(*arrived->with, in(5s));

    REQUIRE_FALSE(got);
    CHECK(got.error().code == with.named);
    CHECK(arrived->with->peek().error().code == fault::peer_gone);
    rest_of(socket);
    CHECK(here.good_edge_works());
  }
}

TEST_CASE("C39: a thousand silent connections at once are refused, and a good peer among them is served") {
  constexpr std::size_t count = 1000;
  rlimit files{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &files) == 0);
  files.rlim_cur = std::max(files.rlim_cur, std::min<rlim_t>(files.rlim_max, 4 * count));
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &files) == 0);
  house here;
  here.begin();
  std::vector<base::unique_fd> silent;
  for (std::size_t i = 0; i < count / 2; ++i)
    silent.push_back(raw_tcp(here.at().tcp_port));
  const auto good = raw_tcp(here.at().tcp_port);
  auto said = good_hello();
  said.channel = channel_kind::tokens;
  say(good, frame_of(said));
  for (std::size_t i = count / 2; i < count; ++i)
    silent.push_back(raw_tcp(here.at().tcp_port));

  CHECK(here.arrival());
  CHECK(here.good_edge_works());
  // Each round of places takes the short deadline; the last ones no longer fill all places and have the long one.
  CHECK(here.refusals(count, 2 * fabric::handshake_deadline + slack).size() == count);
  CHECK(here.held() <= static_cast<std::ptrdiff_t>(fabric::pending_handshakes_max) * held_bytes_max);
  CHECK(here.good_edge_works());
}
