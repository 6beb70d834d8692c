#include <doctest/doctest.h>

#include <string>

#include "runtime/door/door.hpp"
#include "runtime/door/json_document.hpp"

using namespace troupe::door;

namespace {

std::string problem_of(std::string_view body) {
  const auto read = json_document::read(body);
  if (read)
    return "none";
  const auto& at = read.error().at;
  return std::to_string(at.line) + ":" + std::to_string(at.column) + " " + read.error().what;
}

} // namespace

TEST_CASE("K10: a body is read as it is written, escapes and all") {
  const std::string body = R"( {"a": [1, -2.5e3, true, null, {}], "b": "x\n\u00e9\ud83d\ude00\/"} )";
  const auto read = json_document::read(body);
  REQUIRE(read);
  const auto& root = read->root();
  REQUIRE(root.members.size() == 2);
  CHECK(root.find("b")->text == "x\n\xC3\xA9\xF0\x9F\x98\x80/");
  const auto& list = *root.find("a");
  CHECK(list.source == "[1, -2.5e3, true, null, {}]");
  CHECK(as_whole(list.elements[0]) == 1);
  CHECK(as_whole(list.elements[1]) == -2500);
  CHECK(as_real(list.elements[1]) == -2500.0);
  CHECK_FALSE(as_whole(list.elements[2]));
}

TEST_CASE("K10: what is no JSON is named by line and column") {
  CHECK(problem_of("") == "1:1 the body ends here, where a value is due");
  CHECK(problem_of("{\n \"a\": NaN}") ==
        "2:7 this is no value; a value is a text, a number, a list, an object, true, false or null");
  CHECK(problem_of("{\"a\": 1,\n\"a\": 2}") == "2:1 the key 'a' stands twice in this object");
  CHECK(problem_of("{\"a\": 1,}") == "1:9 a key in quotes is due here");
  CHECK(problem_of("[1 2]") == "1:4 a comma or ']' is due here");
  CHECK(problem_of("[01]") == "1:2 a number does not begin with 0");
  CHECK(problem_of("[1.]") == "1:4 digits are due behind the point of a number");
  CHECK(problem_of("\"\x80\"") == "1:2 this is not UTF-8");
  CHECK(problem_of("\"\xED\xA0\x80\"") == "1:2 this is not UTF-8");
  CHECK(problem_of("\"\\ud800\"") == "1:2 half a surrogate pair; its other half is due behind it");
  CHECK(problem_of("\"a\nb\"") == "1:3 a control character stands in a text; write it as \\u and four hex digits");
  CHECK(problem_of("{} x") == "1:4 nothing may follow the body's value");
  CHECK(problem_of("{\"a\": ") == "1:7 the body ends here, where a value is due");
}

TEST_CASE("K9: a body may be neither too deep nor of too many values") {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  CHECK(problem_of(nested(64)) == "none");
  CHECK(problem_of(nested(65)) == "1:65 more than 64 values stand inside each other");
  std::string many = "[";
  for (std::size_t i = 0; i < json_document::values_max; ++i)
    many += "0,";
  CHECK(problem_of(many + "0]").find("the body has more than 200000 values") != std::string::npos);
}

TEST_CASE("K10: texts are written as JSON, and what is not UTF-8 is replaced") {
  std::string out;
  append_json_text(out, "a\"\\\n\x01\xC3\xA9\xFF");
  CHECK(out == "\"a\\\"\\\\\\n\\u0001\xC3\xA9\xEF\xBF\xBD\"");
}
