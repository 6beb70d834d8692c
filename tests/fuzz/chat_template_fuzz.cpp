#include "gpu/models/model.hpp"
#include "gpu/models/templates/template_run.hpp"
#include "gpu/models/text_io.hpp"
#include "inputs.hpp"
#include "target.hpp"

using namespace troupe;

/// The text of a chat template, alone and within tokenizer_config.json.
TROUPE_FUZZ_TARGET(chat_template) {
  static const fuzz::folder scratch;
  static const auto words = gpu::models::tokenizer::open(fuzz::reader_model());
  static const auto facts = gpu::models::read_facts(fuzz::reader_model());
  TROUPE_ASSERT("the reader's tokenizer opens", words && facts);
  try {
    (void)gpu::models::run_template(gpu::models::parse_template(fuzz::text_of(input)), {});
  } catch (const gpu::models::template_problem& problem) {
    TROUPE_ASSERT("a problem has a place", problem.at.line > 0 && problem.at.column > 0);
  }
  scratch.put("tokenizer_config.json", input);
  if (const auto prompts = gpu::models::prompt_builder::open(*words, scratch.path(), *facts))
    (void)(*prompts)->build(" hello ", {});
}
