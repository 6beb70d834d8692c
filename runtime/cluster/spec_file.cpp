#include "runtime/cluster/spec_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <regex>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "runtime/base/digest.hpp"
#include "runtime/base/nearest.hpp"
#include "runtime/cluster/spec_keys.hpp"
#include "runtime/cluster/spec_rules.hpp"

namespace troupe::cluster {
namespace {

using protocols::cluster_spec;
using protocols::fail;
using protocols::fault;
using protocols::pool_spec;
using protocols::result;

/// "; did you mean 'x'?" where a candidate is near, "; valid here: a, b" otherwise.
std::string hint(std::string_view written, const std::vector<std::string_view>& candidates) {
  if (const auto near = base::nearest(written, candidates))
    return fmt::format("; did you mean '{}'?", *near);
  return fmt::format("; valid here: {}", fmt::join(candidates, ", "));
}

/// Walks the tree along the table of keys, sets fields, and collects what is wrong.
class spec_reader {
public:
  explicit spec_reader(const std::filesystem::path& file) { loaded_.file = file; }

  result<loaded_spec> read(std::string_view text) {
    const auto tree = read_json(text);
    if (!tree)
      return fail(fault::config_invalid, fmt::format("{}:{}", loaded_.file.string(), tree.error().what));
    if (tree->kind != json_kind::object) {
      problem(tree->at, fmt::format("a spec is an object, not {}", describe(*tree)));
      return report();
    }
    read_root(*tree);
    if (problems_.empty()) // relations between values that were not read would only mislead
      read_rules();
    if (!problems_.empty())
      return report();
    loaded_.effective_json = effective_json(loaded_.spec);
    loaded_.digest = digest_of(loaded_.effective_json);
    return std::move(loaded_);
  }

private:
  void problem(text_place at, const std::string& text) {
    problems_.push_back(fmt::format("{}:{}:{}: {}", loaded_.file.string(), at.line, at.column, text));
  }

  result<loaded_spec> report() const {
    auto text = fmt::format(
        "{}", fmt::join(problems_.begin(),
                        problems_.begin() + static_cast<std::ptrdiff_t>(std::min(problems_.size(), spec_problems_max)),
                        "\n"));
    if (problems_.size() > spec_problems_max)
      text += fmt::format("\n{}: and {} more", loaded_.file.string(), problems_.size() - spec_problems_max);
    return fail(fault::config_invalid, std::move(text));
  }

  /// Notes where the key stands. False: it was there already.
  bool first_time(const std::string& path, text_place at) {
    const auto [earlier, fresh] = loaded_.written.try_emplace(path, at);
    if (!fresh)
      problem(at, fmt::format("'{}' is written twice, first in line {}", path, earlier->second.line));
    return fresh;
  }

  bool is_object(const std::string& path, const json_node& node) {
    if (node.kind != json_kind::object)
      problem(node.at, fmt::format("{} is an object, not {}", path, describe(node)));
    return node.kind == json_kind::object;
  }

  void read_root(const json_node& root) {
    const auto& sections = spec_sections();
    const auto& own = *std::ranges::find(sections, std::string_view{}, &spec_section::name);
    for (const auto& member : root.members) {
      if (!first_time(member.key, member.at))
        continue;
      const auto section = std::ranges::find(sections, member.key, &spec_section::name);
      if (const auto key = std::ranges::find(own.keys, member.key, &cluster_key::name); key != own.keys.end())
        read_value(loaded_.spec, *key, member.key, member.value);
      else if (section != sections.end() && !member.key.empty())
        read_members(loaded_.spec, section->keys, member.key, member);
      else if (member.key == "pools")
        read_pools(member);
      else
        unknown_in_root(member);
    }
    require(own.keys, "", root.at);
    if (!loaded_.written.contains("pools"))
      problem(root.at, "'pools' is missing: " + std::string{pools_description});
    resolve_model_path();
  }

  void unknown_in_root(const json_member& member) {
    std::vector<std::string_view> names;
    for (const auto& section : spec_sections()) {
      if (!section.name.empty())
        names.push_back(section.name);
      else
        for (const auto& key : section.keys)
          names.push_back(key.name);
    }
    names.push_back("pools");
    problem(member.at, fmt::format("unknown key '{}'{}", member.key, hint(member.key, names)));
  }

  template <class Owner>
  void read_members(Owner& owner, const std::vector<spec_key<Owner>>& keys, const std::string& path,
                    const json_member& of) {
    if (!is_object(path, of.value))
      return;
    for (const auto& member : of.value.members) {
      const auto full = path_of(path, member.key);
      const auto key = std::ranges::find(keys, member.key, &spec_key<Owner>::name);
      if (key == keys.end()) {
        std::vector<std::string_view> names;
        std::ranges::transform(keys, std::back_inserter(names), &spec_key<Owner>::name);
        problem(member.at, fmt::format("unknown key '{}' in {}{}", member.key, path, hint(member.key, names)));
      } else if (first_time(full, member.at)) {
        read_value(owner, *key, full, member.value);
      }
    }
    require(keys, path, of.at);
  }

  template <class Owner>
  void require(const std::vector<spec_key<Owner>>& keys, const std::string& path, text_place at) {
    for (const auto& key : keys)
      if (key.required && !loaded_.written.contains(path_of(path, key.name)))
        problem(at, fmt::format("'{}' is missing: {}", path_of(path, key.name), key.description));
  }

