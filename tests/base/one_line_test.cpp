#include "runtime/base/one_line.hpp"

#include <doctest/doctest.h>

using troupe::base::one_line;

TEST_CASE("what others wrote stays on one line of a message and commands no terminal") {
  CHECK(one_line("plain, \xC3\xA9, \xE2\x82\xAC, \xF0\x9F\x8E\xAD") ==
        "plain, \xC3\xA9, \xE2\x82\xAC, \xF0\x9F\x8E\xAD");
  CHECK(one_line("a\ntroupe: all is well\r\n") == "a troupe: all is well  ");
  CHECK(one_line("\x1b[2J\x7f\t") == " [2J  ");
  CHECK(one_line("\xC2\x9B"
                 "2J") == " 2J");         // CSI as one character
  CHECK(one_line("\xE2\x80\xA8") == " "); // U+2028, a line separator
  CHECK(one_line(std::string_view{"\0x", 2}) == " x");
}

TEST_CASE("what is no UTF-8 is shown as U+FFFD, a byte at a time") {
  const std::string one = "\xEF\xBF\xBD";
  CHECK(one_line("caf\xE9") == "caf" + one);
  CHECK(one_line("\xE2\x82") == one + one);           // cut off
  CHECK(one_line("\xC0\xAF") == one + one);           // overlong
  CHECK(one_line("\xED\xA0\x80") == one + one + one); // a surrogate
  CHECK(one_line("\xF4\x90\x80\x80").size() == 12);   // beyond the last code point
  CHECK(one_line("\xE2"
                 "abc") == one + "abc");
}

TEST_CASE("long words are cut between two characters") {
  CHECK(one_line("abcd", 4) == "abcd");
  CHECK(one_line("abcde", 4) == "abcd...");
  CHECK(one_line("abc\xC3\xA9"
                 "d",
                 4) == "abc...");
  CHECK(one_line("\xC3\xA9\xC3\xA9", 4) == "\xC3\xA9\xC3\xA9");
  CHECK(one_line(std::string(1'000'000, 'x'), 60).size() == 63);
}
