#include "gpu/models/chat_template.hpp"
#include "gpu/models/text_io.hpp"
#include "inputs.hpp"
#include "target.hpp"

using namespace troupe;

/// The text of a chat template, alone and within tokenizer_config.json.
TROUPE_FUZZ_TARGET(chat_template) {
  static const fuzz::folder scratch;
  static const auto words = gpu::models::tokenizer::open(fuzz::reader_model());
  TROUPE_ASSERT("the reader's tokenizer opens", words);
  (void)gpu::models::recognise(fuzz::text_of(input), "<s>");
  scratch.put("tokenizer_config.json", input);
  if (const auto prompts = gpu::models::prompt_builder::open(*words, scratch.path()))
    (void)(*prompts)->build(" hello ", {});
}
