#include "runtime/cluster/spec_file.hpp"

#include <algorithm>
#include <regex>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "runtime/base/digest.hpp"
#include "runtime/base/one_line.hpp"
#include "runtime/cluster/key_reader.hpp"
#include "runtime/cluster/spec_keys.hpp"
#include "runtime/cluster/spec_rules.hpp"

namespace troupe::cluster {
namespace {

using protocols::cluster_spec;
using protocols::fail;
using protocols::fault;
using protocols::result;

/// Walks the tree along the table of keys, sets fields, and collects what is wrong.
class spec_reader {
public:
  explicit spec_reader(const std::filesystem::path& file) : keys_(file.string()) { loaded_.file = file; }

  result<loaded_spec> read(std::string_view text) {
    const auto tree = read_json(text);
    if (!tree)
      return fail(fault::config_invalid, fmt::format("{}:{}", loaded_.file.string(), tree.error().what));
    if (tree->kind == json_kind::object)
      read_root(*tree);
    else
      keys_.problem(tree->at, fmt::format("a spec is an object, not {}", describe(*tree)));
    loaded_.written = keys_.written();
    if (!keys_.has_problems()) // relations between values that were not read would only mislead
      read_rules();
    if (const auto judged = keys_.verdict(); !judged)
      return tl::unexpected{judged.error()};
    loaded_.effective_json = effective_json(loaded_.spec);
    loaded_.digest = digest_of(loaded_.effective_json);
    return std::move(loaded_);
  }

private:
  void read_root(const json_node& root) {
    const auto& tables = spec_sections();
    const auto& own = *std::ranges::find(tables, std::string_view{}, &spec_section::name);
    std::vector<key_reader::section> sections;
    for (const auto& table : tables)
      if (!table.name.empty())
        sections.push_back({table.name, {}, [&](const std::string& path, const json_node& node) {
                              if (table.name == "http" && node.kind == json_kind::null)
                                loaded_.spec.http.listen.clear();
                              else
                                keys_.read_members(loaded_.spec, table.keys, path, node);
                            }});
    sections.push_back(
        {"pools", pools_description, [&](const std::string& path, const json_node& node) { read_pools(path, node); }});
    keys_.read_members(loaded_.spec, own.keys, "", root, sections);
    resolve_model_path();
    auto& http = loaded_.spec.http;
    for (auto* const file : {&http.key_file, &http.certificate_file, &http.private_key_file})
      resolve_path(*file, "file");
  }

  void read_pools(const std::string& path, const json_node& of) {
    if (!keys_.is_object(path, of))
      return;
    static const std::regex name_form{std::string{pool_name_pattern}};
    for (const auto& member : of.members) {
      const auto full = path_of(path, shown(member.key));
      if (!keys_.first_time(full, member.at))
        continue;
      if (!std::regex_match(member.key, name_form))
        keys_.problem(member.at, fmt::format("a pool's name is {}, not '{}'", pool_name_in_words, shown(member.key)));
      auto& pool = loaded_.spec.pools.emplace_back();
      pool.name = member.key;
      keys_.read_members(pool, pool_keys(), full, member.value);
    }
  }

  void resolve_model_path() {
    auto& path = loaded_.spec.model_path;
    resolve_path(path, "model's folder");
    if (path.size() > 1 && path.back() == '/')
      path.pop_back();
  }

  /// Relative to the spec's file.
  void resolve_path(std::string& path, std::string_view what) {
    if (path.empty())
      return;
    std::error_code problem; // the folder that we are in may be gone
    const auto folder = std::filesystem::absolute(loaded_.file, problem).parent_path();
    if (problem)
      return keys_.problem(fmt::format("{}: cannot be found: {}", loaded_.file.string(), problem.message()));
    path = (folder / path).lexically_normal().string();
    if (!is_utf8(path)) // the ranks get the spec as JSON
      return keys_.problem(fmt::format("{}: the {} {} is no UTF-8 text; rename it, or the folder of the spec",
                                       loaded_.file.string(), what, path));
  }

  /// A key that nobody reads would be believed.
  void refuse_foreign_keys() {
    const auto& own = loaded_.spec.program;
    for (const auto& section : spec_sections()) {
      std::vector<std::string_view> valid;
      for (const auto& key : section.keys)
        if (is_of(key, own))
          valid.push_back(key.name);
      for (const auto& key : section.keys)
        if (const auto path = path_of(section.name, key.name); !is_of(key, own) && keys_.was_written(path))
          keys_.problem(loaded_.written.at(path),
                        fmt::format("{} is a key of program {}; this spec's is {}{} [own-keys]", path, key.program, own,
                                    valid.empty() ? std::string{} : nearest_hint(key.name, valid)));
    }
  }

  void read_rules() {
    refuse_foreign_keys();
    for (const auto& broken : validate_spec(loaded_.spec))
      keys_.problem(fmt::format("{}: {} [{}]", loaded_.where(broken.key), broken.text, broken.rule));
  }

  loaded_spec loaded_;
  key_reader keys_;
};

template <class Owner>
nlohmann::ordered_json values_of(const Owner& owner, const std::vector<spec_key<Owner>>& keys,
                                 std::string_view program) {
  auto values = nlohmann::ordered_json::object();
  for (const auto& key : keys)
    if (is_of(key, program))
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
  const auto text = read_document(file);
  if (!text)
    return fail(fault::config_invalid,
                fmt::format("cannot read {}: {}", base::one_line(file.string()), text.error().what));
  return read_spec_text(*text, file);
}

result<cluster_spec> parse_effective_spec(std::string_view json) {
  return read_spec_text(json, "/effective spec").map([](auto&& loaded) { return std::move(loaded.spec); });
}

std::string effective_json(const cluster_spec& spec) {
  auto json = nlohmann::ordered_json::object();
  for (const auto& section : spec_sections()) {
    if (!is_of(section, spec))
      continue;
    const auto values = values_of(spec, section.keys, spec.program);
    if (section.name.empty())
      json.update(values);
    else
      json[std::string{section.name}] = values;
  }
  auto& pools = json["pools"] = nlohmann::ordered_json::object();
  for (const auto& pool : spec.pools)
    pools[pool.name] = values_of(pool, pool_keys(), spec.program);
  return text_of(json, 2);
}

std::string digest_of(std::string_view effective_json) {
  return base::hex(base::digest(std::as_bytes(std::span{effective_json})));
}

} // namespace troupe::cluster
