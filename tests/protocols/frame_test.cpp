#include "protocols/serve/message_types.hpp"
#include "protocols/wire/frame.hpp"
#include "tests/protocols/golden.hpp"

using namespace troupe::protocols;
using troupe::protocols::testing::hex_of;

namespace {

const frame_header sample{
    .type = message_type::heartbeat,
    .flags = strict_payload,
    .payload_bytes = 3,
    .source = rank_id{1},
    .source_generation = generation{2},
    .destination = rank_id{3},
    .destination_generation = generation{4},
    .epoch = cache_epoch{5},
    .call = call_id{6},
    .sequence = 7,
};
constexpr std::array payload{std::byte{'a'}, std::byte{'b'}, std::byte{'c'}};

header_bytes encoded(const frame_header& header = sample, std::span<const std::byte> body = payload) {
  header_bytes bytes;
  encode_header(header, body, bytes);
  return bytes;
}

fault fault_with(std::size_t offset, std::initializer_list<int> patch, std::size_t frame_bytes_max = 1024) {
  auto bytes = encoded();
  for (const auto value : patch)
    bytes.at(offset++) = static_cast<std::byte>(value);
  const auto header = decode_header(bytes, frame_bytes_max);
  REQUIRE_FALSE(header);
  return header.error().code;
}

} // namespace

TEST_CASE("A26: the bytes of a frame's header are these") {
  constexpr std::string_view golden =
      "54525550"          // magic "TRUP"
      "0100"              // version
      "c800"              // type 200
      "01000000"          // flags
      "03000000"          // payload bytes
      "01000000"          // source
      "02000000"          // its generation
      "03000000"          // destination
      "04000000"          // its generation
      "0500000000000000"  // epoch
      "0600000000000000"  // call
      "0700000000000000"  // sequence
      "b280f1360cd5548d"; // of libxxhash 0.8.1: XXH3_64bits_withSeed("abc", XXH3_64bits(the above))
  CHECK(hex_of(encoded()) == golden);
}

TEST_CASE("A26: a header survives the way there") {
  const auto bytes = encoded();

  CHECK(decode_header(bytes, 1024) == sample);
  CHECK(verify_checksum(bytes, payload));
}

TEST_CASE("A26: a frame without payload has a checksum too") {
  auto header = sample;
  header.payload_bytes = 0;
  auto bytes = encoded(header, {});
  CHECK(verify_checksum(bytes, {}));

  bytes[48] ^= std::byte{1};
  CHECK(verify_checksum(bytes, {}).error().code == fault::bad_checksum);
}

TEST_CASE("A16: what is not a frame of this version is refused by name") {
  CHECK(fault_with(0, {'X'}) == fault::bad_magic);
  CHECK(fault_with(4, {2}) == fault::unknown_version);
  CHECK(fault_with(6, {0xff, 0x7f}) == fault::unknown_type);
  CHECK(fault_with(6, {0, 0}) == fault::unknown_type);
  CHECK(fault_with(8, {3}) == fault::unknown_flag);
  CHECK(fault_with(11, {0x80}) == fault::unknown_flag);
}

TEST_CASE("A16: what cannot become a frame is known by its first bytes, whatever is still to come") {
  const auto bytes = encoded();
  for (std::size_t count = 0; count <= bytes.size(); ++count)
    CHECK(may_begin_frame(std::span{bytes}.first(count)));
  for (std::size_t wrong = 0; wrong < 4; ++wrong) {
    auto other = bytes;
    other[wrong] ^= std::byte{1};
    for (std::size_t count = 0; count < 8; ++count)
      CHECK(may_begin_frame(std::span{other}.first(count)) == (count <= wrong));
  }
}

TEST_CASE("A26: a frame is as long as its limit at most") {
  CHECK(decode_header(encoded(), 67));
  CHECK(fault_with(0, {}, 66) == fault::frame_too_long);
  CHECK(fault_with(0, {}, 0) == fault::frame_too_long);
  CHECK(fault_with(12, {0xff, 0xff, 0xff, 0xff}) == fault::frame_too_long);
}

TEST_CASE("A26: any changed bit of header or payload breaks the checksum") {
  for (std::size_t bit = 0; bit < limits::frame_header_bytes * 8; ++bit) {
    CAPTURE(bit);
    auto bytes = encoded();
    bytes[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    CHECK_FALSE(verify_checksum(bytes, payload));
  }
  for (std::size_t bit = 0; bit < payload.size() * 8; ++bit) {
    CAPTURE(bit);
    auto changed = payload;
    changed[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    CHECK_FALSE(verify_checksum(encoded(), changed));
  }
}

TEST_CASE("Types that are not known have no name") {
  CHECK(name(serve_type::reserve_blocks) == "reserve_blocks");
  CHECK(name(static_cast<message_type>(7)).empty());
  CHECK_FALSE(is_known(static_cast<message_type>(7)));
}
