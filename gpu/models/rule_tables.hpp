#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gpu/rule_record.hpp"
#include "protocols/serve/sampling_options.hpp"

/// A request's rules as the tables that choices are made by (rule_record.hpp). The cell's machine has checked ids and
/// sizes.
namespace troupe::gpu::models {

/// `record` [rule_words].
void write_record(const protocols::sampling_rules& rules, std::span<std::int32_t> record);
/// `marks` [vocabulary]: as they are before the first token of the answer.
void write_marks(const protocols::sampling_rules& rules, std::span<std::int32_t> marks);
void mark_answer(std::span<const protocols::token_id> answer, std::span<std::int32_t> marks);
/// Appends what a choice has told, of which `words` are as many as the rules ask for.
void read_told(std::span<const std::int32_t> words, std::vector<protocols::token_logprob>& told);

} // namespace troupe::gpu::models
