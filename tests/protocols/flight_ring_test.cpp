#include "protocols/flight/flight_ring.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <functional>

using namespace troupe::protocols;

namespace {

constexpr std::uint32_t capacity = 8;

/// A file as a recorder leaves it, in parts that a case may spoil.
struct ring_file {
  flight_header header{};
  struct record {
    std::uint64_t sequence = 0;
    flight_words words{};
  };
  std::array<record, capacity> records{};

  ring_file() {
    header.magic = flight_magic;
    header.version = flight_version;
    header.header_bytes = sizeof header;
    header.record_bytes = flight_record_bytes;
    header.capacity = capacity;
    header.rank = 2;
    header.born = 3;
    header.pid = 4711;
    header.wall_ns = 1'700'000'000'000'000'000;
    header.steady_ns = 1000;
    put(header.label, "prefill.0/t1");
    put(header.host, "here");
    header.groups_count = 1;
    header.groups[0] = {.id = 4, .entered = 12, .name = {}};
    put(header.groups[0].name, "prefill.0");
    header.life = static_cast<std::uint64_t>(life_state::ready);
    header.threads_count = 1;
    const auto in = pack({.peer = rank_id{1}, .action = flight_action::step});
    header.threads[0] = {.version = 2,
                         .since_ns = 77,
                         .until_ns = 0,
                         .progress = 5,
                         .call = 9,
                         .item = 0,
                         .place = in[5],
                         .kind = in[6]};
  }
  template <std::size_t Size>
  static void put(std::array<char, Size>& to, std::string_view text) {
    std::ranges::copy(text, to.begin());
  }
  void append(flight_record what) {
    const auto index = header.next++;
    records[index % capacity] = {2 * (index + 1), pack(what)};
  }
  std::vector<std::byte> bytes() const {
    std::vector<std::byte> out(flight_file_bytes(capacity));
    std::memcpy(out.data(), &header, sizeof header);
    std::memcpy(out.data() + sizeof header, records.data(), sizeof records);
    return out;
  }
  result<flight_story> read() const { return read_flight(bytes(), "r2.g3.ring"); }
};

flight_record note_of(std::uint64_t item) {
  return {.time_ns = static_cast<std::int64_t>(item), .item = item, .action = flight_action::arrived};
}

} // namespace

TEST_CASE("C8: a file is read back whole") {
  ring_file file;
  for (std::uint64_t i = 0; i < 3; ++i)
    file.append(note_of(i));
  ring_file::put(file.header.words, "prefill executor: peer_gone");
  file.header.words_bytes = 27;
  file.header.words_state = 2;

  const auto story = file.read();
  REQUIRE(story);
  CHECK(story->rank == rank_id{2});
  CHECK(story->born == generation{3});
  CHECK(story->label == "prefill.0/t1");
  CHECK(story->host == "here");
  CHECK(story->pid == 4711);
  CHECK(story->groups == std::vector<flight_story::group>{{group_id{4}, "prefill.0", 12}});
  CHECK(story->life == life_state::ready);
  CHECK(story->words == "prefill executor: peer_gone");
  REQUIRE(story->activities.size() == 1);
  CHECK(story->activities[0].what.action == flight_action::step);
  CHECK(story->activities[0].what.time_ns == 77);
  CHECK(story->activities[0].what.call == call_id{9});
  CHECK(story->activities[0].progress == 5);
  REQUIRE(story->records.size() == 3);
  CHECK(story->records[2] == note_of(2));
  CHECK(story->lost == 0);
}

TEST_CASE("C8: of a ring that went round the newest records are read, oldest first") {
  ring_file file;
  for (std::uint64_t i = 0; i < 21; ++i)
    file.append(note_of(i));
  const auto story = file.read();
  REQUIRE(story);
  REQUIRE(story->records.size() == capacity);
  CHECK(story->records.front() == note_of(13));
  CHECK(story->records.back() == note_of(20));
  CHECK(story->lost == 13);
}

TEST_CASE("C8: a record that was being written when its process died is dropped, whatever stands in it") {
  enum class torn { never_begun, begun, older_round, newer_round };
  for (const auto how : {torn::never_begun, torn::begun, torn::older_round, torn::newer_round}) {
    CAPTURE(static_cast<int>(how));
    ring_file file;
    for (std::uint64_t i = 0; i < 11; ++i)
      file.append(note_of(i));
    auto& spoilt = file.records[9 % capacity];
    spoilt.words.fill(~0ull);
    spoilt.sequence = how == torn::never_begun   ? 0
                      : how == torn::begun       ? 2 * 10 - 1
                      : how == torn::older_round ? 2 * 2
                                                 : 2 * (9 + capacity + 1);
    const auto story = file.read();
    REQUIRE(story);
    CHECK(story->records.size() == capacity - 1);
    CHECK(std::ranges::none_of(story->records, [](const auto& record) { return record.item == 9; }));
    CHECK(story->lost == 4);
  }
}

