#pragma once

#include <cstddef>
#include <string>

#include "gpu/models/tokenizers/tokenizer_unicode.hpp"

/// Large and small letters as Python has them: one letter may become up to three.
/// The capital sigma is not among them: its small letter depends on its neighbours.
namespace troupe::gpu::models::unicode {

/// The code points first, first + step, ..., last become those `delta` further.
struct case_run {
  code_point first;
  code_point last;
  unsigned step;
  std::int32_t delta;
};
/// `from` becomes several; what is not used of them is 0.
struct case_special {
  code_point from;
  code_point to[3];
};

// Ascending. Written by template_case_tables.py.
extern const case_run lower_runs[], upper_runs[], title_runs[];
extern const std::size_t lower_runs_count, upper_runs_count, title_runs_count;
extern const case_special lower_specials[], upper_specials[], title_specials[];
extern const std::size_t lower_specials_count, upper_specials_count, title_specials_count;

inline constexpr code_point capital_sigma = 0x3A3;

void append_lower(std::string& out, code_point value);
void append_upper(std::string& out, code_point value);
void append_title(std::string& out, code_point value); ///< as the first letter of a word

} // namespace troupe::gpu::models::unicode
