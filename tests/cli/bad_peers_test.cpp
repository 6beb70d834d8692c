#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "fabric/lanes/handshake.hpp"
#include "protocols/limits.hpp"
#include "protocols/serve/client_messages.hpp"
#include "protocols/serve/request_messages.hpp"
#include "protocols/wire/edge_messages.hpp"
#include "tests/cli/front_client.hpp"
#include "tests/cli/golden_pages.hpp"

using namespace troupe;
using namespace troupe::tests;

namespace {

constexpr std::size_t ranks = 4;

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

bool are_free(std::uint16_t first) {
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    const base::unique_fd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    const int reuse = 1; // what has just been closed is no reason to go elsewhere
    ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    const auto address = loopback(static_cast<std::uint16_t>(first + rank));
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      return false;
  }
  return true;
}

/// A port for each rank, below those that the kernel gives out by itself. The lock keeps them from the other tests that
/// run at the same time, for as long as this process lives.
std::uint16_t first_port() {
  static const auto held = [] {
    for (std::uint16_t first = 20'000; first < 30'000; first += ranks) {
      const auto file = "/tmp/troupe-ports-" + std::to_string(first);
      base::unique_fd lock{::open(file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600)};
      if (lock && ::flock(lock.get(), LOCK_EX | LOCK_NB) == 0 && are_free(first))
        return std::pair{first, std::move(lock)};
    }
    FAIL("no four ports are free between 20000 and 30000");
    return std::pair{std::uint16_t{0}, base::unique_fd{}};
  }();
  return held.first;
}

/// The lanes of reader-network.json, on ports that the test knows.
std::string network_reader(const scratch_folder& here) {
  return here.write("network.json",
                    reader_spec(R"({"front": {"role": "front"}, "encode": {"role": "encode"},
                                    "prefill": {"role": "prefill"}, "decode": {"role": "decode"}})",
                                R"(, "lanes": {"control": "tcp", "bulk": "fabric", "interface": "lo", "tcp_port": )" +
                                    std::to_string(first_port()) + "}"));
}

base::unique_fd connect_to_rank(std::size_t rank) {
  base::unique_fd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const auto address = loopback(static_cast<std::uint16_t>(first_port() + rank));
  REQUIRE(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  return socket;
}

/// What a stranger may say, all of it wrong.
std::vector<std::string> strange_words() {
  const auto edge_of = [](std::uint32_t to) {
    return fabric::edge{.self = protocols::rank_id{1},
                        .self_born = protocols::generation{1},
                        .peer = protocols::rank_id{to},
                        .peer_born = protocols::generation{1}};
  };
  const auto words = [](const std::vector<std::byte>& bytes) {
    return std::string{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  };
  const std::string hello = words(fabric::handshake_frame(edge_of(0), protocols::hello{}));
  std::string huge = hello;
  std::fill_n(huge.begin() + 12, 4, '\xff');
  return {"GET /metrics HTTP/1.1\r\n\r\n", std::string(100'000, '\x16'), hello, huge, hello.substr(0, 70)};
}

/// The rank has hung up: whatever it said before, the stream has an end.
bool hangs_up(const base::unique_fd& socket, std::chrono::milliseconds within) {
  const auto deadline = tests::clock::now() + within;
  std::array<char, 4096> some{};
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - tests::clock::now()).count();
    pollfd one{.fd = socket.get(), .events = POLLIN, .revents = 0};
    if (left <= 0 || ::poll(&one, 1, static_cast<int>(left)) <= 0)
      return false;
    if (::recv(socket.get(), some.data(), some.size(), MSG_DONTWAIT) <= 0)
      return true;
  }
}

/// Where a process listens for TCP, as anybody can read it.
std::set<std::uint16_t> listening_ports(pid_t process) {
  std::set<std::string> sockets;
  for (const auto& entry : std::filesystem::directory_iterator{"/proc/" + std::to_string(process) + "/fd"}) {
    std::error_code gone;
    const auto what = std::filesystem::read_symlink(entry.path(), gone).string();
    if (what.starts_with("socket:["))
      sockets.insert(what.substr(8, what.size() - 9));
  }
  std::set<std::uint16_t> ports;
  std::ifstream table{"/proc/net/tcp"};
  for (std::string line; std::getline(table, line);) {
    std::istringstream words{line};
    std::vector<std::string> fields{std::istream_iterator<std::string>{words}, {}};
    if (fields.size() > 9 && fields[3] == "0A" && sockets.contains(fields[9]))
      ports.insert(static_cast<std::uint16_t>(std::stoul(fields[1].substr(fields[1].find(':') + 1), nullptr, 16)));
  }
  return ports;
}

/// Whether a stranger is let in, after which he says `words`.
bool lets_in(std::uint16_t port, std::string_view words) {
  const base::unique_fd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  const auto address = loopback(port);
  ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  pollfd one{.fd = socket.get(), .events = POLLOUT, .revents = 0};
  if (::poll(&one, 1, 300) <= 0)
    return false;
  [[maybe_unused]] const auto said = ::send(socket.get(), words.data(), words.size(), MSG_NOSIGNAL);
  return true;
}

} // namespace

TEST_CASE(
    "K5: libfabric's ports of a running job let no stranger in, its other ports believe none, and it answers on") {
  const scratch_folder here;
  const auto& page = golden_pages().front();
  command job{{"up", network_reader(here), "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready", 30s));
  const auto ask = [&] {
    return run_troupe(
        {"ask", "--job", here.job(), "--run-dir", here / "jobs", "--image", page.image, "--prompt", page.prompt});
  };
  for (int turn = 0; turn < 2; ++turn) { // before the ranks have connections with each other, and after
    std::size_t shut = 0;
    for (const auto rank : ranks_of(job.pid()))
      for (const auto port : listening_ports(rank))
        for (const auto& words : strange_words())
          if (!lets_in(port, words)) {
            ++shut;
            break;
          }
    CHECK(shut == ranks);
    CHECK(ask().out == page.text + "\n");
  }
  CHECK(run_troupe({"down", "--job", here.job(), "--run-dir", here / "jobs"}).exit_code == 0);
}

TEST_CASE("C20: bad peers at the ports of a running job are dropped, and it goes on answering") {
  const scratch_folder here;
  const auto& page = golden_pages().front();
  command job{{"up", network_reader(here), "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready", 30s));
  const auto ask = [&] {
    return run_troupe(
        {"ask", "--job", here.job(), "--run-dir", here / "jobs", "--image", page.image, "--prompt", page.prompt});
  };

  std::vector<base::unique_fd> strangers;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    for (const auto& words : strange_words()) {
      const auto& socket = strangers.emplace_back(connect_to_rank(rank));
      [[maybe_unused]] const auto said = ::send(socket.get(), words.data(), words.size(), MSG_NOSIGNAL);
    }
    for (int silent = 0; silent < 50; ++silent)
      strangers.push_back(connect_to_rank(rank));
  }
  CHECK(ask().out == page.text + "\n"); // with all of them at the door
  for (const auto& socket : strangers)
    CHECK(hangs_up(socket, 10s)); // 2 s after it came; the machine may be loaded
  CHECK(ask().out == page.text + "\n");

  const auto logs = run_troupe({"logs", "--job", here.job(), "--run-dir", here / "jobs"});
  for (const auto* named : {"bad_magic", "wrong_job", "frame_too_long", "timeout"})
    CHECK(has(logs.out, named));
  CHECK(ranks_of(job.pid()).size() == ranks);
  CHECK(run_troupe({"down", "--job", here.job(), "--run-dir", here / "jobs"}).exit_code == 0);
  CHECK(job.finish(20s).exit_code == 0);
}

