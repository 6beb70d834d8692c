#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "fabric/transfers/transfer_listener.hpp"
#include "fabric/transfers/transfer_socket.hpp"
#include "tests/fabric/transfer_harness.hpp"

using namespace troupe;
using namespace troupe::fabric;
using namespace troupe::fabric::testing;

namespace {

void fill(std::span<std::byte> bytes, std::uint32_t seed) {
  for (auto& byte : bytes) {
    seed = seed * 1'664'525u + 1'013'904'223u;
    byte = static_cast<std::byte>(seed >> 24);
  }
}

bool same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

bool untouched(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{0}; });
}

std::chrono::microseconds cpu_time() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& time) {
    return std::chrono::seconds{time.tv_sec} + std::chrono::microseconds{time.tv_usec};
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

/// Every lane gives the same bytes and the same refusals (I31), so each case below runs on each.
template <class Body>
void on_every_lane(Body body) {
  for (const auto kind : {bulk_kind::shared_memory, bulk_kind::fabric}) {
    CAPTURE(name_of(kind));
    body(kind);
  }
}

} // namespace

TEST_CASE("I31: a write of several pieces arrives byte for byte, and both sides are told once") {
  on_every_lane([](bulk_kind kind) {
    party writer{kind, 1, {8192}};
    party reader{kind, 2, {4096, 8192}};
    writer.attach(reader);
    reader.attach(writer);
    const auto source = writer.regions[0].bytes;
    const auto target = reader.regions[1].bytes;
    fill(source, 7);

    const auto posted = writer.post({.to = reader.rank,
                                     .source_region = writer.regions[0].id,
                                     .target_region = reader.regions[1].id,
                                     .pieces = {{0, 4096, 100}, {101, 0, 4000}, {0, 0, 0}, {8191, 8191, 1}},
                                     .completion_data = 0x0000'dead'beef'0001,
                                     .deadline = within(patience),
                                     .cookie = 42},
                                    ready_event::already());
    REQUIRE_MESSAGE(posted, to_string(posted.error()));
    REQUIRE(writer.log.wait_delivered(1));
    REQUIRE(reader.log.wait_arrived(1));

    CHECK(writer.log.delivered()[0].cookie == 42);
    CHECK(writer.log.delivered()[0].outcome.has_value());
    CHECK(reader.log.arrived()[0].from == writer.rank);
    CHECK(reader.log.arrived()[0].data == 0x0000'dead'beef'0001);
    CHECK(same(target.subspan(4096, 100), source.subspan(0, 100)));
    CHECK(same(target.subspan(0, 4000), source.subspan(101, 4000)));
    CHECK(target[8191] == source[8191]);
    CHECK(untouched(target.subspan(4000, 96)));
    CHECK(untouched(target.subspan(4196, 8191 - 4196)));
    CHECK(untouched(reader.regions[0].bytes));
    writer.engine->stop();
    reader.engine->stop();
    CHECK(writer.log.delivered().size() == 1);
    CHECK(reader.log.arrived().size() == 1);
  });
}

TEST_CASE("I25: a write that leaves a region is refused before a byte is written") {
  on_every_lane([](bulk_kind kind) {
    party writer{kind, 1, {4096}};
    party reader{kind, 2, {4096}};
    writer.attach(reader);
    reader.attach(writer);
    fill(writer.regions[0].bytes, 3);
    constexpr auto huge = ~std::uint64_t{0};
    const write_piece good{0, 0, 64};

    for (const write_piece bad : {write_piece{0, 4000, 97}, write_piece{4000, 0, 97}, write_piece{huge, 0, 2},
                                  write_piece{0, huge, 2}, write_piece{0, 0, huge}, write_piece{4097, 0, 0}}) {
      CAPTURE(bad.source_offset);
      CAPTURE(bad.target_offset);
      CAPTURE(bad.bytes);
      const auto posted = writer.post({.to = reader.rank,
                                       .source_region = writer.regions[0].id,
                                       .target_region = reader.regions[0].id,
                                       .pieces = {good, bad},
                                       .deadline = within(patience)},
                                      ready_event::already());
      REQUIRE(!posted);
      CHECK(posted.error().code == fault::out_of_bounds);
    }
    writer.engine->stop();
    reader.engine->stop();
    CHECK(untouched(reader.regions[0].bytes));
    CHECK(writer.log.delivered().empty());
    CHECK(reader.log.arrived().empty());
  });
}

TEST_CASE("I23: a write to a region or a peer that is not attached is refused") {
  on_every_lane([](bulk_kind kind) {
    party writer{kind, 1, {4096}};
    party reader{kind, 2, {4096}};
    writer.attach(reader);
    const auto refusal = [&](rank_id to, std::uint32_t source, std::uint32_t target) {
      const auto posted = writer.post(
          {.to = to, .source_region = source, .target_region = target, .pieces = {{0, 0, 8}}, .deadline = within(1s)},
          ready_event::already());
      return posted ? fault{} : posted.error().code;
    };
    const auto known = reader.regions[0].id;

    CHECK(refusal(reader.rank, 9, known) == fault::out_of_bounds);
    CHECK(refusal(reader.rank, 0, known) == fault::out_of_bounds);
    CHECK(refusal(reader.rank, 1, known + 1) == fault::out_of_bounds);
    CHECK(refusal(rank_id{7}, 1, 1) == fault::peer_gone);
    CHECK(refusal(writer.rank, 1, 2) == fault::out_of_bounds);
  });
}

TEST_CASE("I26: a card that does not fit the region is refused") {
  party writer{bulk_kind::shared_memory, 1, {4096}};
  party reader{bulk_kind::shared_memory, 2, {4096}};
  REQUIRE(writer.engine->attach_peer(reader.endpoint(), within(patience)));
  auto card = reader.regions[0].card;

  card.bytes = 8192;
  const auto too_long = writer.engine->attach_region(reader.rank, card, within(patience));
  card = reader.regions[0].card;
  card.region = 5;
  const auto unknown = writer.engine->attach_region(reader.rank, card, within(patience));

  REQUIRE(!too_long);
  CHECK(too_long.error().code == fault::out_of_bounds);
  REQUIRE(!unknown);
  CHECK(unknown.error().code == fault::transfer_failed);
  CHECK(writer.engine->attach_region(reader.rank, reader.regions[0].card, within(patience)));
}

TEST_CASE(
    "K14: an owner that hands no region over fails the attaching by the caller's deadline, as late and not as bad") {
  party asker{bulk_kind::shared_memory, 2, {4096}};
  // Greets as an engine does, then hears nothing more.
  const shared_memory_options mute{
      .self = rank_id{1}, .born = generation{1}, .job_token = {}, .unix_path = fresh_path()};
  auto listening = listening_socket::at_unix(mute.unix_path, SOCK_SEQPACKET);
  REQUIRE(listening);
  transfer_listener owner{mute, std::move(*listening)};
  const auto doorbell = transfer_doorbell::create();
  REQUIRE(doorbell);
  const auto joined = owner.connect(asker.endpoint(), *doorbell, within(patience));
  REQUIRE(joined);
  REQUIRE(asker.engine->attach_peer({.rank = mute.self,
                                     .born = mute.born,
                                     .unix_path = mute.unix_path,
                                     .tcp_address = {},
                                     .tcp_port = 0,
                                     .fabric_address = {}},
                                    within(patience)));

  const auto handed = asker.engine->attach_region(mute.self, {.region = 1, .bytes = 4096}, within(20ms));

  REQUIRE_FALSE(handed);
  CHECK(handed.error().code == fault::timeout);
  CHECK(handed.error().what == "rank 1 did not hand region 1 over");
  owner.close();
}

TEST_CASE("completion data that needs the engine's own bits is refused") {
  on_every_lane([](bulk_kind kind) {
    party one{kind, 1, {4096}};
    const auto posted = one.post({.to = one.rank,
                                  .source_region = 1,
                                  .target_region = 1,
                                  .pieces = {},
                                  .completion_data = std::uint64_t{1} << 48,
                                  .deadline = within(1s)},
                                 ready_event::already());
    REQUIRE(!posted);
    CHECK(posted.error().code == fault::bad_value);
  });
}

TEST_CASE("I31: a write to the rank itself is a copy and the same two events") {
  on_every_lane([](bulk_kind kind) {
    party one{kind, 3, {3 << 20, 3 << 20}};
    const auto source = one.regions[0].bytes;
    const auto target = one.regions[1].bytes;
    fill(source, 11);

    REQUIRE(one.post({.to = one.rank,
                      .source_region = 1,
                      .target_region = 2,
                      .pieces = {{0, 1, source.size() - 1}},
                      .completion_data = 5,
                      .deadline = within(patience),
                      .cookie = 6},
                     ready_event::already()));
    REQUIRE(one.log.wait_delivered(1));

    REQUIRE(one.log.arrived().size() == 1);
    CHECK(one.log.arrived()[0].from == one.rank);
    CHECK(one.log.arrived()[0].data == 5);
    CHECK(one.log.delivered()[0].cookie == 6);
    CHECK(one.log.delivered()[0].outcome.has_value());
    CHECK(same(target.subspan(1), source.first(source.size() - 1)));
    CHECK(target[0] == std::byte{0});
  });
}

TEST_CASE("a write without bytes still tells both sides") {
  on_every_lane([](bulk_kind kind) {
    party writer{kind, 1, {4096}};
    party reader{kind, 2, {4096}};
    writer.attach(reader);
    for (const auto& pieces : {std::vector<write_piece>{}, std::vector<write_piece>{{0, 0, 0}, {4096, 4096, 0}}})
      REQUIRE(writer.post({.to = reader.rank,
                           .source_region = 1,
                           .target_region = 1,
                           .pieces = pieces,
                           .completion_data = 9,
                           .deadline = within(patience)},
                          ready_event::already()));
    REQUIRE(writer.log.wait_delivered(2));
    REQUIRE(reader.log.wait_arrived(2));
    CHECK(writer.log.delivered()[0].outcome.has_value());
    CHECK(writer.log.delivered()[1].outcome.has_value());
    CHECK(reader.log.arrived()[1].data == 9);
  });
}

TEST_CASE("a full queue refuses at once, and takes writes again when it has room") {
  on_every_lane([](bulk_kind kind) {
    constexpr std::size_t queue_max = 4;
    party writer{kind, 1, {64 << 20, 64 << 20}, queue_max};
    // Copies long enough that the queue fills before the first of them is done.
    const write_request slow{.to = writer.rank,
                             .source_region = 1,
                             .target_region = 2,
                             .pieces = {{0, 0, 64 << 20}},
                             .deadline = within(patience)};
    std::size_t taken = 0;
    protocols::result<void> posted;
    while ((posted = writer.post(slow, ready_event::already())) && taken < 1000)
      ++taken;

    REQUIRE(!posted);
    CHECK(posted.error().code == fault::queue_full);
    CHECK(taken >= queue_max);
    REQUIRE(writer.log.wait_delivered(taken));
    CHECK(writer.post(slow, ready_event::already()));
  });
}

TEST_CASE("a write whose deadline has passed fails with timeout and touches nothing") {
  on_every_lane([](bulk_kind kind) {
    party writer{kind, 1, {4096, 4096}};
    fill(writer.regions[0].bytes, 5);
    REQUIRE(writer.post({.to = writer.rank,
                         .source_region = 1,
                         .target_region = 2,
                         .pieces = {{0, 0, 4096}},
                         .deadline = base::now() - 1ms},
                        ready_event::already()));
    REQUIRE(writer.log.wait_delivered(1));
    REQUIRE(!writer.log.delivered()[0].outcome);
    CHECK(writer.log.delivered()[0].outcome.error().code == fault::timeout);
    CHECK(untouched(writer.regions[1].bytes));
  });
}

TEST_CASE("stop fails what is under way, promptly, and then refuses") {
  on_every_lane([](bulk_kind kind) {
    constexpr std::size_t bytes = 64 << 20;
    party writer{kind, 1, {bytes, bytes}};
    const write_request slow{
        .to = writer.rank, .source_region = 1, .target_region = 2, .pieces = {{0, 0, bytes}}, .deadline = within(60s)};
    constexpr std::size_t count = 100;
    for (std::size_t i = 0; i < count; ++i)
      REQUIRE(writer.post(slow, ready_event::already()));

    const auto begun = base::now();
    writer.engine->stop();
    CHECK(base::now() - begun < 20s);

    REQUIRE(writer.log.delivered().size() == count);
    REQUIRE(!writer.log.delivered().back().outcome);
    CHECK(writer.log.delivered().back().outcome.error().code == fault::transfer_failed);
    const auto late = writer.post(slow, ready_event::already());
    REQUIRE(!late);
    CHECK(late.error().code == fault::shutting_down);
    writer.engine->stop();
  });
}

TEST_CASE("an engine that is attached and has worked uses no CPU while nothing flows") {
  on_every_lane([](bulk_kind kind) {
    party writer{kind, 1, {4096}};
    party reader{kind, 2, {4096}};
    writer.attach(reader);
    reader.attach(writer);
    REQUIRE(writer.post({.to = reader.rank,
                         .source_region = 1,
                         .target_region = 1,
                         .pieces = {{0, 0, 4096}},
                         .deadline = within(patience)},
                        ready_event::already()));
    REQUIRE(writer.log.wait_delivered(1));
    REQUIRE(reader.log.wait_arrived(1));

    const auto before = cpu_time();
    REQUIRE(!reader.log.wait_arrived(2, 300ms));
    const auto used = cpu_time() - before;

    CHECK(used.count() < 5000);
  });
}

TEST_CASE("a peer that stops is reported once, and a newer generation of it can be attached") {
  party writer{bulk_kind::shared_memory, 1, {4096}};
  const auto path = fresh_path();
  auto first = std::make_unique<party>(bulk_kind::shared_memory, 2, std::vector<std::size_t>{4096}, 4096, path, 1);
  writer.attach(*first);
  first.reset();
  REQUIRE(writer.log.wait_gone());
  CHECK(writer.log.gone()[0].peer == rank_id{2});
  CHECK(writer.log.gone()[0].cause.code == fault::peer_gone);

  party second{bulk_kind::shared_memory, 2, {4096}, 4096, path, 2};
  writer.attach(second);
  REQUIRE(writer.post(
      {.to = second.rank, .source_region = 1, .target_region = 1, .pieces = {{0, 0, 8}}, .deadline = within(patience)},
      ready_event::already()));
  REQUIRE(second.log.wait_arrived(1));
  CHECK(writer.log.gone().size() == 1);
}

TEST_CASE("a hello with another job's token, rank or generation is refused by name") {
  party reader{bulk_kind::shared_memory, 5, {4096}};
  const auto knock = [&](std::uint32_t own_rank, std::array<std::byte, 32> token, generation wanted) {
    auto made = make_shared_memory_engine(
        {.self = rank_id{own_rank}, .born = generation{1}, .job_token = token, .unix_path = fresh_path()});
    REQUIRE(made);
    event_log log;
    REQUIRE((*made)->start(log.events()));
    auto there = reader.endpoint();
    there.born = wanted;
    const auto attached = (*made)->attach_peer(there, within(patience));
    (*made)->stop();
    return attached ? fault{} : attached.error().code;
  };
  std::array<std::byte, 32> wrong{};
  wrong[31] = std::byte{1};

  CHECK(knock(1, wrong, generation{1}) == fault::wrong_job);
  CHECK(knock(1, {}, generation{2}) == fault::stale_generation);
  CHECK(knock(1, {}, generation{1}) == fault{});
}

TEST_CASE(
    "K5: a door of shared memory refuses a hello to another generation, and one of a generation that has passed") {
  party reader{bulk_kind::shared_memory, 5, {4096}};
  party writer{bulk_kind::shared_memory, 1, {4096}, 64, fresh_path(), 2};
  writer.attach(reader);
  const auto answer_to = [&](std::uint32_t from_born, std::uint32_t to_born) {
    const auto socket = connect_when_there(reader.path, within(patience));
    REQUIRE(socket);
    REQUIRE(send_note(
        socket->get(),
        {.kind = note_kind::hello, .from = 1, .from_born = from_born, .to = 5, .to_born = to_born, .job_token = {}}));
    REQUIRE(wait_readable(socket->get(), within(patience)));
    const auto heard = receive_note(socket->get());
    if (!heard || !*heard || (*heard)->note.kind != note_kind::refuse)
      return fault{};
    return protocols::fault_from(static_cast<std::uint16_t>((*heard)->note.fault_code)).value_or(fault{});
  };
  CHECK(answer_to(2, 9) == fault::stale_generation);
  CHECK(answer_to(1, 1) == fault::stale_generation);
}

TEST_CASE("C35: a peer that comes late is connected as soon as it listens") {
  party early{bulk_kind::shared_memory, 1, {4096}};
  const auto path = fresh_path();
  std::thread attaching{[&] {
    const protocols::endpoint there{.rank = rank_id{2},
                                    .born = generation{1},
                                    .unix_path = path,
                                    .tcp_address = {},
                                    .tcp_port = 0,
                                    .fabric_address = {}};
    const auto attached = early.engine->attach_peer(there, within(patience));
    CHECK_MESSAGE(attached, to_string(attached.error()));
  }};
  party late{bulk_kind::shared_memory, 2, {4096}, 4096, path};
  CHECK(late.engine->attach_peer(early.endpoint(), within(patience)));
  attaching.join();
}

TEST_CASE("a peer that never comes ends attach with timeout") {
  party low{bulk_kind::shared_memory, 1, {4096}};
  party high{bulk_kind::shared_memory, 9, {4096}};
  protocols::endpoint nobody = high.endpoint();
  nobody.rank = rank_id{2};
  nobody.unix_path = fresh_path();

  for (auto* from : {&low, &high}) {
    const auto begun = base::now();
    const auto attached = from->engine->attach_peer(nobody, within(50ms));
    REQUIRE(!attached);
    CHECK(attached.error().code == fault::timeout);
    CHECK(base::now() - begun < 20s);
  }
}

TEST_CASE("an unknown provider is refused with the providers that there are") {
  const auto made =
      make_fabric_engine({.self = rank_id{1}, .born = generation{1}, .job_token = {}, .provider = "carrier-pigeon"});
  REQUIRE(!made);
  CHECK(made.error().code == fault::config_invalid);
  CHECK_MESSAGE(made.error().what.find("tcp on lo") != std::string::npos, made.error().what);
}

TEST_CASE("C31, C47: a poisoned write over libfabric fails alone, the peer lives and the next write arrives") {
  party writer{bulk_kind::fabric, 1, {4096}};
  party reader{bulk_kind::fabric, 2, {4096}};
  writer.attach(reader);
  reader.attach(writer);
  auto poisoned = reader.regions[0].card;
  poisoned.region = 2;
  poisoned.key ^= 1;
  REQUIRE(writer.engine->attach_region(reader.rank, poisoned, within(patience)));
  const auto write_to = [&](std::uint32_t region, std::uint64_t cookie) {
    REQUIRE(writer.post({.to = reader.rank,
                         .source_region = 1,
                         .target_region = region,
                         .pieces = {{0, 0, 64}},
                         .deadline = within(patience),
                         .cookie = cookie},
                        ready_event::already()));
    REQUIRE(writer.log.wait_delivered(cookie));
  };

  write_to(1, 1);
  write_to(2, 2);
  write_to(1, 3);

  CHECK(writer.log.delivered()[0].outcome.has_value());
  REQUIRE(!writer.log.delivered()[1].outcome);
  CHECK(writer.log.delivered()[1].outcome.error().code == fault::transfer_failed);
  CHECK(writer.log.delivered()[2].outcome.has_value());
  REQUIRE(reader.log.wait_arrived(2));
  writer.engine->stop();
  CHECK(writer.log.gone().empty());
}

TEST_CASE("K1: nothing is written under a lease that has ended, or of another generation of its owner") {
  party writer{bulk_kind::shared_memory, 1, {4096}};
  party reader{bulk_kind::shared_memory, 2, {4096}, 4096, fresh_path(), 3};
  writer.attach(reader);
  reader.attach(writer);
  fill(writer.regions[0].bytes, 5);
  const auto write_under = [&](protocols::lease lease) {
    return writer.engine->post({.to = reader.rank,
                                .source_region = writer.regions[0].id,
                                .target_region = reader.regions[0].id,
                                .pieces = {{0, 0, 4096}},
                                .completion_data = 1,
                                .lease = lease,
                                .deadline = within(patience),
                                .cookie = 1},
                               ready_event::already());
  };
  for (const auto& stale :
       {protocols::lease{}, protocols::lease{generation{2}, within(patience)},
        protocols::lease{generation{4}, within(patience)}, protocols::lease{generation{3}, within(0s)}}) {
    const auto refused = write_under(stale);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == fault::stale_grant);
  }
  CHECK(untouched(reader.regions[0].bytes));
  REQUIRE(write_under({generation{3}, within(patience)}));
  REQUIRE(reader.log.wait_arrived(1));
  CHECK(same(writer.regions[0].bytes, reader.regions[0].bytes));
}
