// What a stranger can do at the ports of a fabric engine: connect, be silent, speak libfabric's own frames, knock
// without the job's token. Nothing of it arrives, none of it is held for long.

#include <dirent.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cstring>
#include <set>

#include "fabric/ofi/fabric_listener.hpp"
#include "fabric/ofi/fabric_session.hpp"
#include "fabric/socket_address.hpp"
#include "tests/fabric/transfer_harness.hpp"

using namespace troupe;
using namespace troupe::fabric;
using namespace troupe::fabric::testing;

namespace {

constexpr std::array<std::byte, 32> job_token{std::byte{7}, std::byte{9}};
constexpr std::size_t region_bytes = 4096;

/// Ports of this process that listen for TCP: the engines' doors and libfabric's own.
std::set<std::uint16_t> listening_ports() {
  std::set<std::uint16_t> ports;
  for (int number = 0; number < 1024; ++number) {
    int listens = 0;
    socklen_t size = sizeof listens;
    const auto bound = own_address(number);
    if (bound && ::getsockopt(number, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens != 0)
      ports.insert(port_of(*bound));
  }
  return ports;
}

std::size_t open_descriptors() {
  std::size_t count = 0;
  DIR* const folder = ::opendir("/proc/self/fd");
  while (::readdir(folder) != nullptr)
    ++count;
  ::closedir(folder);
  return count;
}

base::unique_fd begin_to_connect(std::uint16_t port) {
  base::unique_fd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  const int on = 1; // so that another socket may have the same port, as an engine's have
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at);
  at.sin_port = htons(port);
  ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at);
  return socket;
}

bool becomes(const base::unique_fd& socket, short events, std::chrono::milliseconds time) {
  pollfd watched{socket.get(), events, 0};
  return ::poll(&watched, 1, static_cast<int>(time.count())) > 0;
}

/// A writer and a reader of one job, attached both ways, that have written once.
struct two_ranks {
  party writer{bulk_kind::fabric, 1, {region_bytes, region_bytes}, 64, fresh_path(), 1, job_token};
  party reader{bulk_kind::fabric, 2, {region_bytes, region_bytes}, 64, fresh_path(), 1, job_token};

  two_ranks() {
    writer.attach(reader);
    reader.attach(writer);
  }

  /// A write that arrives, with nothing beside it.
  void check_write(std::uint64_t data) {
    writer.log.forget();
    reader.log.forget();
    REQUIRE(writer.post({.to = reader.rank,
                         .source_region = 1,
                         .target_region = 1,
                         .pieces = {{0, 0, 64}},
                         .completion_data = data,
                         .deadline = within(patience)},
                        ready_event::already()));
    REQUIRE(writer.log.wait_delivered(1));
    const auto outcome = writer.log.delivered()[0].outcome;
    REQUIRE_MESSAGE(outcome, to_string(outcome.error()));
    REQUIRE(reader.log.wait_arrived(1));
    CHECK(reader.log.arrived().size() == 1);
    CHECK(reader.log.arrived()[0].data == data);
  }

  std::uint16_t door_of_reader() const { return port_of(*network_address(reader.engine->address())); }
};

/// What tcp;ofi_rxm of libfabric 1.17 says first, and what it then took for an arrival without any key.
std::vector<std::byte> forged_arrival() {
  std::vector<std::byte> bytes(56);
  const std::array<std::uint8_t, 4> version{3, 0, 0, 24};
  std::memcpy(bytes.data(), version.data(), version.size());
  bytes[24] = std::byte{1};
  std::array<std::byte, 24> write{};
  const std::array<std::uint8_t, 8> head{3, 4, 1, 0, 0, 0, 0, 24};
  std::memcpy(write.data(), head.data(), head.size());
  write[8] = std::byte{24};
  const std::uint64_t data = std::uint64_t{1} << 48 | 77;
  std::memcpy(write.data() + 16, &data, sizeof data);
  bytes.insert(bytes.end(), write.begin(), write.end());
  return bytes;
}

