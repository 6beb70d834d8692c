#include "gpu/models/config.hpp"
#include "inputs.hpp"
#include "target.hpp"

using namespace troupe;

/// config.json beside the reader's other files; what the models derive from it can be derived.
TROUPE_FUZZ_TARGET(config) {
  static const fuzz::folder scratch;
  static const bool prepared = [] {
    scratch.copy(fuzz::reader_model() / "generation_config.json");
    scratch.copy(fuzz::reader_model() / "preprocessor_config.json");
    return true;
  }();
  (void)prepared;
  scratch.put("config.json", input);
  const auto read = gpu::models::read_config(scratch.path());
  if (!read)
    return;
  (void)read->text.rope.frequencies(read->facts.head_elements);
  (void)read->text.rope.axes(read->facts.head_elements);
  (void)read->facts.picture_tokens_max();
}
