#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <fstream>

#include "fabric/socket_address.hpp"
#include "listener_fixture.hpp"
#include "protocols/cluster/epoch_fence.hpp"

using namespace lane_fixture;

namespace {

bool round_trip(fabric::lane& one, fabric::lane& other) {
  const std::vector<std::byte> payload(300, std::byte{1});
  if (!fabric::send(one, plain(1), payload, in(60s)))
    return false;
  const auto got = fabric::receive(other, in(60s));
  if (!got || !equal(got->payload, payload) || got->header.sequence != 1)
    return false;
  other.pop();
  return true;
}

} // namespace

TEST_CASE("A27: a welcomed peer gets a lane that works both ways, and the listener says who it is") {
  for (const auto kind : both_kinds) {
    INFO("lane: ", std::string{fabric::name(kind)});
    server here;
    auto mine =
        here.connect(kind, identity_of(client_rank_here),
                     {.channel = channel_kind::group, .group = group_id{3}, .build = {}, .capabilities = {"zstd"}});
    REQUIRE_MESSAGE(mine, (mine ? "" : to_string(mine.error())));
    REQUIRE(here.arrived.size() == 1);
    auto& theirs = here.arrived[0];

    CHECK(theirs.peer == client_rank_here);
    CHECK(theirs.peer_born == born);
    CHECK(theirs.channel == channel_kind::group);
    CHECK(theirs.group == group_id{3});
    CHECK(theirs.capabilities == std::vector<std::string>{"zstd"});
    CHECK((*mine)->kind() == kind);
    CHECK(theirs.with->kind() == kind);
    CHECK(round_trip(**mine, *theirs.with));
    CHECK(round_trip(*theirs.with, **mine));
    CHECK(here.refusals.empty());
  }
}

TEST_CASE("a hello that is not to be welcomed is refused by name, and other connections go on") {
  struct hello_case {
    std::string what;
    fault named;
    std::function<void(fabric::identity&, endpoint&)> spoil;
  };
  const hello_case cases[] = {
      {"another job's token", fault::wrong_job, [](auto& self, auto&) { self.job_token[31] = std::byte{1}; }},
      {"meant for another rank", fault::wrong_rank, [](auto&, auto& to) { to.rank = rank_id{77}; }},
      {"meant for an older generation", fault::stale_generation, [](auto&, auto& to) { to.born = generation{0}; }},
      {"not in the plan", fault::not_a_member, [](auto& self, auto&) { self.rank = rank_id{66}; }},
  };
  for (const auto kind : both_kinds)
    for (const auto& with : cases) {
      INFO("lane: ", std::string{fabric::name(kind)}, ", hello: ", with.what);
      server here{[](const fabric::edge& between, const hello&) -> result<void> {
        if (between.peer == client_rank_here)
          return {};
        return fail(fault::not_a_member, "rank 66 has no edge with rank 4");
      }};
      auto good = here.connect(kind, identity_of(client_rank_here));
      REQUIRE(good);

      auto self = identity_of(client_rank_here);
      auto to = here.at();
      with.spoil(self, to);
      const auto refused = here.connect(kind, self, {}, to);

      REQUIRE_FALSE(refused);
      CHECK(refused.error().code == with.named);
      CHECK(here.refusals.size() == 1);
      CHECK(here.refused_with(std::string{name(with.named)}));
      CHECK(here.arrived.size() == 1);
      CHECK(round_trip(**good, *here.arrived[0].with));
    }
}