  void read_pools(const json_member& of) {
    if (!is_object("pools", of.value))
      return;
    static const std::regex name_form{std::string{pool_name_pattern}};
    for (const auto& member : of.value.members) {
      const auto path = path_of("pools", member.key);
      if (!first_time(path, member.at))
        continue;
      if (!std::regex_match(member.key, name_form))
        problem(member.at, fmt::format("a pool's name is {}, not '{}'", pool_name_in_words, member.key));
      auto& pool = loaded_.spec.pools.emplace_back();
      pool.name = member.key;
      read_members(pool, pool_keys(), path, member);
    }
  }

  template <class Owner>
  void read_value(Owner& owner, const spec_key<Owner>& key, const std::string& path, const json_node& node) {
    if (const auto value = judge_value(key, path, node))
      key.set(owner, *value);
  }

  template <class Owner>
  std::optional<spec_value> judge_value(const spec_key<Owner>& key, const std::string& path, const json_node& node) {
    const auto wrong = [&](const std::string& expected) -> std::optional<spec_value> {
      problem(node.at, fmt::format("{} is {}, not {}", path, expected, describe(node)));
      return std::nullopt;
    };
    if (std::holds_alternative<bool>(key.initial)) {
      if (node.kind != json_kind::truth)
        return wrong("true or false");
      return spec_value{node.truth};
    }
    if (std::holds_alternative<std::uint64_t>(key.initial)) {
      if (node.kind != json_kind::whole || node.whole < key.least || node.whole > key.most)
        return wrong(key.least == key.most ? fmt::format("{} in this build", key.least)
                                           : fmt::format("a whole number from {} to {}", key.least, key.most));
      return spec_value{node.whole};
    }
    if (node.kind != json_kind::text)
      return wrong("a text");
    if (path == "device" && node.text.starts_with("cuda")) {
      problem(node.at, fmt::format("device \"{}\": no CUDA plug-in in this build; valid here: cpu", node.text));
      return std::nullopt;
    }
    if (!key.choices.empty() && std::ranges::find(key.choices, node.text) == key.choices.end()) {
      problem(node.at, fmt::format("{} is one of {}, not \"{}\"", path, fmt::join(key.choices, ", "), node.text));
      return std::nullopt;
    }
    if (!key.pattern.empty() && !std::regex_match(node.text, std::regex{std::string{key.pattern}}))
      return wrong(std::string{key.pattern_in_words});
    return spec_value{node.text};
  }

  void resolve_model_path() {
    auto& path = loaded_.spec.model_path;
    if (path.empty())
      return;
    const auto folder = std::filesystem::absolute(loaded_.file).parent_path();
    path = (folder / path).lexically_normal().string();
    if (path.size() > 1 && path.back() == '/')
      path.pop_back();
  }

  void read_rules() {
    for (const auto& broken : judge_spec(loaded_.spec))
      problems_.push_back(fmt::format("{}: {} [{}]", loaded_.where(broken.key), broken.text, broken.rule));
  }

  loaded_spec loaded_;
  std::vector<std::string> problems_;
};

template <class Owner>
nlohmann::ordered_json values_of(const Owner& owner, const std::vector<spec_key<Owner>>& keys) {
  auto values = nlohmann::ordered_json::object();
  for (const auto& key : keys)
    std::visit([&](const auto& value) { values[std::string{key.name}] = value; }, key.get(owner));
  return values;
}

} // namespace

std::string loaded_spec::where(const std::string& key) const {
  // A default is explained by the nearest thing that was written: its section.
  for (auto path = key; !path.empty(); path = path.substr(0, path.rfind('.') == path.npos ? 0 : path.rfind('.')))
    if (const auto at = written.find(path); at != written.end())
      return fmt::format("{}:{}:{}", file.string(), at->second.line, at->second.column);
  return file.string();
}

result<loaded_spec> read_spec_text(std::string_view text, const std::filesystem::path& file) {
  return spec_reader{file}.read(text);
}

result<loaded_spec> read_spec(const std::filesystem::path& file) {
  std::ifstream in{file, std::ios::binary};
  if (!in)
    return fail(fault::config_invalid, fmt::format("cannot read {}: {}", file.string(), std::strerror(errno)));
  if (std::filesystem::is_directory(file))
    return fail(fault::config_invalid, fmt::format("cannot read {}: it is a directory", file.string()));
  std::string text(json_bytes_max + 1, '\0'); // one more than is allowed, so that too long is seen
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  return read_spec_text(text, file);
}

result<cluster_spec> parse_effective_spec(std::string_view json) {
  return read_spec_text(json, "/effective spec").map([](auto&& loaded) { return std::move(loaded.spec); });
}

std::string effective_json(const cluster_spec& spec) {
  auto json = nlohmann::ordered_json::object();
  for (const auto& section : spec_sections()) {
    const auto values = values_of(spec, section.keys);
    if (section.name.empty())
      json.update(values);
    else
      json[std::string{section.name}] = values;
  }
  auto& pools = json["pools"] = nlohmann::ordered_json::object();
  for (const auto& pool : spec.pools)
    pools[pool.name] = values_of(pool, pool_keys());
  return json.dump(2);
}

std::string digest_of(std::string_view effective_json) {
  return base::hex(base::digest(std::as_bytes(std::span{effective_json})));
}

} // namespace troupe::cluster