/// Says it over and over, for as long as the port takes it.
void pester(std::uint16_t port, std::span<const std::byte> bytes) {
  const auto socket = begin_to_connect(port);
  for (int i = 0; i < 50 && becomes(socket, POLLOUT, 20ms); ++i)
    if (::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0)
      return;
}

knock_note knock_of(const two_ranks& job) {
  knock_note note{.kind = knock_kind::knock, .from = 1, .from_born = 1, .to = 2, .to_born = job.reader.born.value};
  note.nonce.fill(std::byte{3});
  return note;
}

void show_proof(knock_note& note, const std::array<std::byte, 32>& token) {
  note.shown = {};
  std::array<std::byte, sizeof note + sizeof note.nonce> words{}; // no number of another note stands behind it
  std::memcpy(words.data(), &note, sizeof note);
  note.shown = prove(token, words);
}

/// What the door answers; nothing where it only closes.
std::optional<knock_note> answer_to(std::uint16_t door, std::span<const std::byte> bytes) {
  const auto socket = begin_to_connect(door);
  REQUIRE(becomes(socket, POLLOUT, 20s));
  REQUIRE(::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
  knock_note heard;
  std::size_t filled = 0;
  while (filled < sizeof heard && becomes(socket, POLLIN, 20s)) {
    const auto got = ::recv(socket.get(), reinterpret_cast<char*>(&heard) + filled, sizeof heard - filled, 0);
    if (got <= 0)
      return std::nullopt;
    filled += static_cast<std::size_t>(got);
  }
  return filled == sizeof heard ? std::optional{heard} : std::nullopt;
}

template <class Note>
std::span<const std::byte> bytes_of_note(const Note& note) {
  return std::as_bytes(std::span{&note, 1});
}

} // namespace

TEST_CASE("K5: nobody connects to the port where libfabric listens, and forged arrivals at any port arrive nowhere") {
  two_ranks job;
  job.check_write(11);
  const auto ports = listening_ports();
  REQUIRE(ports.size() == 4); // two doors, two of libfabric's
  std::size_t closed = 0;
  for (const auto port : ports) {
    const auto stranger = begin_to_connect(port);
    closed += becomes(stranger, POLLOUT, 300ms) ? 0 : 1; // the kernel drops what it sends: there is nothing to wait for
    pester(port, forged_arrival());
  }
  CHECK(closed == 2);
  job.check_write(12);
  CHECK(job.writer.log.arrived().empty());
}

TEST_CASE(
    "K5: who knocks without the job's token, for another rank or generation, or with other words, is not let in") {
  two_ranks job;
  const auto refused_with = [&](const knock_note& note) {
    const auto heard = answer_to(job.door_of_reader(), bytes_of_note(note));
    REQUIRE(heard);
    CHECK(heard->kind == knock_kind::refuse);
    CHECK(heard->port == 0);
    return protocols::fault_from(static_cast<std::uint16_t>(heard->code)).value_or(fault{});
  };
  auto note = knock_of(job);
  CHECK(refused_with(note) == fault::wrong_job); // no proof at all
  std::array<std::byte, 32> other{};
  show_proof(note, other);
  CHECK(refused_with(note) == fault::wrong_job);

  show_proof(note, job_token);
  note.from = 9; // after the proof was made
  CHECK(refused_with(note) == fault::wrong_job);

  note = knock_of(job);
  note.to = 5;
  show_proof(note, job_token);
  CHECK(refused_with(note) == fault::wrong_rank);
  note = knock_of(job);
  note.to_born = 9;
  show_proof(note, job_token);
  CHECK(refused_with(note) == fault::stale_generation);
  note = knock_of(job);
  note.from_born = 0; // generation 1 is attached
  show_proof(note, job_token);
  CHECK(refused_with(note) == fault::stale_generation);

  note = knock_of(job);
  note.magic ^= 1;
  CHECK(!answer_to(job.door_of_reader(), bytes_of_note(note)));
  job.check_write(13);
}