TEST_CASE("what does not speak our wire is dropped with a named fault, and the listener goes on") {
  const auto text = [](std::string_view words) {
    const auto* begin = reinterpret_cast<const std::byte*>(words.data());
    return std::vector<std::byte>{begin, begin + words.size()};
  };
  std::mt19937_64 random{11};
  auto frame = fabric::handshake_frame(client_edge, good_hello());
  const auto changed = [&](std::size_t at, std::vector<std::byte> bytes) {
    auto copy = frame;
    std::copy(bytes.begin(), bytes.end(), copy.begin() + static_cast<std::ptrdiff_t>(at));
    return copy;
  };
  const std::byte ff{0xff};
  const std::vector<std::pair<std::string, std::vector<std::byte>>> cases = {
      {"bad_magic", text("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n")},
      {"bad_magic", random_bytes(random, 4096)},
      {"frame_too_long", changed(12, {ff, ff, ff, ff})},
      {"unknown_version", changed(4, {std::byte{9}, std::byte{0}})},
      {"unknown_type", changed(6, {ff, ff})},
      {"bad_checksum", changed(100, {ff})},
      {"bad_value", fabric::handshake_frame(client_edge, welcome{})},
  };
  server here;
  auto good = here.connect(lane_kind::tcp, identity_of(client_rank_here));
  REQUIRE(good);
  for (const auto& [named, bytes] : cases) {
    INFO("fault: ", named);
    here.refusals.clear();
    const auto socket = raw_tcp(here.listening->tcp_port());
    say(socket, bytes);
    here.serve_until([&] { return !here.refusals.empty(); });
    CHECK(here.refused_with(named));
    rest_of(socket); // ends: the listener has let go
  }
  CHECK(here.arrived.size() == 1);
  CHECK(round_trip(**good, *here.arrived[0].with));
}

TEST_CASE("a peer of another version is told so") {
  server here;
  auto frame = fabric::handshake_frame(client_edge, good_hello());
  frame[4] = std::byte{2};
  const auto socket = raw_tcp(here.listening->tcp_port());
  say(socket, frame);
  here.serve_until([&] { return !here.refusals.empty(); });

  const auto reply = rest_of(socket);
  REQUIRE(reply.size() > limits::frame_header_bytes);
  const auto header = decode_header(std::span{reply}.first<limits::frame_header_bytes>(), 65'536);
  REQUIRE(header);
  CHECK(header->type == message_type::refuse);
  refuse why;
  REQUIRE(decode_payload(std::span{reply}.subspan(limits::frame_header_bytes), why));
  CHECK(fault_from(why.code) == fault::unknown_version);
}

TEST_CASE("C34: a peer that never finishes its hello is dropped after two seconds, others are served meanwhile") {
  server here;
  const auto frame = fabric::handshake_frame(client_edge, good_hello());
  const auto silent = raw_tcp(here.listening->tcp_port());
  const auto slow = raw_tcp(here.listening->tcp_port());
  say(slow, std::span{frame}.first(70));
  const auto began = base::now();
  here.step(began);

  // when others come, they are served
  CHECK(here.connect(lane_kind::tcp, identity_of(client_rank_here)));
  CHECK(here.connect(lane_kind::shared_memory, identity_of(client_rank_here)));
  here.step(began + 1900ms);
  CHECK(here.refusals.empty());

  // then, by the listener's clock, the time of the two is up
  here.step(began + 2100ms);
  CHECK(here.refusals.size() == 2);
  CHECK(here.refused_with("timeout"));
}

TEST_CASE("pending handshakes are bounded, and those beyond wait their turn") {
  server here;
  std::vector<base::unique_fd> idle;
  for (std::size_t i = 0; i < fabric::pending_handshakes_max + 10; ++i)
    idle.push_back(raw_tcp(here.listening->tcp_port()));
  const auto began = base::now();
  here.step(began);
  CHECK(here.listening->waitables().size() == fabric::pending_handshakes_max);

  here.step(began + 3s);
  CHECK(here.refusals.size() == fabric::pending_handshakes_max);
  CHECK(here.connect(lane_kind::tcp, identity_of(client_rank_here)));
}

TEST_CASE("B9: an edge has begun when its lane is there, not when its hello was good") {
  server here;
  const auto lacking = raw_unix(here.at().unix_path); // the three descriptors of its lane
  say(lacking, fabric::handshake_frame(client_edge, good_hello()));
  here.serve_until([&] { return !here.refusals.empty(); });
  CHECK(here.begun.empty());

  REQUIRE(here.connect(lane_kind::shared_memory, identity_of(client_rank_here)));
  CHECK(here.begun == std::vector{client_rank_here});
}

TEST_CASE("descriptors that no lane needs are refused and closed") {
  server here;
  const auto connect_raw = [&] { return raw_unix(here.at().unix_path); };
  const auto frame = fabric::handshake_frame(client_edge, good_hello());
  SUBCASE("none") {
    const auto socket = connect_raw();
    say(socket, frame);
    here.serve_until([&] { return !here.refusals.empty(); });
  }
  SUBCASE("three that are no memory and no doorbell") {
    const auto socket = connect_raw();
    const int wrong[] = {socket.get(), socket.get(), socket.get()};
    REQUIRE(fabric::send_handshake(socket.get(), frame, wrong, in(1s)));
    here.serve_until([&] { return !here.refusals.empty(); });
  }
  SUBCASE("some with every byte") {
    const auto socket = connect_raw();
    const int wrong[] = {socket.get(), socket.get()};
    for (std::size_t i = 0; i < 3; ++i)
      REQUIRE(fabric::send_handshake(socket.get(), std::span{frame}.subspan(i, 1), wrong, in(1s)));
    here.serve_until([&] { return !here.refusals.empty(); });
  }
  CHECK(here.refused_with("bad_value"));
  CHECK(here.arrived.empty());
  CHECK(here.connect(lane_kind::shared_memory, identity_of(client_rank_here)));
}

TEST_CASE("an address that cannot be listened on is explained") {
  const scratch_folder folder;
  const auto open = [](const std::string& path, const std::string& address, std::uint16_t port) {
    auto opened = fabric::listener::open(path, address, port, identity_of(server_rank), small, server::accept_all);
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code == fault::config_invalid);
    return opened.error().what;
  };
  SUBCASE("a port in use") {
    const server other;
    const auto port = other.listening->tcp_port();
    CHECK(open("", "127.0.0.1", port) == "cannot listen on 127.0.0.1:" + std::to_string(port) +
                                             ": address in use; set lanes.tcp_port to a free port or 0");
  }
  SUBCASE("a path that is too long") {
    const auto what = open("/tmp/" + std::string(200, 'x'), "", 0);
    CHECK(what.find("205 bytes") != std::string::npos);
    CHECK(what.find("run directory") != std::string::npos);
  }
  SUBCASE("a path on which another process listens") {
    const server other;
    CHECK(open(other.at().unix_path, "", 0).find("another process listens there") != std::string::npos);
  }
  SUBCASE("a file in the way") {
    std::ofstream{folder.path + "/socket"} << "precious";
    CHECK(open(folder.path + "/socket", "", 0).find("no socket") != std::string::npos);
    CHECK(std::ifstream{folder.path + "/socket"}.good());
  }
  SUBCASE("a folder that is not there") {
    CHECK(open(folder.path + "/none/socket", "", 0).find("No such file") != std::string::npos);
  }
  SUBCASE("a name instead of an address") {
    CHECK(open("", "localhost", 0).find("numeric") != std::string::npos);
  }
}

