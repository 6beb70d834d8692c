#include "runtime/base/plugin.hpp"

#include <doctest/doctest.h>

using namespace troupe;

namespace {

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

} // namespace

TEST_CASE("G8: a plug-in of the same version and other sources is refused, with both builds in one line") {
  const auto refused = base::plugin_symbol("stale", "troupe_of_stale_plugin");

  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == protocols::fault::config_invalid);
  const auto& what = refused.error().what;
  CAPTURE(what);
  CHECK(contains(what, "libtroupe_stale.so: a plug-in of build " TROUPE_VERSION "+0123456789abcdef; this is "));
  CHECK(what.find("; this is " + std::string{base::build_stamp()}) != std::string::npos);
  CHECK_FALSE(contains(what, "\n"));
}

TEST_CASE("G8: a module that does not say of which build it is is refused") {
  const auto refused = base::plugin_symbol("silent", "troupe_of_silent_plugin");

  REQUIRE_FALSE(refused);
  CAPTURE(refused.error().what);
  CHECK(contains(refused.error().what, "libtroupe_silent.so: a plug-in of build unknown; this is "));
}

TEST_CASE("a plug-in that is not there is told with where it was looked for") {
  const auto absent = base::plugin_symbol("absent", "anything");

  REQUIRE_FALSE(absent);
  CHECK(contains(absent.error().what, "plug-in absent: "));
  CHECK(contains(absent.error().what, "lib/troupe/libtroupe_absent.so: not there"));
}
