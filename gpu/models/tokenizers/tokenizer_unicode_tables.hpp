#pragma once

#include <cstddef>

/// Unicode data that tokenizers need; written by tokenizer_unicode_tables.py.
namespace troupe::gpu::models::unicode {

struct code_range {
  char32_t first;
  char32_t last;
};
struct class_range {
  char32_t first;
  char32_t last;
  unsigned char combining_class;
};
/// One canonical step: `composed` stands for `first` and `second`; `second` is 0 where it stands for `first` alone.
struct canonical_pair {
  char32_t composed;
  char32_t first;
  char32_t second;
};

extern const code_range letters[]; ///< general category L, ascending
extern const std::size_t letters_count;
extern const code_range numbers[]; ///< general category N, ascending
extern const std::size_t numbers_count;
extern const class_range combining_classes[]; ///< other than 0, ascending
extern const std::size_t combining_classes_count;
extern const canonical_pair decompositions[]; ///< ascending by `composed`, without Hangul
extern const std::size_t decompositions_count;
extern const canonical_pair compositions[]; ///< ascending by `first` and `second`: what NFC joins, without Hangul
extern const std::size_t compositions_count;

} // namespace troupe::gpu::models::unicode