TEST_CASE("the socket file that a killed rank left is replaced, and only its owner may connect") {
  const scratch_folder folder;
  const auto path = folder.path + "/socket";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::copy(path.begin(), path.end(), address.sun_path);
  {
    const base::unique_fd dead{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    REQUIRE(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  {
    const auto opened = fabric::listener::open(path, "", 0, identity_of(server_rank), small, server::accept_all);
    REQUIRE_MESSAGE(opened, (opened ? "" : to_string(opened.error())));
    struct stat found {};
    REQUIRE(::stat(path.c_str(), &found) == 0);
    CHECK((found.st_mode & 0777) == 0600);
  }
  CHECK(::access(path.c_str(), F_OK) != 0); // and the listener cleans up behind itself
}

TEST_CASE("connecting where nobody listens fails at once, where nobody answers at its deadline") {
  const scratch_folder folder;
  endpoint nowhere{.rank = server_rank,
                   .born = born,
                   .unix_path = folder.path + "/socket",
                   .tcp_address = "127.0.0.1",
                   .tcp_port = 1,
                   .fabric_address = {}};
  for (const auto kind : both_kinds) {
    INFO("lane: ", std::string{fabric::name(kind)});
    const auto began = base::now();
    const auto failed = fabric::connect(kind, nowhere, identity_of(client_rank_here), {}, small, in(60s));
    REQUIRE_FALSE(failed);
    CHECK(failed.error().code == fault::peer_gone);
    CHECK(base::now() - began < 20s);
  }
  const server mute; // accepts nothing: nobody steps it
  for (const auto kind : both_kinds) {
    INFO("lane: ", std::string{fabric::name(kind)});
    const auto failed = fabric::connect(kind, mute.at(), identity_of(client_rank_here), {}, small, in(50ms));
    REQUIRE_FALSE(failed);
    CHECK(failed.error().code == fault::timeout);
  }
}

TEST_CASE("K5: who answers a hello without knowing the job's token is not believed, and the hello did not tell it") {
  const base::unique_fd liar{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::bind(liar.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(liar.get(), 1) == 0);
  const auto at = fabric::own_address(liar.get());
  REQUIRE(at);
  const endpoint there{.rank = server_rank,
                       .born = born,
                       .unix_path = {},
                       .tcp_address = "127.0.0.1",
                       .tcp_port = fabric::port_of(*at),
                       .fabric_address = {}};
  result<std::unique_ptr<fabric::lane>> got = fail(fault::timeout);
  std::thread client{
      [&] { got = fabric::connect(lane_kind::tcp, there, identity_of(client_rank_here), {}, small, in(20s)); }};
  const base::unique_fd caller{::accept4(liar.get(), nullptr, nullptr, SOCK_CLOEXEC)};
  hello said_by_the_client;
  said_by_the_client.build = "test";
  std::vector<std::byte> heard(fabric::handshake_frame(client_edge, said_by_the_client).size());
  CHECK(::recv(caller.get(), heard.data(), heard.size(), MSG_WAITALL) == static_cast<ssize_t>(heard.size()));
  const auto token = token_of_the_job();
  CHECK(std::search(heard.begin(), heard.end(), token.begin(), token.end()) == heard.end());
  const fabric::edge from_here{.self = server_rank, .self_born = born, .peer = client_rank_here, .peer_born = born};
  say(caller, fabric::handshake_frame(from_here, welcome{}));
  client.join();
  REQUIRE_FALSE(got);
  CHECK(got.error().code == fault::wrong_job);
}

TEST_CASE("C46, J12: bytes cross between two processes unchanged, and a killed peer is noticed at once") {
  for (const auto kind : both_kinds) {
    constexpr std::uint64_t seed = 31;
    constexpr std::uint64_t frames = 500;
    constexpr std::size_t payload_max = small.frame_bytes_max - limits::frame_header_bytes;
    INFO("lane: ", std::string{fabric::name(kind)}, ", seed: ", seed);
    server here;
    const auto to = here.at();

    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      // Echoes every frame, then sends three more and is killed before it could close anything.
      auto lane = fabric::connect(kind, to, identity_of(client_rank_here), {}, small, in(60s));
      for (std::uint64_t i = 0; lane && i < frames; ++i) {
        const auto got = fabric::receive(**lane, in(10s));
        if (!got || !fabric::send(**lane, plain(got->header.call.value), got->payload, in(10s)))
          ::_exit(1);
        (*lane)->pop();
      }
      for (std::uint64_t i = 0; lane && i < 3; ++i)
        static_cast<void>((*lane)->try_send(plain(1000 + i), {}));
      while (lane && !(*lane)->flush())
        continue;
      ::raise(SIGKILL);
    }
    here.serve_until([&] { return !here.arrived.empty(); });
    REQUIRE(here.arrived.size() == 1);
    auto& lane = *here.arrived[0].with;

    std::mt19937_64 random{seed};
    std::uint64_t same = 0;
    for (std::uint64_t i = 0; i < frames; ++i) {
      const auto payload = random_bytes(random, random_size(random, payload_max));
      REQUIRE(fabric::send(lane, plain(i), payload, in(10s)));
      const auto got = fabric::receive(lane, in(10s));
      REQUIRE(got);
      same += equal(got->payload, payload) && got->header.call == call_id{i} ? 1 : 0;
      lane.pop();
    }
    CHECK(same == frames);

    for (std::uint64_t i = 0; i < 3; ++i) {
      const auto got = fabric::receive(lane, in(60s));
      REQUIRE(got);
      CHECK(got->header.call == call_id{1000 + i});
      lane.pop();
    }
    const auto began = base::now();
    const auto end = fabric::receive(lane, in(60s));
    REQUIRE_FALSE(end);
    CHECK(end.error().code == fault::peer_gone);
    CHECK(base::now() - began < 20s);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
  }
}

namespace {

fabric::identity identity_in(cache_epoch epoch) {
  auto self = identity_of(client_rank_here);
  self.epoch = epoch;
  return self;
}

} // namespace

TEST_CASE("D2: both ends of an edge begin it in the epoch of the side that connects, and frames name that or a later "
          "one") {
  for (const auto kind : both_kinds) {
    INFO("lane: ", std::string{fabric::name(kind)});
    server here;
    auto far = here.connect(kind, identity_in(cache_epoch{3}));
    REQUIRE(far);
    REQUIRE(here.arrived.size() == 1);
    auto& near = *here.arrived.front().with;
    const auto crosses = [&](fabric::lane& from, fabric::lane& to, std::uint64_t said, std::uint64_t seen) {
      auto header = plain(said);
      header.epoch = cache_epoch{said};
      REQUIRE(from.try_send(header, {}));
      const auto got = fabric::receive(to, in(60s));
      REQUIRE(got);
      CHECK(got->header.epoch == cache_epoch{seen});
      CHECK(got->header.call == call_id{said});
      to.pop();
    };
    const auto is_dropped = [&](fabric::lane& from, std::uint64_t said) {
      auto header = plain(said);
      header.epoch = cache_epoch{said};
      CHECK(from.try_send(header, {}).error().code == fault::stale_epoch);
    };
    for (const bool back : {false, true}) {
      auto& from = back ? near : **far;
      auto& to = back ? **far : near;
      crosses(from, to, 0, 3); // of no decision: the edge's own
      is_dropped(from, 2);     // meant for the process that was in that place before
      crosses(from, to, 5, 5);
      is_dropped(from, 1);
      crosses(from, to, 4, 4); // another role of that rank, which has not learnt of the last loss
    }
  }
}

TEST_CASE("D8: a frame that is older than its edge ends it by name at the receiver, since its sender should have "
          "dropped it") {
  server here;
  const auto socket = raw_tcp(here.at().tcp_port);
  auto between = client_edge;
  between.epoch = cache_epoch{3};
  hello said;
  said.shown = fabric::proof_of_hello(token_of_the_job(), between, said);
  say(socket, fabric::handshake_frame(between, said));
  here.serve_until([&] { return !here.arrived.empty(); });
  REQUIRE(here.arrived.size() == 1);
  const auto frame_in = [&](std::uint64_t epoch, std::uint64_t sequence) {
    auto sender = between;
    sender.epoch = cache_epoch{epoch};
    std::vector<std::byte> payload;
    encode_payload(heartbeat{}, payload);
    header_bytes place;
    encode_header(sender.stamp({.type = heartbeat::type}, sequence, payload.size()), payload, place);
    std::vector<std::byte> out{place.begin(), place.end()};
    out.insert(out.end(), payload.begin(), payload.end());
    return out;
  };
  auto& lane = *here.arrived.front().with;
  say(socket, frame_in(4, 1));
  REQUIRE(fabric::receive(lane, in(60s)));
  lane.pop();
  say(socket, frame_in(2, 2));
  const auto late = fabric::receive(lane, in(60s));
  REQUIRE_FALSE(late);
  CHECK(late.error().code == fault::stale_epoch);
}

TEST_CASE("K5: the epoch of a hello is part of what its sender proves") {
  server here;
  const auto socket = raw_tcp(here.at().tcp_port);
  auto raised = client_edge;
  raised.epoch = cache_epoch{9};
  say(socket, fabric::handshake_frame(raised, good_hello())); // whose proof is of epoch 0
  here.serve_until([&] { return !here.refusals.empty(); });
  CHECK(here.refused_with(std::string{name(fault::wrong_job)}));
  CHECK(here.arrived.empty());
}

TEST_CASE("D2: a hello of an epoch that is over is refused by name, and the next one gets its edge") {
  const auto epoch_holds = [](const fabric::edge& between, const hello&) -> result<void> {
    epoch_fence fence{first_epoch};
    fence.on_lost({.ranks = {client_rank_here}, .next = born, .cause = {}, .epoch = cache_epoch{4}});
    return fence.validate_hello(between.epoch, between.peer);
  };
  for (const auto kind : both_kinds) {
    INFO("lane: ", std::string{fabric::name(kind)});
    server here{epoch_holds};
    const auto late = here.connect(kind, identity_in(cache_epoch{3}));
    REQUIRE_FALSE(late);
    CHECK(late.error().code == fault::stale_epoch);
    CHECK(here.connect(kind, identity_in(cache_epoch{4})));
  }
}
