#include "runtime/cluster/key_reader.hpp"

#include <regex>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "runtime/base/nearest.hpp"
#include "runtime/base/one_line.hpp"

namespace troupe::cluster {

using namespace protocols;

namespace {

constexpr std::size_t choices_listed_max = 8;

/// "one of a, b, not "x"", with the nearest where one is near; a long list only where none is.
std::string not_a_choice(std::string_view written, const std::vector<std::string_view>& choices) {
  const auto near = base::nearest(written, choices);
  const auto hint = near ? fmt::format("; did you mean '{}'?", *near) : std::string{};
  if (near && choices.size() > choices_listed_max)
    return fmt::format("not \"{}\"{}", shown(written), hint);
  return fmt::format("one of {}, not \"{}\"{}", fmt::join(choices, ", "), shown(written), hint);
}

} // namespace

std::string nearest_hint(std::string_view written, const std::vector<std::string_view>& candidates) {
  if (const auto near = base::nearest(written, candidates))
    return fmt::format("; did you mean '{}'?", *near);
  return fmt::format("; valid here: {}", fmt::join(candidates, ", "));
}

void key_reader::problem(text_place at, const std::string& text) {
  problems_.push_back(base::one_line(fmt::format("{}:{}:{}: {}", file_, at.line, at.column, text)));
}

result<void> key_reader::verdict() const {
  if (problems_.empty())
    return {};
  const auto shown = std::min(problems_.size(), problems_max);
  auto text =
      fmt::format("{}", fmt::join(problems_.begin(), problems_.begin() + static_cast<std::ptrdiff_t>(shown), "\n"));
  if (problems_.size() > shown)
    text += fmt::format("\n{}: and {} more", file_, problems_.size() - shown);
  return fail(fault::config_invalid, std::move(text));
}

bool key_reader::first_time(const std::string& path, text_place at) {
  const auto [earlier, fresh] = written_.try_emplace(path, at);
  if (!fresh)
    problem(at, fmt::format("'{}' is written twice, first in line {}", path, earlier->second.line));
  return fresh;
}

bool key_reader::is_object(const std::string& path, const json_node& node) {
  if (node.kind != json_kind::object)
    problem(node.at, fmt::format("{} is an object, not {}", path.empty() ? "this" : path, describe(node)));
  return node.kind == json_kind::object;
}

void key_reader::unknown(const std::string& path, const json_member& member,
                         const std::vector<std::string_view>& names) {
  problem(member.at, fmt::format("unknown key '{}'{}{}", shown(member.key), path.empty() ? "" : " in " + path,
                                 nearest_hint(member.key, names)));
}

std::optional<spec_value> key_reader::validate_value(const value_rule& rule, const std::string& path,
                                                     const json_node& node) {
  const auto wrong = [&](const std::string& expected) -> std::optional<spec_value> {
    problem(node.at, fmt::format("{} is {}, not {}", path, expected, describe(node)));
    return std::nullopt;
  };
  if (std::holds_alternative<bool>(rule.initial)) {
    if (node.kind != json_kind::truth)
      return wrong("true or false");
    return spec_value{node.truth};
  }
  if (std::holds_alternative<std::uint64_t>(rule.initial)) {
    if (node.kind != json_kind::whole || node.whole < rule.least || node.whole > rule.most)
      return wrong(rule.least == rule.most ? fmt::format("{} in this build", rule.least)
                                           : fmt::format("a whole number from {} to {}", rule.least, rule.most));
    return spec_value{node.whole};
  }
  if (rule.takes_json && (node.kind == json_kind::list || node.kind == json_kind::object))
    return spec_value{text_of(node)};
  if (node.kind != json_kind::text)
    return wrong(rule.takes_json ? "a list or an object" : "a text");
  if (!rule.choices.empty() && std::ranges::find(rule.choices, node.text) == rule.choices.end()) {
    problem(node.at, fmt::format("{} is {}", path, not_a_choice(node.text, rule.choices)));
    return std::nullopt;
  }
  if (!rule.pattern.empty() && !std::regex_match(node.text, std::regex{std::string{rule.pattern}}))
    return wrong(std::string{rule.pattern_in_words});
  return spec_value{node.text};
}

} // namespace troupe::cluster
