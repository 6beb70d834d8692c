#include "gpu/models/text_io.hpp"
#include "inputs.hpp"
#include "target.hpp"

using namespace troupe;

/// tokenizer.json: what is accepted encodes any text to ids that it has.
TROUPE_FUZZ_TARGET(tokenizer) {
  static const fuzz::folder scratch;
  scratch.put("tokenizer.json", input);
  const auto opened = gpu::models::tokenizer::open(scratch.path());
  if (!opened)
    return;
  for (const bool special : {false, true}) {
    const auto ids = (*opened)->encode("It's  12345\r\n\u00e9\u1112\u1161\u11ab\xff <|im_end|>\t<|eot_id|>", special);
    gpu::models::incremental_decoder decoder{*opened};
    for (const auto id : ids) {
      TROUPE_ASSERT("known ids", id >= 0 && static_cast<std::size_t>(id) < (*opened)->vocabulary());
      decoder.push(id);
    }
    decoder.finish();
  }
}
