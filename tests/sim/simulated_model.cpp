#include "tests/sim/simulated_model.hpp"

namespace troupe::sim {

namespace {

/// A context without memory.
struct plain_context {
  std::uint64_t before = 0; ///< whole blocks
  std::uint64_t block = 0;  ///< the one that grows
  std::uint32_t length = 0;

  void add(std::uint64_t token) {
    const auto at = length % protocols::limits::kv_block_tokens;
    if (at == 0 && length > 0)
      before = folded(before, block);
    block = grown(at == 0 ? before : block, token);
    ++length;
  }
  protocols::token_id choose() const { return chosen(folded(before, block), length); }
};

} // namespace

sim_answer answer_alone(const sim_question& question) {
  std::vector<std::uint64_t> rows(question.prompt.size());
  for (std::size_t i = 0; i < question.pictures.size(); ++i) {
    const auto& picture = question.pictures[i];
    std::uint64_t all = 0;
    for (std::uint32_t patch = 0; patch < picture.tokens(); ++patch)
      all = seen(all, pixel_word(picture.content, patch));
    for (std::uint32_t row = 0; row < picture.tokens(); ++row)
      rows[question.first_tokens[i] + row] = row_word(all, row);
  }
  plain_context context;
  for (std::size_t i = 0; i < question.prompt.size(); ++i)
    context.add(token_word(question.prompt[i], rows[i]));
  sim_answer answer;
  while (answer.tokens.size() < question.max_tokens) {
    const auto next = context.choose();
    if (next == not_finite) {
      answer.not_finite = true;
      break;
    }
    answer.tokens.push_back(next);
    if (next == end_token)
      break;
    context.add(token_word(next, 0));
  }
  return answer;
}

} // namespace troupe::sim
