#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/fault.hpp"
#include "runtime/cluster/json_text.hpp"
#include "runtime/cluster/spec_keys.hpp"

namespace troupe::cluster {

/// "; did you mean 'x'?" where a candidate is near, "; valid here: a, b" otherwise.
std::string nearest_hint(std::string_view written, const std::vector<std::string_view>& candidates);

/// Walks a JSON tree along tables of keys, sets fields, and collects everything that is wrong, with line and column.
class key_reader {
public:
  static constexpr std::size_t problems_max = 20;

  /// `file` is what problems call the text.
  explicit key_reader(std::string file) : file_(std::move(file)) {}

  void problem(text_place at, const std::string& text);
  /// A problem whose place is part of its text.
  void problem(std::string text) { problems_.push_back(std::move(text)); }
  /// Errors: config_invalid with a line a problem, at most `problems_max` and then how many more.
  protocols::result<void> verdict() const;

  /// Notes where the key stands. False: it was there already, which is a problem.
  bool first_time(const std::string& path, text_place at);
  bool was_written(const std::string& path) const { return written_.contains(path); }
  const std::map<std::string, text_place>& written() const noexcept { return written_; }
  bool has_problems() const noexcept { return !problems_.empty(); }

  bool is_object(const std::string& path, const json_node& node);

  /// A member that stands in no table.
  struct section {
    std::string_view name;
    std::string_view required; ///< what it is, said when it is missing; empty: it may be
    std::function<void(const std::string& path, const json_node& value)> read;
  };

  /// Every member of an object by its key; what is required and not there is a problem.
  template <class Owner>
  void read_members(Owner& owner, const std::vector<spec_key<Owner>>& keys, const std::string& path,
                    const json_node& of, const std::vector<section>& sections = {});

private:
  struct value_rule {
    const spec_value& initial;
    std::uint64_t least;
    std::uint64_t most;
    const std::vector<std::string_view>& choices;
    std::string_view pattern;
    std::string_view pattern_in_words;
    bool takes_json;
  };
  std::optional<spec_value> validate_value(const value_rule& rule, const std::string& path, const json_node& node);
  void unknown(const std::string& path, const json_member& member, const std::vector<std::string_view>& names);

  std::string file_;
  std::vector<std::string> problems_;
  std::map<std::string, text_place> written_;
};

template <class Owner>
void key_reader::read_members(Owner& owner, const std::vector<spec_key<Owner>>& keys, const std::string& path,
                              const json_node& of, const std::vector<section>& sections) {
  if (!is_object(path, of))
    return;
  for (const auto& member : of.members) {
    const auto full = path_of(path, member.key);
    const auto key = std::ranges::find(keys, member.key, &spec_key<Owner>::name);
    const auto part = std::ranges::find(sections, member.key, &section::name);
    if (key == keys.end() && part == sections.end()) {
      std::vector<std::string_view> names;
      std::ranges::transform(keys, std::back_inserter(names), &spec_key<Owner>::name);
      std::ranges::transform(sections, std::back_inserter(names), &section::name);
      unknown(path, member, names);
    } else if (!first_time(full, member.at)) {
      continue;
    } else if (part != sections.end()) {
      part->read(full, member.value);
    } else if (const auto value = validate_value({key->initial, key->least, key->most, key->choices, key->pattern,
                                                  key->pattern_in_words, key->takes_json},
                                                 full, member.value)) {
      key->set(owner, *value);
    }
  }
  for (const auto& key : keys)
    if (key.required && !was_written(path_of(path, key.name)))
      problem(of.at, "'" + path_of(path, key.name) + "' is missing: " + std::string{key.description});
  for (const auto& part : sections)
    if (!part.required.empty() && !was_written(path_of(path, part.name)))
      problem(of.at, "'" + path_of(path, part.name) + "' is missing: " + std::string{part.required});
}

} // namespace troupe::cluster