TEST_CASE("A thread that was being written when its process died is left out when it makes no sense") {
  ring_file file;
  file.header.threads[0].version = 3;
  file.header.threads[0].kind = ~0ull;
  const auto story = file.read();
  REQUIRE(story);
  CHECK(story->activities.empty());
}

TEST_CASE("Every field that cannot be is refused by file and offset") {
  struct spoil {
    const char* what;
    fault expected;
    std::size_t offset;
    std::function<void(ring_file&)> act;
  };
  const std::vector<spoil> all{
      {"no flight record", fault::bad_magic, 0, [](auto& f) { f.header.magic ^= 1; }},
      {"version 2", fault::unknown_version, 8, [](auto& f) { f.header.version = 2; }},
      {"header of 64 bytes", fault::bad_value, 12, [](auto& f) { f.header.header_bytes = 64; }},
      {"records of 32 bytes", fault::bad_value, 16, [](auto& f) { f.header.record_bytes = 32; }},
      {"7 records", fault::bad_value, 20, [](auto& f) { f.header.capacity = 7; }},
      {"0 records", fault::bad_value, 20, [](auto& f) { f.header.capacity = 0; }},
      {"2147483648 records", fault::bad_value, 20, [](auto& f) { f.header.capacity = 1u << 31; }},
      {"ends where", fault::short_payload, flight_file_bytes(capacity), [](auto& f) { f.header.capacity = 16; }},
      {"ends where", fault::short_payload, flight_file_bytes(capacity), [](auto& f) { f.header.capacity = 4; }},
      {"time -1", fault::bad_value, offsetof(flight_header, wall_ns), [](auto& f) { f.header.wall_ns = -1; }},
      {"time -1", fault::bad_value, offsetof(flight_header, steady_ns), [](auto& f) { f.header.steady_ns = -1; }},
      {"time -1", fault::bad_value, offsetof(flight_header, pulse_ns), [](auto& f) { f.header.pulse_ns = -1; }},
      {"17 groups", fault::bad_value, offsetof(flight_header, groups_count),
       [](auto& f) { f.header.groups_count = 17; }},
      {"life 9", fault::bad_value, offsetof(flight_header, life), [](auto& f) { f.header.life = 9; }},
      {"state of words 3", fault::bad_value, offsetof(flight_header, words_state),
       [](auto& f) { f.header.words_state = 3; }},
      {"1721 bytes of words", fault::bad_value, offsetof(flight_header, words_bytes),
       [](auto& f) { f.header.words_bytes = 1721; }},
      {"byte 27 in a text", fault::bad_value, offsetof(flight_header, label) + 2,
       [](auto& f) { f.header.label[2] = '\x1b'; }},
      {"byte 10 in a text", fault::bad_value, offsetof(flight_header, host), [](auto& f) { f.header.host[0] = '\n'; }},
      {"byte 127 in a text", fault::bad_value,
       offsetof(flight_header, groups) + offsetof(flight_header::group, name) + 1,
       [](auto& f) { f.header.groups[0].name[1] = '\x7f'; }},
      {"byte 7 in a text", fault::bad_value, offsetof(flight_header, words),
       [](auto& f) {
         f.header.words_state = 2;
         f.header.words[0] = '\a';
       }},
      {"action 255 of thread 0", fault::bad_value, offsetof(flight_header, threads),
       [](auto& f) { f.header.threads[0].kind = ~0ull; }},
      {"time -5 of thread 0", fault::bad_value, offsetof(flight_header, threads),
       [](auto& f) { f.header.threads[0].until_ns = -5; }},
      {"record 9223372036854775808", fault::bad_value, offsetof(flight_header, next),
       [](auto& f) { f.header.next = 1ull << 63; }},
      {"action 99 of record 1", fault::bad_value, sizeof(flight_header) + flight_record_bytes,
       [](auto& f) { f.records[1].words[6] = 99ull << 32; }},
  };
  for (const auto& [what, expected, offset, act] : all) {
    CAPTURE(what);
    ring_file file;
    file.append(note_of(0));
    file.append(note_of(1));
    act(file);
    const auto refused = file.read();
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == expected);
    CAPTURE(refused.error().what);
    CHECK(refused.error().what.starts_with("r2.g3.ring: "));
    CHECK(refused.error().what.find(what) != std::string::npos);
    CHECK(refused.error().what.ends_with("at offset " + std::to_string(offset)));
  }
}

TEST_CASE("A file that was cut anywhere is refused, and nothing is read beyond it") {
  ring_file file;
  file.append(note_of(0));
  const auto whole = file.bytes();
  for (std::size_t size = 0; size < whole.size(); size += 61) {
    const std::vector<std::byte> cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    const auto refused = read_flight(cut, "cut");
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == fault::short_payload);
  }
  auto longer = whole;
  longer.push_back(std::byte{0});
  CHECK_FALSE(read_flight(longer, "longer"));
}
