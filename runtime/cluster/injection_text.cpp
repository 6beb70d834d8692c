#include "runtime/cluster/injection_text.hpp"

#include <charconv>

#include <fmt/format.h>

#include "protocols/drill/injection_points.hpp"
#include "protocols/wire/edge_messages.hpp"
#include "runtime/cluster/key_makers.hpp"
#include "runtime/cluster/message_text.hpp"

namespace troupe::cluster {

using namespace protocols;

namespace {

constexpr std::uint64_t count_max = 1'000'000;
constexpr std::uint64_t hour_ms = 3'600'000;

std::vector<spec_key<written_rule>> make_keys() {
  using rule = written_rule;
  auto payload = entry<rule>("payload", "Of deliver: the message's bytes, hexadecimal.", TROUPE_FIELD(payload));
  payload.pattern = "^([0-9a-f]{2})*$";
  payload.pattern_in_words = "pairs of hexadecimal digits";
  auto fields = entry<rule>("fields", "Of deliver: instead of payload, its fields as a JSON list or object.",
                            TROUPE_FIELD(fields));
  fields.takes_json = true;
  return {
      required(entry<rule>("rank", "Who suffers it: a rank's label, or supervisor.", TROUPE_FIELD(rank))),
      required(choice<rule>("action", drill_action_names(), "What strikes.", TROUPE_FIELD(action))),
      choice<rule>("point", fault_point_names(), "Where it strikes, or what must be hit before it counts.",
                   TROUPE_FIELD(point)),
      whole<rule>("skip", {0, count_max}, "So many hits, frames or writes pass first.", TROUPE_FIELD(skip)),
      whole<rule>("times", {0, count_max}, "So many are struck; 0: all that follow.", TROUPE_FIELD(times)),
      whole<rule>("ms", {0, hour_ms}, "How long slow, delay and unread last.", TROUPE_FIELD(ms)),
      entry<rule>("peer", "Of frames and writes: with whom; a rank's label.", TROUPE_FIELD(peer)),
      choice<rule>("channel", {"control", "group", "tokens"}, "Of frames: on which channel of the edge.",
                   TROUPE_FIELD(channel)),
      entry<rule>("message", "Of frames: of which type. Of deliver: which message.", TROUPE_FIELD(message)),
      entry<rule>("source", "Of deliver: from which rank it seems to come.", TROUPE_FIELD(source)),
      std::move(payload),
      std::move(fields),
  };
}

result<rank_id> find_rank(const cluster_plan& plan, const std::string& label) {
  std::vector<std::string_view> labels;
  for (const auto& rank : plan.ranks) {
    if (rank.label == label)
      return rank.id;
    labels.push_back(rank.label);
  }
  return fail(fault::invalid_request, fmt::format("no rank is called '{}'{}", label, nearest_hint(label, labels)));
}

result<std::uint16_t> find_message(const std::string& wanted) {
  std::vector<std::string_view> names;
  for (std::uint16_t number = 0; number < 1000; ++number) {
    const auto known = name(static_cast<message_type>(number));
    if (known == wanted)
      return number;
    if (!known.empty())
      names.push_back(known);
  }
  return fail(fault::invalid_request, fmt::format("no message is called '{}'{}", wanted, nearest_hint(wanted, names)));
}

std::uint8_t channel_of(const std::string& channel) {
  if (channel == "control")
    return static_cast<std::uint8_t>(channel_kind::control);
  if (channel == "group")
    return static_cast<std::uint8_t>(channel_kind::group);
  return channel == "tokens" ? static_cast<std::uint8_t>(channel_kind::tokens) : std::uint8_t{0};
}

drill_action action_of(std::string_view wanted) {
  for (int number = 0; number < 256; ++number)
    if (const auto action = static_cast<drill_action>(number); is_valid(action) && name(action) == wanted)
      return action;
  return drill_action::kill; // the key's choices let no other name through
}

std::vector<std::byte> bytes_of_hex(std::string_view text) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    unsigned value = 0;
    std::from_chars(text.data() + i, text.data() + i + 2, value, 16);
    bytes.push_back(static_cast<std::byte>(value));
  }
  return bytes;
}