TEST_CASE("K5: who was overheard opens nothing: the port it is told of stays closed to every other address") {
  two_ranks job;
  auto note = knock_of(job); // as if it had been overheard: proof and all
  show_proof(note, job_token);
  const auto heard = answer_to(job.door_of_reader(), bytes_of_note(note));
  REQUIRE(heard);
  REQUIRE(heard->kind == knock_kind::come);
  const auto elsewhere = begin_to_connect(static_cast<std::uint16_t>(heard->port));
  CHECK(!becomes(elsewhere, POLLOUT, 300ms));
  job.check_write(14);
}

TEST_CASE("K5: from the right address, libfabric's endpoint takes nobody without the proof over both numbers") {
  two_ranks job;
  auto note = knock_of(job);
  show_proof(note, job_token);
  const auto knocking = begin_to_connect(job.door_of_reader());
  REQUIRE(becomes(knocking, POLLOUT, 20s));
  REQUIRE(::send(knocking.get(), &note, sizeof note, MSG_NOSIGNAL) == sizeof note);
  REQUIRE(becomes(knocking, POLLIN, 20s));
  knock_note heard;
  REQUIRE(::recv(knocking.get(), &heard, sizeof heard, MSG_WAITALL) == sizeof heard);

  // The overheard knock's own socket, so the filter lets it through: it says libfabric's request with other words.
  base::unique_fd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const auto own = own_address(knocking.get());
  REQUIRE(own);
  REQUIRE(::bind(socket.get(), own->get(), own->size) == 0);
  auto to = *network_address(job.reader.engine->address());
  set_port(to, static_cast<std::uint16_t>(heard.port));
  REQUIRE(::connect(socket.get(), to.get(), to.size) == 0);
  pester(static_cast<std::uint16_t>(heard.port), forged_arrival());
  const auto words = forged_arrival();
  REQUIRE(::send(socket.get(), words.data(), words.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(words.size()));
  std::array<char, 64> said{};
  pollfd watched{socket.get(), POLLIN, 0};
  REQUIRE(::poll(&watched, 1, 20'000) == 1); // it is closed, or refused and closed
  while (::recv(socket.get(), said.data(), said.size(), 0) > 0) {
    // until it is closed
  }
  job.check_write(15);
}

TEST_CASE("K5: who was told to come connects with the proof over both numbers, and with no other words") {
  using happened = fabric_session::event::kind;
  party reader{bulk_kind::fabric, 2, {region_bytes}, 64, fresh_path(), 1, job_token};
  const auto session = fabric_session::open("tcp", "lo");
  REQUIRE(session);
  const fabric_identity self{.self = rank_id{1}, .born = generation{1}, .job_token = job_token};
  protocols::endpoint at;
  at.rank = reader.rank;
  at.born = reader.born;
  const auto end_of = [&](std::byte change) -> std::optional<happened> {
    auto knock = fabric_knock::begin(self, at, (*session)->address(), *network_address(reader.engine->address()));
    REQUIRE(knock);
    std::optional<fabric_knock::admission> told;
    const auto until = within(patience);
    while (!told && base::now() < until) {
      auto ready = knock->waits_for();
      ::poll(&ready, 1, 100);
      const auto heard = knock->step(self);
      REQUIRE(heard);
      told = *heard;
    }
    REQUIRE(told);
    told->says.back() ^= change;
    const auto connection = (*session)->connect(told->from, told->to, told->says);
    REQUIRE(connection);
    while (base::now() < until) {
      if (const auto event = (*session)->next_event())
        return event->what;
      std::this_thread::yield();
    }
    return std::nullopt;
  };
  CHECK(end_of(std::byte{1}) == happened::closed);
  CHECK(end_of(std::byte{0}) == happened::connected);
}

TEST_CASE("K5: silent strangers at a door are bounded in number and time, and a peer comes in beside them") {
  two_ranks job;
  const auto before = open_descriptors();
  std::vector<base::unique_fd> strangers;
  for (int i = 0; i < 300; ++i) {
    strangers.push_back(begin_to_connect(job.door_of_reader()));
    if (i % 3 == 0) // some begin a note
      ::send(strangers.back().get(), "TROU", 4, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  job.check_write(16); // the first of this job: it has to knock at that door
  CHECK(open_descriptors() < before + strangers.size() + fabric_listener::newcomers_max + 8);
  strangers.clear();
  const auto patient_until = within(patience);
  while (open_descriptors() > before + 8 && base::now() < patient_until)
    std::this_thread::yield();
  CHECK(open_descriptors() <= before + 8); // what the connection of the two takes
  job.check_write(17);
}

TEST_CASE("K5: a peer's connection ends with its generation, and an older one is not let in again") {
  party reader{bulk_kind::fabric, 2, {region_bytes}, 64, fresh_path(), 1, job_token};
  party first{bulk_kind::fabric, 1, {region_bytes}, 64, fresh_path(), 1, job_token};
  party second{bulk_kind::fabric, 1, {region_bytes}, 64, fresh_path(), 2, job_token};
  first.attach(reader);
  reader.attach(first);
  const auto write = [&](party& from, std::uint64_t cookie) {
    REQUIRE(from.post({.to = reader.rank,
                       .source_region = 1,
                       .target_region = 1,
                       .pieces = {{0, 0, 64}},
                       .completion_data = cookie,
                       .deadline = within(patience),
                       .cookie = cookie},
                      ready_event::already()));
    REQUIRE(from.log.wait_delivered(1));
    return from.log.delivered().back().outcome;
  };
  REQUIRE(write(first, 1));
  REQUIRE(reader.log.wait_arrived(1));

  second.attach(reader);
  reader.attach(second);
  first.log.forget();
  const auto late = write(first, 2);
  REQUIRE(!late);
  CHECK(first.log.wait_gone());
  REQUIRE(write(second, 3));
  REQUIRE(reader.log.wait_arrived(2));
  CHECK(reader.log.arrived().size() == 2);
  CHECK(reader.log.arrived()[1].data == 3);
}

TEST_CASE("K5: who listens where a peer was, and does not know the token, is not believed and learns nothing") {
  party writer{bulk_kind::fabric, 1, {region_bytes}, 64, fresh_path(), 1, job_token};
  base::unique_fd liar{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::bind(liar.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
  REQUIRE(::listen(liar.get(), 1) == 0);
  const protocols::endpoint there{.rank = rank_id{2},
                                  .born = generation{1},
                                  .unix_path = {},
                                  .tcp_address = {},
                                  .tcp_port = 0,
                                  .fabric_address = bytes_of(*own_address(liar.get()))};
  REQUIRE(writer.engine->attach_peer(there, within(patience)));
  REQUIRE(writer.engine->attach_region(
      rank_id{2}, {.region = 1, .bytes = region_bytes, .slot_bytes = 0, .base = 0, .key = 1}, within(patience)));
  REQUIRE(writer.post(
      {.to = rank_id{2}, .source_region = 1, .target_region = 1, .pieces = {{0, 0, 64}}, .deadline = within(patience)},
      ready_event::already()));
  const base::unique_fd knocking{::accept4(liar.get(), nullptr, nullptr, SOCK_CLOEXEC)};
  knock_note said;
  REQUIRE(::recv(knocking.get(), &said, sizeof said, MSG_WAITALL) == sizeof said);
  CHECK(std::search(bytes_of_note(said).begin(), bytes_of_note(said).end(), job_token.begin(), job_token.end()) ==
        bytes_of_note(said).end());
  knock_note come{.kind = knock_kind::come, .from = 2, .from_born = 1, .to = 1, .to_born = 1};
  come.port = port_of(*own_address(liar.get()));
  REQUIRE(::send(knocking.get(), &come, sizeof come, MSG_NOSIGNAL) == sizeof come);

  REQUIRE(writer.log.wait_delivered(1));
  REQUIRE(!writer.log.delivered()[0].outcome);
  CHECK(writer.log.wait_gone());
}
