#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "protocols/cluster/cluster_spec.hpp"

/// The one table of what a spec may say: the reader, the JSON Schema, the effective form and `explain` walk it, so
/// they cannot differ.
namespace troupe::cluster {

inline constexpr std::uint64_t spec_version = 1;

using spec_value = std::variant<std::string, std::uint64_t, bool>;

/// One key and the field that it sets. A text with `choices` takes only these; a text with `pattern` only what
/// matches it (ECMAScript, which JSON Schema uses too).
template <class Owner>
struct spec_key {
  std::string_view name;
  std::string_view description; ///< one sentence, with its unit
  spec_value initial;           ///< its alternative is the key's type
  bool required = false;
  std::uint64_t least = 0; ///< of a whole number
  std::uint64_t most = 0;
  std::vector<std::string_view> choices;
  std::string_view pattern;
  std::string_view pattern_in_words;
  bool takes_json = false;       ///< of a text: a list or an object is taken too, as its JSON
  std::string_view program = {}; ///< the only one that reads it; empty: every one does
  std::function<void(Owner&, const spec_value&)> set;
  std::function<spec_value(const Owner&)> get;
};

using cluster_key = spec_key<protocols::cluster_spec>;
using pool_key = spec_key<protocols::pool_spec>;

struct spec_section {
  std::string_view name; ///< empty: keys of the spec itself
  std::string_view description;
  std::vector<cluster_key> keys;
  std::string_view program = {}; ///< whose settings they are; empty: a part of every spec
};

template <class Owner>
bool is_of(const spec_key<Owner>& key, std::string_view program) {
  return key.program.empty() || key.program == program;
}

/// Whether a spec of this program has the section.
inline bool is_of(const spec_section& section, const protocols::cluster_spec& spec) {
  return section.program.empty() || section.program == spec.program;
}

/// In the order in which the effective form is written; `pools` stands beside them.
const std::vector<spec_section>& spec_sections();
const std::vector<pool_key>& pool_keys();

/// A job's name is a folder's, and part of socket paths.
inline constexpr std::string_view job_name_pattern = "^[a-z0-9][a-z0-9._-]{0,39}$";
inline constexpr std::string_view job_name_in_words =
    "a small letter or digit, then up to 39 small letters, digits, ., _ or -";

inline constexpr std::string_view pools_description = "Pool names with their cells; ranks are numbered in the order "
                                                      "written.";
inline constexpr std::string_view pool_name_pattern = "^[a-z][a-z0-9_-]{0,31}$";
inline constexpr std::string_view pool_name_in_words = "a small letter, then up to 31 small letters, digits, _ or -";

/// "limits.kv_tokens_max", or the key alone for the spec's own.
std::string path_of(std::string_view section, std::string_view key);

} // namespace troupe::cluster
