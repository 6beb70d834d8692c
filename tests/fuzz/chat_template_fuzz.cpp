#include "gpu/models/model.hpp"
#include "gpu/models/templates/conversation_values.hpp"
#include "gpu/models/templates/template_run.hpp"
#include "gpu/models/text_io.hpp"
#include "inputs.hpp"
#include "target.hpp"

using namespace troupe;

/// The text of a chat template, alone and within tokenizer_config.json, over a conversation that has of everything.
namespace {

protocols::conversation everything() {
  protocols::conversation out = protocols::one_turn(" What\n is it? ", 0);
  auto answer = out.messages.front();
  answer.role = "assistant";
  answer.content.clear();
  answer.reasoning_content = "<think>";
  answer.more = R"({"tool_calls": [{"function": {"name": "f", "arguments": {"a": [1, 2.5, null, "\u00dc"]}}}]})";
  auto parts = out.messages.front();
  parts.in_parts = true;
  out.messages.push_back(answer);
  out.messages.push_back(parts);
  out.tools = R"([{"function": {"name": "f"}}])";
  out.template_arguments = R"({"enable_thinking": false, "x": {"y": [[]]}})";
  return out;
}

} // namespace

TROUPE_FUZZ_TARGET(chat_template) {
  static const fuzz::folder scratch;
  static const auto words = gpu::models::tokenizer::open(fuzz::reader_model());
  static const auto facts = gpu::models::read_facts(fuzz::reader_model());
  TROUPE_ASSERT("the reader's tokenizer opens", words && facts);
  try {
    static const auto names = gpu::models::template_names(everything(), {}, {});
    (void)gpu::models::run_template(gpu::models::parse_template(fuzz::text_of(input)), names, {});
  } catch (const gpu::models::template_problem& problem) {
    TROUPE_ASSERT("a problem has a place", problem.at.line > 0 && problem.at.column > 0);
  }
  scratch.put("tokenizer_config.json", input);
  if (const auto prompts = gpu::models::prompt_builder::open(*words, scratch.path(), *facts))
    (void)(*prompts)->build(everything(), {}, {});
}
