#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "tests/protocols/every_message.hpp"

using namespace troupe::protocols;
using namespace troupe::protocols::testing;

namespace {

constexpr std::uint64_t seeds = 50;

/// As the next version of a message might look: one field appended.
struct heartbeat_of_tomorrow {
  std::uint64_t completed = 0;
  bool busy = false;
  std::uint32_t load = 0;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.completed, self.busy);
    archive.appended(self.load);
  }
  bool operator==(const heartbeat_of_tomorrow&) const = default;
};

template <class Message>
result<Message> read(std::span<const std::byte> payload, bool strict = false) {
  Message message;
  if (const auto outcome = decode_payload(payload, message, strict); !outcome)
    return tl::unexpected{outcome.error()};
  return message;
}

std::vector<std::byte> raw(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const auto value : values)
    bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

} // namespace

TEST_CASE("A26: the list of messages under test misses none that the wire knows") {
  std::set<message_type> listed{message_type::collective};
  for_each_message([&](auto message) { listed.insert(decltype(message)::type); });

  for (std::uint32_t number = 0; number <= 0xffff; ++number)
    if (const auto type = static_cast<message_type>(number); is_known(type))
      CHECK_MESSAGE(listed.contains(type), name(type));
}

TEST_CASE("A26: what was encoded is what is decoded") {
  for_each_message([](auto message) {
    using message_t = decltype(message);
    message_t reused;
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
      CAPTURE(name(message_t::type));
      CAPTURE(seed);
      const auto sent = random_message<message_t>(seed);
      const auto bytes = bytes_of(sent);
      const auto received = read<message_t>(bytes, true);
      REQUIRE(received);
      CHECK(bytes_of(*received) == bytes);

      REQUIRE(decode_payload(bytes, reused, true));
      CHECK(bytes_of(reused) == bytes);
    }
  });
}

TEST_CASE("A17: a payload cut at any byte is short, or lacks appended fields only") {
  for_each_message([](auto message) {
    using message_t = decltype(message);
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
      CAPTURE(name(message_t::type));
      CAPTURE(seed);
      const auto bytes = bytes_of(random_message<message_t>(seed));
      for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
        const auto received = read<message_t>(std::span{bytes}.first(cut));
        if (!received) {
          REQUIRE(received.error().code == fault::short_payload);
          continue;
        }
        const auto again = bytes_of(*received);
        REQUIRE(std::equal(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(cut), again.begin()));
        REQUIRE(std::all_of(again.begin() + static_cast<std::ptrdiff_t>(cut), again.end(),
                            [](std::byte byte) { return byte == std::byte{0}; }));
      }
    }
  });
}

TEST_CASE("A26: changed bytes are read as another message or refused by name") {
  for_each_message([](auto message) {
    using message_t = decltype(message);
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
      CAPTURE(name(message_t::type));
      CAPTURE(seed);
      auto bytes = bytes_of(random_message<message_t>(seed));
      std::mt19937_64 random{seed};
      for (int change = 0; change < 20 && !bytes.empty(); ++change) {
        bytes[random() % bytes.size()] = static_cast<std::byte>(random());
        const auto received = read<message_t>(bytes, true);
        if (!received)
          REQUIRE((received.error().code == fault::short_payload || received.error().code == fault::bad_value));
      }
    }
  });
}

TEST_CASE("A26: a count beyond the payload is refused before anything is allocated for it") {
  const auto lie = raw({0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4});
  SUBCASE("a text") {
    leave message;
    CHECK(decode_payload(lie, message).error().code == fault::short_payload);
    CHECK(message.reason.capacity() < 64);
  }
  SUBCASE("a list of numbers") {
    auto bytes = raw({1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0});
    bytes.insert(bytes.end(), lie.begin(), lie.end());
    picture_chunk message;
    CHECK(decode_payload(bytes, message).error().code == fault::short_payload);
    CHECK(message.bytes.capacity() == 0);
  }
  SUBCASE("a list of parts") {
    roster message;
    CHECK(decode_payload(lie, message).error().code == fault::short_payload);
    CHECK(message.ranks.capacity() == 0);
  }
  SUBCASE("a list whose count is as long as the payload") {
    std::vector<std::byte> bytes(32); // what is shown
    bytes.push_back(std::byte{100});
    bytes.resize(32 + 104);
    welcome message;
    CHECK(decode_payload(bytes, message).error().code == fault::short_payload);
    CHECK(message.capabilities.size() <= 26);
  }
}

TEST_CASE("A17: an appended field is empty when an older peer does not send it, also in a reused message") {
  heartbeat_of_tomorrow reused{.completed = 1, .busy = true, .load = 77};

  REQUIRE(decode_payload(bytes_of(heartbeat{.completed = 9, .busy = false}), reused));

  CHECK(reused == heartbeat_of_tomorrow{.completed = 9, .busy = false, .load = 0});
}

TEST_CASE("A17: a finished without what came later, as an older front sends it, has none of it") {
  auto bytes = bytes_of(finished{.tag = 4,
                                 .reason = finish_reason::stop,
                                 .message = {},
                                 .time_to_first_token_ns = 1,
                                 .total_ns = 2,
                                 .phases = {},
                                 .text = {}});
  bytes.resize(bytes.size() - 3 * sizeof(std::uint32_t)); // the count of the text, and of tokens

  const auto read_back = read<finished>(bytes);

  REQUIRE(read_back);
  CHECK(read_back->tag == 4);
  CHECK(read_back->total_ns == 2);
  CHECK(read_back->text.empty());
}

TEST_CASE("A17: bytes past the known fields are ignored, and refused where the frame says that they matter") {
  const auto bytes = bytes_of(heartbeat_of_tomorrow{.completed = 9, .busy = true, .load = 77});

  CHECK(read<heartbeat>(bytes) == heartbeat{.completed = 9, .busy = true});
  CHECK(read<heartbeat>(bytes, true).error().code == fault::bad_value);
}

TEST_CASE("A26: a number without an enumerator is a bad value") {
  CHECK(read<proceed>(raw({9})).error() == failure{fault::bad_value, "no enumerator has the number 9"});
  CHECK(read<proceed>(raw({8})) == proceed{life_state::failed});
  CHECK(read<mesh_plan>(raw({0, 1, 0, 0, 0, 0, 0, 0, 0})).error().code == fault::bad_value);
  for (std::uint32_t number = 0; number <= 0xff; ++number) {
    CAPTURE(number);
    CHECK(is_valid(static_cast<element_type>(number)) == (number >= 1 && number <= 3));
    CHECK(is_valid(static_cast<finish_reason>(number)) == (number <= 4));
    CHECK(is_valid(static_cast<channel_kind>(number)) == (number >= 1 && number <= 3));
    CHECK(is_valid(static_cast<life_state>(number)) == (number <= 8));
    CHECK(is_valid(static_cast<phase>(number)) == (number >= 1 && number <= 7));
  }
}

TEST_CASE("A26: a truth value is 0 or 1") {
  CHECK(read<heartbeat>(raw({0, 0, 0, 0, 0, 0, 0, 0, 2})).error().code == fault::bad_value);
}

TEST_CASE("Encoding into a warm buffer allocates nothing") {
  const auto message = random_message<submit>(1);
  std::vector<std::byte> buffer;
  encode_payload(message, buffer);
  const auto* const place = buffer.data();
  buffer.clear();

  encode_payload(message, buffer);

  CHECK(buffer.data() == place);
}
