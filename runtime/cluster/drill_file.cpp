#include "runtime/cluster/drill_file.hpp"

#include <fmt/format.h>

#include "runtime/base/one_line.hpp"
#include "runtime/cluster/key_makers.hpp"
#include "runtime/cluster/key_reader.hpp"

namespace troupe::cluster {

using namespace protocols;

namespace {

constexpr std::uint64_t drill_version = 1;
constexpr std::uint64_t hour_ms = 3'600'000;
constexpr std::size_t events_max = 64;
constexpr std::size_t acts_max = 256;
constexpr std::size_t pages_max = 1024;

const std::vector<spec_key<drill>>& drill_keys() {
  static const auto keys = [] {
    std::vector<spec_key<drill>> made{
        required(entry<drill>("name", "What reports call it.", TROUPE_FIELD(name))),
        entry<drill>("sentence", "What it shows.", TROUPE_FIELD(sentence)),
        whole<drill>("deadline_ms", {1, hour_ms}, "Of the whole drill.", TROUPE_FIELD(deadline_ms))};
    made.front().pattern = job_name_pattern;
    made.front().pattern_in_words = job_name_in_words;
    return made;
  }();
  return keys;
}

const std::vector<spec_key<drill::load_section>>& load_keys() {
  using load = drill::load_section;
  static const std::vector<spec_key<load>> keys{
      required(entry<load>("pages", "A file of questions with their answers.", TROUPE_FIELD(pages))),
      whole<load>("repeat", {1, 100'000}, "How often each page is asked.", TROUPE_FIELD(repeat)),
      whole<load>("concurrency", {1, 1024}, "Questions in flight.", TROUPE_FIELD(concurrency)),
      whole<load>("after_ms", {0, hour_ms}, "So long after ready.", TROUPE_FIELD(after_ms)),
      named<load, drill_end>(
          "end", {{"drain", drill_end::drain}, {"drain_early", drill_end::drain_early}, {"kill", drill_end::kill}},
          "How a cluster that has not ended is ended.", TROUPE_FIELD(end))};
  return keys;
}

const std::vector<spec_key<drill::expect_section>>& expect_keys() {
  using expect = drill::expect_section;
  static const std::vector<spec_key<expect>> keys{
      required(named<expect, drill_outcome>("outcome",
                                            {{"served", drill_outcome::served},
                                             {"recovered", drill_outcome::recovered},
                                             {"ended", drill_outcome::ended},
                                             {"killed", drill_outcome::killed},
                                             {"settled", drill_outcome::settled}},
                                            "What must be seen.", TROUPE_FIELD(outcome))),
      whole<expect>("exit_code", {0, 255}, "Of an ended cluster.", TROUPE_FIELD(exit_code)),
      entry<expect>("cause", "What the last line must name.", TROUPE_FIELD(cause)),
      whole<expect>("failed_max", {0, 1'000'000}, "So many requests may end as failed.", TROUPE_FIELD(failed_max)),
      whole<expect>("detect_ms", {0, hour_ms}, "Until the supervisor knows; 0: not judged.", TROUPE_FIELD(detect_ms)),
      whole<expect>("over_ms", {0, hour_ms}, "Until all have left or serve again; 0: not judged.",
                    TROUPE_FIELD(over_ms))};
  return keys;
}

/// Adds the keys of a rule that stand beside its owner's own.
template <class Owner>
void add_rule_keys(std::vector<spec_key<Owner>>& keys, bool required) {
  for (const auto& of_rule : rule_keys()) {
    spec_key<Owner> key;
    key.name = of_rule.name;
    key.description = of_rule.description;
    key.initial = of_rule.initial;
    key.required = of_rule.required && required;
    key.least = of_rule.least;
    key.most = of_rule.most;
    key.choices = of_rule.choices;
    key.pattern = of_rule.pattern;
    key.pattern_in_words = of_rule.pattern_in_words;
    key.takes_json = of_rule.takes_json;
    key.set = [set = of_rule.set](Owner& owner, const spec_value& value) { set(owner.rule, value); };
    key.get = [get = of_rule.get](const Owner& owner) { return get(owner.rule); };
    keys.push_back(std::move(key));
  }
}

std::vector<spec_key<drill_event>> event_keys() {
  using event = drill_event;
  std::vector<spec_key<event>> keys{
      required(named<event, drill_moment>(
          "when", {{"launch", drill_moment::launch}, {"ready", drill_moment::ready}, {"load", drill_moment::load}},
          "When the rule is handed in.", TROUPE_FIELD(when))),
      whole<event>("after_ms", {0, hour_ms}, "So much later.", TROUPE_FIELD(after_ms))};
  add_rule_keys(keys, true);
  return keys;
}

std::vector<spec_key<drill_act>> act_keys() {
  using act = drill_act;
  std::vector<spec_key<act>> keys{
      required(named<act, scene_act>("act",
                                     {{"ask", scene_act::ask},
                                      {"leave", scene_act::leave},
                                      {"cancel", scene_act::cancel},
                                      {"inject", scene_act::inject},
                                      {"until_token", scene_act::until_token},
                                      {"until_struck", scene_act::until_struck},
                                      {"until_recovered", scene_act::until_recovered},
                                      {"until_answered", scene_act::until_answered}},
                                     "What happens.", TROUPE_FIELD(act))),
      whole<act>("after_ms", {0, hour_ms}, "So long after the act before it.", TROUPE_FIELD(after_ms)),
      whole<act>("client", {1, 64}, "Who does it.", TROUPE_FIELD(client)),
      whole<act>("page", {0, pages_max - 1}, "Which page is asked.", TROUPE_FIELD(page))};
  add_rule_keys(keys, false);
  return keys;
}

/// What the keys of one act alone cannot say.
void validate_act(key_reader& reader, const std::string& path, text_place at, const drill_act& act) {
  if (act.act == scene_act::inject && (act.rule.rank.empty() || act.rule.action.empty()))
    reader.problem(at, path + " injects: 'rank' and 'action' say what");
}

result<std::string> read_text(const std::filesystem::path& file) {
  auto text = read_document(file);
  if (!text)
    return fail(fault::config_invalid,
                fmt::format("cannot read {}: {}", base::one_line(file.string()), text.error().what));
  return text;
}

result<json_node> read_tree(std::string_view text, const std::filesystem::path& file) {
  auto tree = read_json(text);
  if (!tree)
    return fail(fault::config_invalid, fmt::format("{}:{}", file.string(), tree.error().what));
  return tree;
}

/// Calls `read` with each element of a list. A list that is none, or too long, is a problem.
template <class Read>
void read_list(key_reader& reader, const std::string& path, const json_node& node, std::size_t most, Read read) {
  if (node.kind != json_kind::list || node.elements.size() > most)
    return reader.problem(node.at,
                          fmt::format("{} is a list of at most {} elements, not {}", path, most, describe(node)));
  for (std::size_t i = 0; i < node.elements.size(); ++i)
    read(fmt::format("{}[{}]", path, i), node.elements[i]);
}

std::filesystem::path beside(const std::filesystem::path& file, const std::string& path) {
  return (std::filesystem::absolute(file).parent_path() / path).lexically_normal();
}

void read_spec_path(key_reader& reader, const std::filesystem::path& file, const json_node& node, drill& out) {
  if (node.kind != json_kind::text || node.text.empty())
    return reader.problem(node.at, "spec is a path, relative to this file, not " + describe(node));
  out.spec = beside(file, node.text);
}

} // namespace

std::string_view name(drill_outcome outcome) noexcept {
  switch (outcome) {
  case drill_outcome::served:
    return "served";
  case drill_outcome::recovered:
    return "recovered";
  case drill_outcome::ended:
    return "ended";
  case drill_outcome::killed:
    return "killed";
  case drill_outcome::settled:
    return "settled";
  }
  return {};
}

result<std::vector<drill_page>> read_drill_pages(const std::filesystem::path& file) {
  const auto text = read_text(file);
  if (!text)
    return tl::unexpected{text.error()};
  const auto tree = read_tree(*text, file);
  if (!tree)
    return tl::unexpected{tree.error()};
  struct written_page {
    std::string image;
    std::string prompt;
  };
  static const std::vector<spec_key<written_page>> keys{
      entry<written_page>("image", "A picture, relative to this file.", TROUPE_FIELD(image)),
      required(entry<written_page>("prompt", "What is asked.", TROUPE_FIELD(prompt)))};
  std::vector<drill_page> pages;
  key_reader reader{file.string()};
  read_list(reader, "this", *tree, pages_max, [&](const std::string& path, const json_node& node) {
    written_page written;
    drill_page page;
    const auto read_answer = [&](const std::string& at, const json_node& ids) {
      read_list(reader, at, ids, json_bytes_max, [&](const std::string& where, const json_node& id) {
        if (id.kind != json_kind::whole || id.whole > std::numeric_limits<token_id>::max())
          return reader.problem(id.at, where + " is a token id, not " + describe(id));
        page.answer.push_back(static_cast<token_id>(id.whole));
      });
    };
    reader.read_members(written, keys, path, node, {{.name = "answer", .required = {}, .read = read_answer}});
    page.prompt = written.prompt;
    if (!written.image.empty())
      page.image = beside(file, written.image);
    pages.push_back(std::move(page));
  });
  if (auto judged = reader.verdict(); !judged)
    return tl::unexpected{judged.error()};
  if (pages.empty())
    return fail(fault::config_invalid, file.string() + ": no page");
  return pages;
}

result<drill> read_drill_text(std::string_view text, const std::filesystem::path& file) {
  const auto tree = read_tree(text, file);
  if (!tree)
    return tl::unexpected{tree.error()};
  drill out;
  key_reader reader{file.string()};
  const auto keys_of_events = event_keys();
  const auto keys_of_acts = act_keys();
  const std::vector<key_reader::section> sections{
      {.name = "drill",
       .required = "the version of its form, 1",
       .read =
           [&](const std::string&, const json_node& node) {
             if (node.kind != json_kind::whole || node.whole != drill_version)
               reader.problem(node.at, fmt::format("drill is {} in this build, not {}", drill_version, describe(node)));
           }},
      {.name = "spec",
       .required = "a cluster spec whose drills are on",
       .read = [&](const std::string&, const json_node& node) { read_spec_path(reader, file, node, out); }},
      {.name = "load",
       .required = "what the cluster is asked",
       .read = [&](const std::string& path,
                   const json_node& node) { reader.read_members(out.load, load_keys(), path, node); }},
      {.name = "events",
       .required = "what strikes",
       .read =
           [&](const std::string& path, const json_node& node) {
             read_list(reader, path, node, events_max, [&](const std::string& at, const json_node& one) {
               reader.read_members(out.events.emplace_back(), keys_of_events, at, one);
             });
           }},
      {.name = "scene",
       .required = {},
       .read =
           [&](const std::string& path, const json_node& node) {
             read_list(reader, path, node, acts_max, [&](const std::string& at, const json_node& one) {
               auto& act = out.scene.emplace_back();
               reader.read_members(act, keys_of_acts, at, one);
               validate_act(reader, at, one.at, act);
             });
           }},
      {.name = "expect", .required = "what must be seen", .read = [&](const std::string& path, const json_node& node) {
         reader.read_members(out.expect, expect_keys(), path, node);
       }}};
  reader.read_members(out, drill_keys(), "", *tree, sections);
  if (auto judged = reader.verdict(); !judged)
    return tl::unexpected{judged.error()};
  auto pages = read_drill_pages(beside(file, out.load.pages));
  if (!pages)
    return tl::unexpected{pages.error()};
  out.pages = std::move(*pages);
  for (const auto& act : out.scene)
    if (act.act == scene_act::ask && act.page >= out.pages.size())
      return fail(fault::config_invalid, fmt::format("{}: the scene asks page {}; there are {}, from 0", file.string(),
                                                     act.page, out.pages.size()));
  return out;
}

result<drill> read_drill(const std::filesystem::path& file) {
  const auto text = read_text(file);
  if (!text)
    return tl::unexpected{text.error()};
  return read_drill_text(*text, file);
}

} // namespace troupe::cluster
