#pragma once

#include <cstdint>

namespace troupe::protocols {

/// Counts the tokens of one HTTP request, for `usage`: its prompt once, whatever `n` is, and every token of each
/// answer. Threads: its owner's.
class usage {
public:
  void on_prompt(std::uint32_t tokens) noexcept { prompt_ = tokens; }
  void on_token() noexcept { ++answer_; }

  std::uint64_t prompt_tokens() const noexcept { return prompt_; }
  std::uint64_t answer_tokens() const noexcept { return answer_; }
  std::uint64_t all_tokens() const noexcept { return prompt_ + answer_; }

private:
  std::uint64_t prompt_ = 0;
  std::uint64_t answer_ = 0;
};

} // namespace troupe::protocols
