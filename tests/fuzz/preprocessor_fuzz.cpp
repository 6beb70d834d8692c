#include "gpu/models/config.hpp"
#include "gpu/models/pictures/picture.hpp"
#include "inputs.hpp"
#include "target.hpp"

using namespace troupe;

/// preprocessor_config.json beside the reader's other files: whatever sizes it admits, a picture gets one that is cut
/// into whole patches.
TROUPE_FUZZ_TARGET(preprocessor) {
  static const fuzz::folder scratch;
  static const bool prepared = [] {
    scratch.copy(fuzz::reader_model() / "config.json");
    scratch.copy(fuzz::reader_model() / "generation_config.json");
    return true;
  }();
  (void)prepared;
  scratch.put("preprocessor_config.json", input);
  (void)gpu::models::read_normalisation(scratch.path());
  const auto read = gpu::models::read_config(scratch.path());
  if (!read)
    return;
  const auto& facts = read->facts;
  for (const auto& [height, width] : {std::pair{1u, 1u}, {64u, 48u}, {8192u, 8192u}, {8192u, 41u}}) {
    const auto shape = gpu::models::resized_shape(facts, height, width);
    const auto side = facts.patch_pixels * facts.merge;
    if (shape)
      TROUPE_ASSERT("whole patches",
                    shape->first > 0 && shape->second > 0 && shape->first % side == 0 && shape->second % side == 0);
  }
}
