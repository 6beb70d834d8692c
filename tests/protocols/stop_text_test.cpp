#include <doctest/doctest.h>

#include "protocols/door/stop_text.hpp"

using namespace troupe::protocols;

TEST_CASE("K8: an answer ends before the first stop text, however it is cut into pieces") {
  const std::string whole = "one END two ENDE three";
  for (std::size_t piece = 1; piece <= whole.size(); ++piece) {
    stop_text stops{{"ENDE", "END", "three"}};
    std::string out;
    for (std::size_t i = 0; i < whole.size(); i += piece)
      out += stops.push(std::string_view{whole}.substr(i, piece));
    CHECK(stops.has_stopped());
    CHECK(out + stops.finish() == "one ");
  }
}

TEST_CASE("K8: what only begins like a stop text is given out in the end, and nothing before it is held back") {
  stop_text stops{{"</s>", "\n\n"}};
  CHECK(stops.push("a <") == "a ");
  CHECK(stops.push("/") == "");
  CHECK(stops.push("b\n") == "</b");
  CHECK(stops.push("c</s") == "\nc");
  CHECK(stops.finish() == "</s");
  CHECK_FALSE(stops.has_stopped());
}

TEST_CASE("K8: an answer without stop texts goes through as it is") {
  stop_text none{{"", ""}};
  CHECK(none.push("abc") == "abc");
  CHECK(none.finish().empty());
}
