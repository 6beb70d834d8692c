#include <doctest/doctest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <string>

namespace {

/// Runs `troupe_peer_members`, which lies beside this program and says on its own what it finds; its exit code.
int let_members_play(unsigned members, unsigned seed) {
  auto program = (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "troupe_peer_members").string();
  if (!std::filesystem::exists(program)) {
    std::cout << "skipped: no device (built without the CUDA plug-in)" << std::endl;
    return 0;
  }
  auto count = std::to_string(members);
  auto number = std::to_string(seed);
  char* arguments[]{program.data(), count.data(), number.data(), nullptr};
  pid_t child = 0;
  REQUIRE(::posix_spawn(&child, program.c_str(), nullptr, nullptr, arguments, environ) == 0);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

} // namespace

TEST_CASE("CUDA: B2, B20, B26, B27, G2: sums between GPUs have the bits of sums on the host, in the stream's order and "
          "captured, "
          "and end by a deadline when a member does not come or never joined") {
  for (const unsigned members : {2U, 3U, 4U}) {
    CAPTURE(members);
    CHECK(let_members_play(members, 20 + members) == 0);
  }
}