TEST_CASE(
    "K9: the front takes so many clients and no more, refuses the next by exit code 5, and takes one when one has "
    "left") {
  const scratch_folder here;
  const auto& page = golden_pages().front();
  command job{
      {"up", here.write("reader.json", reader_spec(one_rank())), "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready", 30s));
  const auto ask = [&] {
    return run_troupe(
        {"ask", "--job", here.job(), "--run-dir", here / "jobs", "--image", page.image, "--prompt", page.prompt});
  };
  std::vector<base::unique_fd> clients;
  while (clients.size() < protocols::limits::clients_max)
    clients.push_back(connect_to_front(here / ("jobs/" + here.job() + "/front.sock")));

  const auto refused = ask();
  CHECK(refused.exit_code == 5);
  CHECK(has(refused.err + refused.out, "256 clients are connected"));
  for (const auto& socket : clients)
    CHECK_FALSE(hangs_up(socket, 0ms));

  clients.pop_back();
  const auto deadline = tests::clock::now() + 20s; // the front has to see that one has left
  auto answered = ask();
  while (answered.exit_code != 0 && tests::clock::now() < deadline)
    answered = ask();
  CHECK(answered.out == page.text + "\n");
  CHECK(run_troupe({"down", "--job", here.job(), "--run-dir", here / "jobs"}).exit_code == 0);
}

TEST_CASE("A26: bytes that are not known here are passed over, but of a client that flags its frame it is let go") {
  const scratch_folder here;
  command job{
      {"up", here.write("reader.json", reader_spec(one_rank())), "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready", 30s));
  const auto front = here / ("jobs/" + here.job() + "/front.sock");
  protocols::ask question;
  question.tag = 1;
  question.prompt = "Read the text.";
  question.max_tokens = 2;
  front_client lenient{front};
  lenient.say_more(question, 0);
  CHECK(lenient.hear<protocols::finished>());
  front_client strict{front};
  strict.say_more(question, protocols::strict_payload);
  CHECK_FALSE(strict.hear<protocols::finished>()); // the front has hung up
  CHECK(holds_within(patience, [&] {               // the line comes by way of the supervisor
    return has(content_of(here / ("jobs/" + here.job() + "/logs/all.log")), "bytes past the fields known here");
  }));
  CHECK(run_troupe({"down", "--job", here.job(), "--run-dir", here / "jobs"}).exit_code == 0);
}

TEST_CASE("K9: a client that begins a frame and does not end it loses its place, one that says nothing keeps it") {
  const scratch_folder here;
  command job{
      {"up", here.write("reader.json", reader_spec(one_rank())), "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready", 30s));
  const auto connect = [&] { return connect_to_front(here / ("jobs/" + here.job() + "/front.sock")); };
  const auto silent = connect();
  const auto stranger = connect();
  const auto slow = connect();
  for (const auto& [socket, words] : {std::pair{&stranger, "abc"}, {&slow, "TRU"}}) // of which one may be a frame's
    REQUIRE(::send(socket->get(), words, 3, MSG_NOSIGNAL) == 3);
  CHECK(hangs_up(stranger, patience));
  CHECK(hangs_up(slow, patience));
  CHECK_FALSE(hangs_up(silent, 0ms));
  for (const auto* const words :
       {"client refused: bad_magic", "client refused: timeout: the deadline passed (a frame was begun and not ended"})
    CHECK(holds_within(patience, [&] { // the line comes by way of the supervisor
      return has(content_of(here / ("jobs/" + here.job() + "/logs/all.log")), words);
    }));
  CHECK(run_troupe({"down", "--job", here.job(), "--run-dir", here / "jobs"}).exit_code == 0);
}
