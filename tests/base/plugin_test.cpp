#include "runtime/base/plugin.hpp"

#include <doctest/doctest.h>

#include <fcntl.h>

#include <filesystem>

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

TEST_CASE("K18: a plug-in that is held is loaded, whatever has taken its name") {
  std::error_code problem;
  const auto home = std::filesystem::read_symlink("/proc/self/exe", problem).parent_path();
  const auto name = home / "libtroupe_moved_over.so";
  std::filesystem::copy_file(home / "libtroupe_stale.so", name, std::filesystem::copy_options::overwrite_existing);
  base::give_plugin("moved_over", ::open((home / "libtroupe_silent.so").c_str(), O_PATH | O_CLOEXEC));

  const auto refused = base::plugin_symbol("moved_over", "troupe_of_stale_plugin");
  std::filesystem::remove(name);

  REQUIRE_FALSE(refused);
  CAPTURE(refused.error().what);
  CHECK(contains(refused.error().what, "libtroupe_moved_over.so: a plug-in of build unknown; this is "));
}
