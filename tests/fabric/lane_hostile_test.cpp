#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "fabric/lanes/shared_memory_lane.hpp"
#include "fabric/lanes/shared_memory_ring.hpp"
#include "lane_fixture.hpp"

using namespace lane_fixture;

namespace {

/// What is wrong with a frame, and the fault that names it.
struct damage {
  std::string what;
  fault named;
  void (*apply)(frame_header& header, header_bytes& bytes);
};

void put(header_bytes& bytes, std::size_t at, std::uint32_t value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

const damage damages[] = {
    {"magic", fault::bad_magic, [](frame_header&, header_bytes& b) { put(b, 0, 0x20544547); }},
    {"version", fault::unknown_version, [](frame_header&, header_bytes& b) { b[4] = std::byte{9}; }},
    {"type", fault::unknown_type, [](frame_header&, header_bytes& b) { b[7] = std::byte{0xff}; }},
    {"flag", fault::unknown_flag, [](frame_header&, header_bytes& b) { b[11] = std::byte{0x80}; }},
    {"4 GiB", fault::frame_too_long, [](frame_header&, header_bytes& b) { put(b, 12, 0xffff'ffff); }},
    {"checksum", fault::bad_checksum, [](frame_header&, header_bytes& b) { b[60] ^= std::byte{1}; }},
    {"a call id that was changed on the way", fault::bad_checksum,
     [](frame_header&, header_bytes& b) { b[40] ^= std::byte{1}; }},
    {"source", fault::wrong_rank, [](frame_header& h, header_bytes&) { h.source = rank_id{5}; }},
    {"destination", fault::wrong_rank, [](frame_header& h, header_bytes&) { h.destination = rank_id{5}; }},
    {"an older sender", fault::stale_generation,
     [](frame_header& h, header_bytes&) { h.source_generation = generation{0}; }},
    {"an older addressee", fault::stale_generation,
     [](frame_header& h, header_bytes&) { h.destination_generation = generation{0}; }},
    {"another epoch", fault::stale_epoch, [](frame_header& h, header_bytes&) { h.epoch = cache_epoch{1}; }},
    {"a repeated frame", fault::wrong_sequence, [](frame_header& h, header_bytes&) { h.sequence = 1; }},
    {"a lost frame", fault::wrong_sequence, [](frame_header& h, header_bytes&) { h.sequence = 3; }},
};

/// The second frame of an edge from first to second, with or without damage.
std::vector<std::byte> frame_bytes(std::uint64_t sequence, std::span<const std::byte> payload, const damage* with) {
  frame_header header{.type = message_type::heartbeat,
                      .payload_bytes = static_cast<std::uint32_t>(payload.size()),
                      .source = first_rank,
                      .source_generation = born,
                      .destination = second_rank,
                      .destination_generation = born,
                      .sequence = sequence};
  header_bytes bytes{};
  header_bytes untouched{};
  if (with != nullptr)
    with->apply(header, untouched);
  encode_header(header, payload, bytes);
  if (with != nullptr) {
    frame_header ignored;
    with->apply(ignored, bytes);
  }
  std::vector<std::byte> out(bytes.begin(), bytes.end());
  out.insert(out.end(), payload.begin(), payload.end());
  return out;
}

constexpr fabric::edge second_edge{.self = second_rank, .self_born = born, .peer = first_rank, .peer_born = born};

/// A shared-memory lane whose peer is this test, writing into the memory as it likes.
struct tampered_lane {
  tampered_lane() {
    auto kit = fabric::make_shared_memory_kit(small);
    REQUIRE(kit);
    struct stat file {};
    REQUIRE(::fstat(kit->memory.get(), &file) == 0);
    size = static_cast<std::size_t>(file.st_size);
    memory = static_cast<std::byte*>(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, kit->memory.get(), 0));
    REQUIRE(memory != MAP_FAILED);
    const auto [mine, theirs] = unix_sockets();
    companion = base::unique_fd{mine};
    auto made = fabric::make_shared_memory_lane(std::move(*kit), base::unique_fd{theirs}, fabric::lane_side::accepts,
                                                second_edge, small);
    REQUIRE(made);
    lane = std::move(*made);
  }
  ~tampered_lane() { ::munmap(memory, size); }

  /// The ring that the connecting side writes: its words come first, its bytes after the page of words.
  fabric::ring_words& words() { return *reinterpret_cast<fabric::ring_words*>(memory); }
  std::span<std::byte> ring() { return {memory + 4096, (size - 4096) / 2}; }

  void write(std::span<const std::byte> frame) {
    auto& tail = words().tail;
    const auto at = tail.load();
    std::copy(frame.begin(), frame.end(), ring().begin() + static_cast<std::ptrdiff_t>(at));
    tail.store(at + fabric::record_bytes(frame.size()));
  }

  std::byte* memory = nullptr;
  std::size_t size = 0;
  base::unique_fd companion;
  std::unique_ptr<fabric::lane> lane;
};

void check_closed(fabric::lane& lane) {
  CHECK(lane.peek().error().code == fault::peer_gone);
  CHECK(lane.try_send(plain(), {}).error().code == fault::peer_gone);
}

} // namespace

TEST_CASE("A16, A21, D2: a damaged frame on a stream is refused by name and the lane closes") {
  const std::vector<std::byte> payload(100, std::byte{3});
  for (const auto& with : damages) {
    INFO("damaged: ", with.what);
    const auto [raw, other] = unix_sockets();
    const base::unique_fd socket{raw};
    const auto lane = fabric::make_stream_lane(other, second_rank, born, first_rank, born, small);

    const auto good = frame_bytes(1, payload, nullptr);
    const auto bad = frame_bytes(2, payload, &with);
    REQUIRE(::write(raw, good.data(), good.size()) == static_cast<ssize_t>(good.size()));
    REQUIRE(::write(raw, bad.data(), bad.size()) == static_cast<ssize_t>(bad.size()));

    const auto got = fabric::receive(*lane, in(60s));
    REQUIRE(got);
    CHECK(equal(got->payload, payload));
    lane->pop();
    const auto refused = fabric::receive(*lane, in(60s));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == with.named);
    check_closed(*lane);
    char byte = 0;
    CHECK(::recv(raw, &byte, 1, 0) <= 0); // the peer is told by the closed connection
  }
}

TEST_CASE("A16, A21, D2: a damaged frame in shared memory is refused by name and the lane closes") {
  const std::vector<std::byte> payload(100, std::byte{3});
  for (const auto& with : damages) {
    INFO("damaged: ", with.what);
    tampered_lane tampered;
    tampered.write(frame_bytes(1, payload, nullptr));
    tampered.write(frame_bytes(2, payload, &with));

    const auto got = tampered.lane->peek();
    REQUIRE(got.value());
    CHECK(equal((*got)->payload, payload));
    tampered.lane->pop();
    const auto refused = tampered.lane->peek();
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == with.named);
    check_closed(*tampered.lane);
  }
}

TEST_CASE("a frame that is cut off by its peer's end is not delivered") {
  const auto [raw, other] = unix_sockets();
  const auto lane = fabric::make_stream_lane(other, second_rank, born, first_rank, born, small);
  const auto frame = frame_bytes(1, std::vector<std::byte>(1000), nullptr);
  REQUIRE(::write(raw, frame.data(), 500) == 500);
  CHECK(lane->peek().value() == std::nullopt);
  ::close(raw);
  CHECK(fabric::receive(*lane, in(60s)).error().code == fault::peer_gone);
}

TEST_CASE("a frame that arrives byte by byte is delivered once whole") {
  const auto [raw, other] = unix_sockets();
  const base::unique_fd socket{raw};
  const auto lane = fabric::make_stream_lane(other, second_rank, born, first_rank, born, small);
  const auto frame = frame_bytes(1, std::vector<std::byte>(100, std::byte{5}), nullptr);
  for (std::size_t i = 0; i < frame.size(); ++i) {
    CHECK(lane->peek().value() == std::nullopt);
    CHECK(lane->arm({})); // a part of a frame is nothing to stay awake for
    lane->disarm();
    REQUIRE(::write(raw, frame.data() + i, 1) == 1);
  }
  CHECK(lane->peek().value().has_value());
}

TEST_CASE("impossible positions in the ring are refused, never followed") {
  const std::vector<std::byte> payload(100);
  const auto frame = frame_bytes(1, payload, nullptr);
  SUBCASE("a tail beyond the ring") {
    tampered_lane tampered;
    tampered.words().tail = tampered.ring().size() + 64;
    CHECK(tampered.lane->peek().error().code == fault::bad_value);
    check_closed(*tampered.lane);
  }
  SUBCASE("a tail that is no record's end") {
    tampered_lane tampered;
    tampered.write(frame);
    tampered.words().tail += 1;
    CHECK(tampered.lane->peek().error().code == fault::bad_value);
  }
  SUBCASE("a tail that goes back") {
    tampered_lane tampered;
    tampered.write(frame);
    REQUIRE(tampered.lane->peek().value());
    tampered.lane->pop();
    tampered.words().tail = 64;
    CHECK(tampered.lane->peek().error().code == fault::bad_value);
  }
  SUBCASE("a frame longer than what was written") {
    tampered_lane tampered;
    tampered.write(std::span{frame}.first(64));
    CHECK(tampered.lane->peek().error().code == fault::bad_value);
  }
  SUBCASE("marks that lead nowhere") {
    tampered_lane tampered;
    const std::uint32_t mark = 0x44415053;
    for (std::size_t at = 0; at < tampered.ring().size(); at += 64)
      std::memcpy(tampered.ring().data() + at, &mark, sizeof mark);
    tampered.words().tail = tampered.ring().size();
    CHECK(tampered.lane->peek().error().code == fault::bad_value);
  }
  SUBCASE("a head that the producer never reached") {
    tampered_lane tampered;
    auto& back = reinterpret_cast<fabric::ring_words*>(tampered.memory)[1];
    back.head = 1 << 20;
    auto sent = tampered.lane->try_send(plain(), payload);
    for (int i = 0; sent && i < 100'000; ++i)
      sent = tampered.lane->try_send(plain(), payload);
    REQUIRE_FALSE(sent);
    CHECK(sent.error().code == fault::bad_value);
  }
}

TEST_CASE("memory of another size, or that could shrink under us, makes no lane") {
  const auto make_from = [](fabric::shared_memory_kit kit) {
    const auto [mine, theirs] = unix_sockets();
    const base::unique_fd companion{mine};
    return fabric::make_shared_memory_lane(std::move(kit), base::unique_fd{theirs}, fabric::lane_side::accepts,
                                           second_edge, small);
  };
  SUBCASE("other limits at the peer") {
    auto other = small;
    other.in_flight_bytes_max *= 2;
    const auto made = make_from(std::move(*fabric::make_shared_memory_kit(other)));
    REQUIRE_FALSE(made);
    CHECK(made.error().code == fault::bad_value);
    CHECK(made.error().what.find("limits") != std::string::npos);
  }
  SUBCASE("not sealed") {
    auto kit = std::move(*fabric::make_shared_memory_kit(small));
    struct stat file {};
    REQUIRE(::fstat(kit.memory.get(), &file) == 0);
    kit.memory = base::unique_fd{::memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    REQUIRE(::ftruncate(kit.memory.get(), file.st_size) == 0);
    const auto made = make_from(std::move(kit));
    REQUIRE_FALSE(made);
    CHECK(made.error().code == fault::bad_value);
  }
  SUBCASE("not memory at all") {
    auto kit = std::move(*fabric::make_shared_memory_kit(small));
    std::swap(kit.memory, kit.accepts_doorbell);
    CHECK_FALSE(make_from(std::move(kit)));
  }
}
