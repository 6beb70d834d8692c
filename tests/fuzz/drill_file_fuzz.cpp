#include "inputs.hpp"
#include "runtime/cluster/drill_file.hpp"
#include "target.hpp"

using namespace troupe;

/// A drill as a user writes it, as if it stood beside those of the tree.
TROUPE_FUZZ_TARGET(drill_file) {
  const auto read =
      cluster::read_drill_text(fuzz::text_of(input), TROUPE_SOURCE_DIR "/deploy/drills/of-the-fuzzer.json");
  if (!read)
    TROUPE_ASSERT("a drill is refused in words", !read.error().what.empty());
}
