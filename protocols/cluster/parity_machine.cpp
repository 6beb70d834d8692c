#include "protocols/cluster/parity_machine.hpp"

#include <algorithm>
#include <set>
#include <string_view>

namespace troupe::protocols {

namespace {

/// Ranks that state the same value, in rank order.
struct camp {
  std::vector<std::string_view> lines; ///< of the value
  std::vector<std::string_view> labels;
};

constexpr std::size_t labels_shown_max = 8;

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

std::string join_labels(const std::vector<std::string_view>& labels) {
  std::string text;
  for (std::size_t i = 0; i < std::min(labels.size(), labels_shown_max); ++i)
    text.append(i == 0 ? "" : ", ").append(labels[i]);
  if (labels.size() > labels_shown_max)
    text += " and " + std::to_string(labels.size() - labels_shown_max) + " more";
  return text;
}

/// Of a value of many lines, such as the list of groups, only the first line that differs is shown.
std::string describe(std::string_view key, const std::vector<camp>& camps) {
  const auto& first = camps.front().lines;
  auto line = first.size();
  std::size_t longest = 0;
  for (const auto& other : camps) {
    const auto differs_at = std::ranges::mismatch(first, other.lines).in1 - first.begin();
    if (&other != &camps.front())
      line = std::min(line, static_cast<std::size_t>(differs_at));
    longest = std::max(longest, other.lines.size());
  }

  std::string text = "the ranks do not agree on " + std::string{key};
  if (longest > 1)
    text += ", line " + std::to_string(line + 1);
  text += ':';
  for (const auto& one : camps) {
    const auto value = line < one.lines.size() ? std::string{one.lines[line]} : "(nothing)";
    text += "\n  " + value + "  <- " + join_labels(one.labels);
  }
  return text;
}

} // namespace

parity_machine::parity_machine(std::vector<std::string> labels)
    : labels_(std::move(labels)), statements_(labels_.size()), missing_(labels_.size()) {}

result<std::optional<verdict>> parity_machine::on_agree(rank_id from, const agree& statement) {
  const keeps_invariants checked{*this, from};
  if (from.value >= statements_.size())
    return fail(fault::bad_value, "rank " + std::to_string(from.value) + " of " + std::to_string(statements_.size()));
  if (has_stated(from))
    return fail(fault::illegal_transition, labels_[from.value] + " states its facts twice");
  std::set<std::string_view> keys;
  for (const auto& fact : statement.facts)
    if (!keys.insert(fact.key).second)
      return fail(fault::bad_value, labels_[from.value] + " states " + fact.key + " twice");

  statements_[from.value] = statement.facts;
  --missing_;
  if (missing_ > 0)
    return std::optional<verdict>{};
  return judge();
}

void parity_machine::forget(rank_id rank) {
  const keeps_invariants checked{*this, rank};
  auto& statement = statements_.at(rank.value);
  missing_ += statement ? 1 : 0;
  statement.reset();
}

verdict parity_machine::judge() const {
  // Keys are judged in the order in which ranks name them: the most fundamental is named first and shown first.
  std::set<std::string_view> judged;
  for (const auto& statement : statements_)
    for (const auto& [key, value] : *statement) {
      if (!judged.insert(key).second)
        continue;
      std::vector<std::string_view> values;
      std::vector<camp> camps;
      for (std::size_t rank = 0; rank < statements_.size(); ++rank) {
        const auto fact = std::ranges::find(*statements_[rank], key, &parity_fact::key);
        if (fact == statements_[rank]->end())
          continue;
        const auto known = std::ranges::find(values, fact->value);
        const auto place = static_cast<std::size_t>(known - values.begin());
        if (known == values.end()) {
          values.emplace_back(fact->value);
          camps.push_back({lines_of(fact->value), {}});
        }
        camps[place].labels.emplace_back(labels_[rank]);
      }
      if (camps.size() > 1)
        return {.agreed = false, .difference = describe(key, camps)};
    }
  return {.agreed = true, .difference = {}};
}

void parity_machine::check_invariants() const {
  TROUPE_ASSERT("B13", statements_.size() == labels_.size());
  const auto missing = std::ranges::count_if(statements_, [](const auto& each) { return !each; });
  TROUPE_ASSERT("B13", static_cast<std::size_t>(missing) == missing_);
}

} // namespace troupe::protocols
