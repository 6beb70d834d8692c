#include "runtime/cluster/message_text.hpp"

#include <doctest/doctest.h>

#include <string>

#include "protocols/codec.hpp"
#include "protocols/messages.hpp"

using namespace troupe::protocols;
using troupe::cluster::payload_of_text;

namespace {

template <class Message>
Message read_back(std::string_view fields) {
  const auto bytes = payload_of_text(Message::type, fields);
  REQUIRE_MESSAGE(bytes, to_string(bytes.error()));
  Message message;
  REQUIRE(decode_payload(*bytes, message, true));
  return message;
}

std::string problem_of(message_type type, std::string_view fields) {
  const auto bytes = payload_of_text(type, fields);
  return bytes ? std::string{} : bytes.error().what;
}

} // namespace

TEST_CASE("a message's fields in order are its payload: numbers, texts, lists and parts") {
  CHECK(read_back<release>("[5]") == release{.request = request_id{5}});
  CHECK(read_back<grant_pixels>("[[[3, 1], [4, 2]]]") ==
        grant_pixels{.slots = {{slot_index{3}, generation{1}}, {slot_index{4}, generation{2}}}});
  CHECK(read_back<shipped>("[5, 6, 16, \"late\"]") ==
        shipped{.request = request_id{5}, .room = room_id{6}, .code = 16, .message = "late"});
  CHECK(read_back<handover>("[5, 6, -1, -3, 17, 18446744073709551615]") == handover{.request = request_id{5},
                                                                                    .room = room_id{6},
                                                                                    .first_token = -1,
                                                                                    .position_delta = -3,
                                                                                    .length = 17,
                                                                                    .digest = ~std::uint64_t{0}});
  const auto granted = read_back<grant_rows>("[5, 6, 0, 1, [2, 9], 0, 4, 64, 1]");
  CHECK(granted.slot == slot_ref{slot_index{2}, generation{9}});
  CHECK(granted.dtype == element_type::f32);
}

TEST_CASE("fields that are no such message's are refused, each with its place") {
  CHECK(problem_of(message_type::release, "[]") == "release: field 1 is missing");
  CHECK(problem_of(message_type::release, "[5, 6]") == "release: 1 fields, not 2");
  CHECK(problem_of(message_type::release, "[\"five\"]").find("field 1 is a number that fits, not") !=
        std::string::npos);
  CHECK(problem_of(message_type::release, "[-5]").find("field 1 is a number that fits") != std::string::npos);
  CHECK(problem_of(message_type::grant_pixels, "[[[3]]]").find("in field 1: field 2 is missing") != std::string::npos);
  CHECK(problem_of(message_type::release, "5").find("are a list") != std::string::npos);
  CHECK(problem_of(message_type::release, "[").find("fields:1:") != std::string::npos);
  CHECK(problem_of(message_type::hello, "[]").find("does not go between role actors") != std::string::npos);
}
