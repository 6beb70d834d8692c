#include <algorithm>
#include <span>

#include "gpu/models/tokenizers/tokenizer_unicode.hpp"
#include "gpu/models/tokenizers/tokenizer_unicode_tables.hpp"

/// Unicode Standard Annex 15: decompose, put marks in canonical order, compose. Hangul goes by arithmetic.
namespace troupe::gpu::models::unicode {
namespace {

/// Below it every code point is its own form C and no mark.
constexpr code_point first_that_changes = 0x300;

constexpr code_point hangul_lead = 0x1100, hangul_vowel = 0x1161, hangul_tail = 0x11A7, hangul_syllable = 0xAC00;
constexpr code_point leads = 19, vowels = 21, tails = 28;

unsigned char combining_class(code_point value) {
  const std::span all{combining_classes, combining_classes_count};
  const auto at = std::ranges::lower_bound(all, value, {}, &class_range::last);
  return at != all.end() && value >= at->first ? at->combining_class : 0;
}

void decompose(code_point value, std::vector<code_point>& out) {
  if (value >= hangul_syllable && value < hangul_syllable + leads * vowels * tails) {
    const code_point index = value - hangul_syllable;
    out.push_back(hangul_lead + index / (vowels * tails));
    out.push_back(hangul_vowel + index / tails % vowels);
    if (index % tails != 0)
      out.push_back(hangul_tail + index % tails);
    return;
  }
  const std::span all{decompositions, decompositions_count};
  const auto at = std::ranges::lower_bound(all, value, {}, &canonical_pair::composed);
  if (at == all.end() || at->composed != value) {
    out.push_back(value);
    return;
  }
  decompose(at->first, out);
  if (at->second != 0)
    decompose(at->second, out);
}

/// What `first` and `second` become together; 0 where they stay two.
code_point composed(code_point first, code_point second) {
  if (first >= hangul_lead && first < hangul_lead + leads && second >= hangul_vowel && second < hangul_vowel + vowels)
    return hangul_syllable + ((first - hangul_lead) * vowels + (second - hangul_vowel)) * tails;
  if (first >= hangul_syllable && first < hangul_syllable + leads * vowels * tails &&
      (first - hangul_syllable) % tails == 0 && second > hangul_tail && second < hangul_tail + tails)
    return first + (second - hangul_tail);
  const std::span all{compositions, compositions_count};
  const auto key = [](const canonical_pair& pair) { return std::pair{pair.first, pair.second}; };
  const auto at = std::ranges::lower_bound(all, std::pair{first, second}, {}, key);
  return at != all.end() && key(*at) == std::pair{first, second} ? at->composed : 0;
}

struct marked {
  code_point value;
  unsigned char combining_class;
};

std::vector<marked> ordered_decomposition(std::string_view text) {
  std::vector<code_point> apart;
  for (code_point value : decode(text))
    decompose(value, apart);
  std::vector<marked> out;
  out.reserve(apart.size());
  for (code_point value : apart)
    out.push_back({value, combining_class(value)});
  const auto is_starter = [](const marked& m) { return m.combining_class == 0; };
  for (auto from = out.begin(); from != out.end();) {
    const auto to = std::find_if(from + 1, out.end(), is_starter);
    std::stable_sort(is_starter(*from) ? from + 1 : from, to,
                     [](const marked& a, const marked& b) { return a.combining_class < b.combining_class; });
    from = to;
  }
  return out;
}

/// A mark joins the last starter unless a mark between them is of its class or a higher one.
void compose(std::vector<marked>& all) {
  std::size_t kept = 0;
  std::size_t starter = all.size();
  for (const marked& next : all) {
    const bool adjacent = starter + 1 == kept;
    if (starter < kept && (adjacent || all[kept - 1].combining_class < next.combining_class)) {
      if (const code_point both = composed(all[starter].value, next.value)) {
        all[starter].value = both;
        continue;
      }
    }
    if (next.combining_class == 0)
      starter = kept;
    all[kept++] = next;
  }
  all.resize(kept);
}

} // namespace

std::string nfc(std::string_view text) {
  const std::vector<code_point> values = decode(text);
  if (std::ranges::none_of(values, [](code_point v) { return v >= first_that_changes && v < stray; }))
    return std::string{text};
  std::vector<marked> all = ordered_decomposition(text);
  compose(all);
  std::string out;
  out.reserve(text.size());
  for (const marked& m : all)
    append_utf8(out, m.value);
  return out;
}

} // namespace troupe::gpu::models::unicode
