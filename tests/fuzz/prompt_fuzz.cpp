#include "gpu/models/model.hpp"
#include "gpu/models/text_io.hpp"
#include "inputs.hpp"
#include "target.hpp"

using namespace troupe;

/// What a client asks: the words stay words, whatever is written in them. The first byte chooses among tokenizers.
TROUPE_FUZZ_TARGET(prompt) {
  static const std::filesystem::path tokenizers = TROUPE_SOURCE_DIR "/tests/golden/tokenizers";
  static const std::array known{
      gpu::models::tokenizer::open(fuzz::reader_model()), gpu::models::tokenizer::open(tokenizers / "gpt2"),
      gpu::models::tokenizer::open(tokenizers / "llama3"), gpu::models::tokenizer::open(tokenizers / "qwen2")};
  if (input.empty())
    return;
  const auto& chosen = known[std::to_integer<std::size_t>(input.front()) % known.size()];
  TROUPE_ASSERT("the tokenizers of this tree open", chosen);
  const auto text = fuzz::text_of(input.subspan(1));
  for (const bool special : {false, true})
    for (const auto id : (*chosen)->encode(text, special))
      TROUPE_ASSERT("known ids", id >= 0 && static_cast<std::size_t>(id) < (*chosen)->vocabulary());

  const std::array<std::uint32_t, 1> image_tokens{3};
  static const auto facts = gpu::models::read_facts(fuzz::reader_model());
  TROUPE_ASSERT("the reader's config opens", facts);
  static const auto prompts = gpu::models::prompt_builder::open(*known.front(), fuzz::reader_model(), *facts);
  TROUPE_ASSERT("the reader's chat template opens", prompts);
  const auto built = (*prompts)->build(protocols::one_turn(std::string{text}, image_tokens.size()), image_tokens, {});
  TROUPE_ASSERT("a prompt can be made of any words", built && built->first_token.size() == 1);
}