/// Where the part that begins at `begin` ends: at the next comma that stands in no bracket and no JSON string.
std::size_t end_of_part(std::string_view text, std::size_t begin) {
  std::size_t open = 0;
  bool quoted = false;
  for (auto at = begin; at < text.size(); ++at) {
    const char c = text[at];
    if (quoted) {
      at += c == '\\' ? 1 : 0;
      quoted = c != '"';
    } else if (c == '[' || c == '{') {
      ++open;
    } else if (open > 0 && (c == ']' || c == '}')) {
      --open;
    } else if (open > 0 && c == '"') {
      quoted = true;
    } else if (open == 0 && c == ',') {
      return at;
    }
  }
  return text.size();
}

/// "key=value,key=value" as the tree that the same JSON would give.
json_node tree_of(std::string_view text) {
  json_node tree;
  tree.kind = json_kind::object;
  tree.at = {1, 1};
  for (std::size_t begin = 0; begin <= text.size();) {
    const auto end = end_of_part(text, begin);
    const auto part = text.substr(begin, end - begin);
    const auto equals = std::min(part.find('='), part.size());
    json_member member;
    member.key = part.substr(0, equals);
    member.at = {1, static_cast<std::uint32_t>(begin + 1)};
    member.value.at = {1, static_cast<std::uint32_t>(begin + std::min(equals + 1, part.size()) + 1)};
    member.value.text = equals < part.size() ? part.substr(equals + 1) : std::string_view{};
    const auto* const last = member.value.text.data() + member.value.text.size();
    const auto number = std::from_chars(member.value.text.data(), last, member.value.whole);
    const bool is_number = number.ec == std::errc{} && number.ptr == last && member.key != "payload";
    member.value.kind = is_number ? json_kind::whole : json_kind::text;
    tree.members.push_back(std::move(member));
    begin = end + 1;
  }
  return tree;
}

} // namespace

const std::vector<spec_key<written_rule>>& rule_keys() {
  static const auto keys = make_keys();
  return keys;
}

result<inject> resolve_rule(const written_rule& rule, const cluster_plan& plan) {
  inject order;
  auto& out = order.rule;
  out.point = rule.point;
  out.action = action_of(rule.action);
  out.skip = rule.skip;
  out.times = rule.times;
  out.ms = rule.ms;
  out.channel = channel_of(rule.channel);
  out.payload = bytes_of_hex(rule.payload);
  if (rule.rank == "supervisor")
    order.rank = supervisor_rank;
  else if (auto rank = find_rank(plan, rule.rank))
    order.rank = *rank;
  else
    return tl::unexpected{rank.error()};
  for (const auto& [label, to] : {std::pair{&rule.peer, &out.peer}, {&rule.source, &out.source}}) {
    if (label->empty())
      continue;
    const auto rank = find_rank(plan, *label);
    if (!rank)
      return tl::unexpected{rank.error()};
    *to = *rank;
  }
  if (!rule.message.empty()) {
    const auto message = find_message(rule.message);
    if (!message)
      return tl::unexpected{message.error()};
    out.message = *message;
  }
  if (!rule.fields.empty()) {
    auto payload = payload_of_text(static_cast<message_type>(out.message), rule.fields);
    if (!payload)
      return tl::unexpected{payload.error()};
    out.payload = std::move(*payload);
  }
  if (auto judged = validate_rule(out); !judged)
    return tl::unexpected{judged.error()};
  return order;
}

result<written_rule> parse_rule(std::string_view text) {
  result<json_node> tree = text.starts_with('{') ? read_json(text) : tree_of(text);
  if (!tree)
    return fail(fault::config_invalid, fmt::format("rule:{}", tree.error().what));
  written_rule rule;
  key_reader reader{"rule"};
  reader.read_members(rule, rule_keys(), "", *tree);
  if (auto judged = reader.verdict(); !judged)
    return tl::unexpected{judged.error()};
  return rule;
}

} // namespace troupe::cluster
