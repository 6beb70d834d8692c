#include <doctest/doctest.h>

#include <thread>

#include "fabric/transfers/copy_line.hpp"
#include "runtime/base/progress_counter.hpp"
#include "tests/fabric/pretended_device.hpp"
#include "tests/fabric/transfer_harness.hpp"

using namespace troupe;
using namespace troupe::fabric;
using namespace troupe::fabric::testing;

namespace {

/// True once the sign has grown three times, its owner never at rest.
bool turns(const base::progress_table& signs, std::size_t place) {
  const auto until = base::now() + patience;
  for (int grown = 0; grown < 3; ++grown) {
    const auto before = signs.at(place).turn;
    while (signs.at(place).turn == before)
      if (base::now() >= until)
        return false;
      else
        std::this_thread::yield();
    if (!signs.at(place).works)
      return false;
  }
  return true;
}

} // namespace

TEST_CASE("K13: the thread of a transfer engine shows that it turns while nothing moves, and rests once it has ended") {
  for (const auto kind : {bulk_kind::shared_memory, bulk_kind::fabric}) {
    CAPTURE(name_of(kind));
    base::progress_table signs{1};
    event_log log;
    auto engine =
        kind == bulk_kind::fabric
            ? make_fabric_engine({.self = rank_id{0}, .born = generation{1}})
            : make_shared_memory_engine({.self = rank_id{0}, .born = generation{1}, .unix_path = fresh_path()});
    REQUIRE_MESSAGE(engine, to_string(engine.error()));
    (*engine)->be_watched({&signs, 5ms});
    REQUIRE((*engine)->start(log.events()));
    CHECK(turns(signs, 0));
    (*engine)->stop();
    CHECK_FALSE(signs.at(0).works);
  }
}

TEST_CASE("K13: a line of copies shows that it turns while nothing is in line") {
  base::progress_table signs{1};
  pretended_memory device;
  copy_line line{device.make_copies(), 4};
  line.be_watched({&signs, 5ms});
  line.start("troupe-copy-out");
  CHECK(turns(signs, 0));
  line.stop();
  CHECK_FALSE(signs.at(0).works);
}
