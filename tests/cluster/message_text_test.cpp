#include "protocols/serve/message_types.hpp"
#include "runtime/cluster/message_text.hpp"

#include <doctest/doctest.h>

#include <string>

#include "protocols/serve/serve_message.hpp"
#include "protocols/wire/codec.hpp"

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
  CHECK(read_back<kv_sent>("[5, 6, 16, \"late\"]") ==
        kv_sent{.request = request_id{5}, .room = room_id{6}, .code = 16, .message = "late"});
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

TEST_CASE("a message's fields may stand by their names, and those that came later may be left out") {
  CHECK(read_back<release>(R"({"request": 5})") == release{.request = request_id{5}});
  CHECK(read_back<kv_sent>(R"({"message": "late", "code": 16, "room": 6, "request": 5})") ==
        kv_sent{.request = request_id{5}, .room = room_id{6}, .code = 16, .message = "late"});
  CHECK(read_back<grant_pixels>(R"({"slots": [[3, 1], {"lease_generation": 2, "slot": 4}]})") ==
        grant_pixels{.slots = {{slot_index{3}, generation{1}}, {slot_index{4}, generation{2}}}});
  const auto asked = read_back<reserve_kv>(R"({"request": 1, "room": 2, "prompt_tokens": 3, "max_tokens": 4,
      "sampling": {"temperature": 0.5, "top_p": 1, "seed": 7}, "end_tokens": [9, 8], "prefill_cell": 1,
      "deadline_ms": 1000})");
  CHECK(asked.sampling == sampling_options{.temperature = 0.5F, .top_p = 1.0F, .seed = 7});
  CHECK(asked.end_tokens == std::vector<token_id>{9, 8});
  CHECK(asked.prompt_digest == 0);
}

TEST_CASE("every message between role actors has a name for each of its fields") {
  const auto read_nothing = [&]<class... Messages>(std::variant<Messages...>*) {
    for (const auto type : {Messages::type...})
      CHECK(problem_of(type, "{}").find("is missing") != std::string::npos); // or it breaks an invariant
  };
  read_nothing(static_cast<serve_message*>(nullptr));
}

TEST_CASE("fields that are no such message's are refused, each with its place") {
  CHECK(problem_of(serve_type::release, "[]") == "release: field 1 is missing");
  CHECK(problem_of(serve_type::release, "[5, 6]") == "release: 1 fields, not 2");
  CHECK(problem_of(serve_type::release, "[\"five\"]").find("field 1 is a number that fits, not") != std::string::npos);
  CHECK(problem_of(serve_type::release, "[-5]").find("field 1 is a number that fits") != std::string::npos);
  CHECK(problem_of(serve_type::grant_pixels, "[[[3]]]").find("in field 1: field 2 is missing") != std::string::npos);
  CHECK(problem_of(serve_type::release, "5").find("are a list or an object") != std::string::npos);
  CHECK(problem_of(serve_type::release, R"({"reqest": 5})") ==
        "release: unknown field 'reqest'; did you mean 'request'?");
  CHECK(problem_of(serve_type::release, R"({"request": 5, "request": 6})") ==
        "release: field 'request' is written twice");
  CHECK(problem_of(serve_type::arrived, R"({"request": 5})") == "arrived: field 'room' is missing");
  CHECK(problem_of(serve_type::arrived, R"({"request": "x", "room": 1})") ==
        "arrived: field 'request' is a number that fits, not \"x\"");
  CHECK(problem_of(serve_type::grant_pixels, R"({"slots": [{"slot": 3, "tenant": 1}]})")
            .find("in field 'slots': unknown field 'tenant'") != std::string::npos);
  CHECK(problem_of(serve_type::release, "[").find("fields:1:") != std::string::npos);
  CHECK(problem_of(message_type::hello, "[]").find("does not go between role actors") != std::string::npos);
}
