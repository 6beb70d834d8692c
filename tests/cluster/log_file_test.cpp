#include "runtime/cluster/log_file.hpp"

#include <doctest/doctest.h>

#include <signal.h>
#include <sys/resource.h>

#include "tests/cluster/run_directory.hpp"

using namespace troupe;
using tests::run_directory;
using tests::text_of;

TEST_CASE("a log that is full takes the place of the old one that is kept, and no line is cut") {
  const run_directory root;
  const auto path = root.path() / "0.log";
  cluster::log_file log{path, 20};

  log.line({"first", " line"}); // 11 bytes
  log.line({"second"});         // 18
  log.flush();
  CHECK(text_of(path) == "first line\nsecond\n");
  CHECK_FALSE(std::filesystem::exists(cluster::old_log(path)));

  log.line({"third"});
  log.flush();
  CHECK(text_of(cluster::old_log(path)) == "first line\nsecond\n");
  CHECK(text_of(path) == "third\n");

  // a line beyond the bound stands in a file of its own
  log.line({std::string(30, 'x')});
  log.line({"last"});
  log.flush();
  CHECK(text_of(cluster::old_log(path)) == std::string(30, 'x') + "\n");
  CHECK(text_of(path) == "last\n");
}

TEST_CASE("a log whose file is there already goes on where it ends") {
  const run_directory root;
  const auto path = root.path() / "0.log";
  std::ofstream{path} << "0123456789abcde\n";

  cluster::log_file log{path, 20};
  log.line({"f"});
  log.line({"g12"});
  log.flush();

  CHECK(text_of(cluster::old_log(path)) == "0123456789abcde\nf\n");
  CHECK(text_of(path) == "g12\n");
}

TEST_CASE("K6: a log that cannot be written stops nobody") {
  cluster::log_file log{"/nonexistent/0.log", 8};
  for (int i = 0; i < 4; ++i)
    log.line({"a line"});
  log.flush();
}

TEST_CASE("K6: a log that could not be made is made once it can be, and says what it lacks") {
  const run_directory root;
  const auto path = root.path() / "logs" / "0.log";
  cluster::log_file log{path};
  log.line({"first"});
  log.flush();
  std::filesystem::create_directory(root.path() / "logs");
  log.line({"second"});
  log.flush();
  CHECK(text_of(path) == "1 line could not be written: Bad file descriptor\nsecond\n");
}

TEST_CASE("K6: a log on a disk that was full says how many lines it lacks, and goes on") {
  const run_directory root;
  const auto path = root.path() / "0.log";
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  cluster::log_file log{path};
  log.line({"first"});
  log.flush();

  const rlimit full{.rlim_cur = 6, .rlim_max = before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &full) == 0);
  for (const auto* const line : {"second", "third"}) {
    log.line({line});
    log.flush();
  }
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  log.line({"fourth"});
  log.flush();

  CHECK(text_of(path) == "first\n2 lines could not be written: File too large\nfourth\n");
}
